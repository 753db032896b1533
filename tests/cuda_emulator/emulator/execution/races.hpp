// Race detection: between threads on shared memory, between blocks and between streams on global memory.
#pragma once

#include "execution/memory_access.hpp"

namespace emu {

/// Records an access of one lane to global memory. Reports a conflicting access by another block of the launch, or by work that is not
/// ordered with the launch.
void check_global_race(Warp& w, const Op& op, int lane, Device& device, std::uint64_t address, int bytes, Access access);

/// The same for a copy, memset or collective on device memory.
void check_copy_race(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access);

/// Records an access of one lane to a word of shared memory: `touched` has a bit for each byte. Reports accesses to bytes that have not
/// been written, that a cp.async is in flight to, or that another thread accesses without a barrier in between.
void check_shared_word(Warp& w, const Op& op, int lane, std::uint32_t index, std::uint32_t touched, Access access, const char* how);

/// Records a load or a store of whole words by one lane. False: check_shared_word() has to look at the word. This is the common case of
/// an access that is ordered after all earlier writes (and reads) of any thread.
bool quick_shared_read(Warp& w, std::uint32_t index, std::uint32_t lane);
bool quick_shared_write(Warp& w, std::uint32_t index, int lane);

constexpr std::uint32_t kManyLanes = 32;  // in Block::reads: several lanes of the warp

}  // namespace emu
