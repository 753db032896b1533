// Access to device memory by copies, memsets and collectives.
#pragma once

#include <cstdint>
#include <string>

#include "execution/memory_access.hpp"

namespace emu {

/// Checks bounds and races with unordered work, and returns the host pointer to the device memory. Reports an illegal access and returns
/// null. A store marks the bytes as written. `name` is for messages.
std::uint8_t* access_device(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access);

/// Offset of the first byte of the range that has never been written; `bytes`: none.
std::uint64_t first_unwritten(std::uint64_t address, std::uint64_t bytes);

}  // namespace emu
