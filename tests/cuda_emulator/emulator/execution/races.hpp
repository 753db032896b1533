// Race detection: between threads in shared memory, between blocks and between streams in global memory.
#pragma once

#include "execution/memory_access.hpp"

namespace emu {

/// Records an access of one lane to global memory. Reports a conflicting access by another block of the launch or by unordered work.
void check_global_race(Warp& w, const Op& op, int lane, Device& device, std::uint64_t address, int bytes, Access access);

/// The same for a copy, memset or collective on device memory.
void check_copy_race(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access);

/// Records an access of one lane to a word of shared memory: `touched` has a bit for each byte. Reports a read of bytes that have not been
/// written, an access to bytes that a pending cp.async writes, and a race with another thread.
void check_shared_word(Warp& w, const Op& op, int lane, std::uint32_t index, std::uint32_t touched, Access access, const char* how);

/// Fast paths for one lane's access to a whole word: record it if it is ordered after all earlier writes (a store: and reads) of all
/// threads. False: check_shared_word() must be called.
bool quick_shared_read(Warp& w, std::uint32_t index, std::uint32_t lane);
bool quick_shared_write(Warp& w, std::uint32_t index, int lane);

constexpr std::uint32_t kManyLanes = 32;  // in Block::reads: several lanes of the warp

}  // namespace emu
