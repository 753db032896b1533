// Memory accesses: converts the lanes' addresses to host pointers, with all checks and counters.
#pragma once

#include "execution/block.hpp"

namespace emu {

enum class Access : std::uint8_t { kLoad, kStore, kAtomic };

/// "read", "write" or "atomic access".
const char* verb(Access access);

/// Addresses of all lanes: operand `operand` plus op.offset.
void addresses_of(const Warp& w, const Op& op, int operand, std::uint64_t* addresses);

/// Accesses `bytes` bytes (1 to 16) at the address of each lane of the mask, in any state space. Writes host pointers to `to` and returns
/// the lanes whose access is legal.
Mask access_memory(Warp& w, const Op& op, Mask mask, Space space, const std::uint64_t* addresses, int bytes, Access access,
                   std::uint8_t** to);
/// The same for one state space.
Mask access_global(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to);
Mask access_shared(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to);

/// Completes the cp.async copies of the lanes in `mask` whose group is below the lane's entry in `finished`.
void finish_copies(Warp& w, Mask mask, const std::array<std::int32_t, kLanes>& finished);

}  // namespace emu
