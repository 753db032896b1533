// Access of copies, memsets and collectives to device memory.
#pragma once

#include <cstdint>
#include <string>

#include "execution/memory_access.hpp"

namespace emu {

/// The host's pointer to device memory, after checks of bounds and of races with unordered work; null, after a report, if the access is
/// illegal. A store marks the bytes as written. `name` is for messages.
std::uint8_t* access_device(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access);

/// The first byte of the range that has never been written, as an offset; `bytes`: none.
std::uint64_t first_unwritten(std::uint64_t address, std::uint64_t bytes);

}  // namespace emu
