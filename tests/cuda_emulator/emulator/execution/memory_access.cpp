#include "execution/memory_access.hpp"

#include <algorithm>
#include <cstring>

#include "execution/access_counters.hpp"
#include "execution/races.hpp"
#include "report.hpp"

namespace emu {
namespace {

/// Reports misaligned addresses and removes their lanes from the mask.
void check_alignment(Warp& w, const Op& op, Mask& mask, const std::uint64_t* addresses, int bytes, const char* space) {
  const auto low = static_cast<std::uint64_t>(bytes - 1);
  std::uint64_t any = 0;
  for_lanes(mask, [&](int i) { any |= addresses[i]; });
  if ((any & low) == 0) return;
  for_lanes(mask, [&](int i) {
    if ((addresses[i] & low) == 0) return;
    report(w, op, i, "misaligned address",
           std::string("a ") + space + " access of " + std::to_string(bytes) + " bytes at " + hex(addresses[i]));
    mask &= ~(1u << i);
  });
}

/// The allocation that contains the bytes. Reports an illegal access and returns null.
Allocation* find_allocation(Warp& w, const Op& op, int lane, std::uint64_t address, std::uint64_t bytes, Access access) {
  const Device& here = *w.block->launch->device;
  const int owner = device_of(address);
  const auto what = [&] {
    return std::string(verb(access)) + " of " + std::to_string(bytes) + " bytes of global memory at " + hex(address) + ": ";
  };
  if (owner < 0 || !is_device(owner)) {
    report(w, op, lane, "out of bounds", what() + "not device memory");
    return nullptr;
  }
  if (owner != here.index && !(here.peers >> owner & 1)) {
    report(w, op, lane, "access to another device",
           what() + "memory of device " + std::to_string(owner) + "; device " + std::to_string(here.index) + " has no peer access to it");
    return nullptr;
  }
  Allocation* found = device(owner).find(address);
  if (found == nullptr || found->freed || address + bytes > found->end()) {
    report(w, op, lane, found && found->freed ? "use after free" : "out of bounds",
           what() + device(owner).describe(found ? address + bytes - 1 : address));
    return nullptr;
  }
  return found;
}

void check_initialised(Warp& w, const Op& op, int lane, Device& owner, Allocation& a, std::uint64_t address, int bytes, Access access) {
  std::uint8_t* init = owner.init_of(address);
  if (access == Access::kStore) {
    for (int k = 0; k < bytes; ++k) a.written += !init[k];
    std::memset(init, 1, static_cast<std::size_t>(bytes));
    return;
  }
  if (!options().initialised) return;
  for (int k = 0; k < bytes; ++k)
    if (!init[k])
      return report(w, op, lane, "uninitialised memory",
                    std::string(verb(access)) + " of " + hex(address + static_cast<std::uint64_t>(k)) + ", " + owner.describe(address) +
                        ", which has never been written");
}

/// Fast path for a load of whole words with few distinct addresses: checks each address once. False: the full check is needed.
bool check_broadcast(Warp& w, Mask mask, const std::uint64_t* addresses, int bytes) {
  constexpr int kMost = 8;
  std::uint64_t distinct[kMost];
  std::uint32_t lanes[kMost];
  int n = 0;
  for (Mask rest = mask; rest; rest &= rest - 1) {
    const int i = first_lane(rest);
    int k = n - 1;
    while (k >= 0 && distinct[k] != addresses[i]) --k;
    if (k >= 0) {
      lanes[k] = kManyLanes;
      continue;
    }
    if (n == kMost) return false;
    distinct[n] = addresses[i], lanes[n++] = static_cast<std::uint32_t>(i);
  }
  bool all = true;
  for (int k = 0; k < n; ++k)
    for (int at = 0; at < bytes; at += 4)
      all = quick_shared_read(w, static_cast<std::uint32_t>(distinct[k] + static_cast<std::uint64_t>(at)) / 4, lanes[k]) && all;
  return all;
}

void check_shared(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access) {
  if (access == Access::kLoad && bytes >= 4 && check_broadcast(w, mask, addresses, bytes)) return;
  for_lanes(mask, [&](int i) {
    const auto word = static_cast<std::uint32_t>(addresses[i] / 4);
    if (bytes < 4) return check_shared_word(w, op, i, word, ((1u << bytes) - 1) << (addresses[i] & 3), access, verb(access));
    for (std::uint32_t k = 0; k < static_cast<std::uint32_t>(bytes) / 4; ++k) {
      if (access == Access::kLoad && quick_shared_read(w, word + k, static_cast<std::uint32_t>(i))) continue;
      if (access == Access::kStore && quick_shared_write(w, word + k, i)) continue;
      check_shared_word(w, op, i, word + k, 0xf, access, verb(access));
    }
  });
}

Mask access_local(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to) {
  check_alignment(w, op, mask, addresses, bytes, "local");
  const std::uint32_t size = w.block->launch->program->local_bytes;
  for_lanes(mask, [&](int i) {
    if (addresses[i] < kFirstLocal || addresses[i] + static_cast<std::uint64_t>(bytes) > kFirstLocal + std::uint64_t{size}) {
      report(w, op, i, "out of bounds",
             std::string(verb(access)) + " of local memory at byte " +
                 std::to_string(static_cast<std::int64_t>(addresses[i]) - kFirstLocal) + "; a thread has " + std::to_string(size) +
                 " bytes");
      mask &= ~(1u << i);
      return;
    }
    to[i] = w.local.data() + static_cast<std::size_t>(i) * size + (addresses[i] - kFirstLocal);
  });
  return mask;
}

Mask access_parameters(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to) {
  auto& parameters = const_cast<std::vector<std::uint8_t>&>(w.block->launch->parameters);
  for_lanes(mask, [&](int i) {
    if (access != Access::kLoad || addresses[i] + static_cast<std::uint64_t>(bytes) > parameters.size()) {
      report(w, op, i, "out of bounds", std::string(verb(access)) + " of parameters at byte " + std::to_string(addresses[i]));
      mask &= ~(1u << i);
      return;
    }
    to[i] = parameters.data() + addresses[i];
  });
  return mask;
}

/// Lanes may access different state spaces.
Mask access_generic(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to) {
  std::uint64_t offsets[kLanes];
  for (int i = 0; i < kLanes; ++i) offsets[i] = addresses[i] & ~kWindowMask;
  Mask legal = 0;
  for (Mask rest = mask; rest;) {
    const std::uint64_t window = addresses[first_lane(rest)] & kWindowMask;
    Mask here = 0;
    for_lanes(rest, [&](int i) {
      if ((addresses[i] & kWindowMask) == window) here |= 1u << i;
    });
    if (window == kSharedWindow)
      legal |= access_shared(w, op, here, offsets, bytes, access, to);
    else if (window == kLocalWindow)
      legal |= access_local(w, op, here, offsets, bytes, access, to);
    else if (window == kParamWindow)
      legal |= access_parameters(w, op, here, offsets, bytes, access, to);
    else
      legal |= access_global(w, op, here, addresses, bytes, access, to);
    rest &= ~here;
  }
  return legal;
}

void complete(Warp& w, const AsyncCopy& copy) {
  Block& b = *w.block;
  const std::uint32_t first = copy.to / 4, last = (copy.to + copy.bytes) / 4u;
  for (std::uint32_t word = first; word < last; ++word)
    if (b.words[word].block == b.generation && b.words[word].pending) --b.words[word].pending;
  std::uint8_t* to = b.shared.data() + copy.to;
  std::memset(to, 0, copy.bytes);
  std::memcpy(to, device(device_of(copy.from)).host(copy.from), copy.source_bytes);
  if (!options().race && !options().initialised) return;
  const Op& op = b.launch->program->ops[copy.op];
  for (std::uint32_t word = first; word < last; ++word) check_shared_word(w, op, copy.lane, word, 0xf, Access::kStore, "write by cp.async");
}

}  // namespace

const char* verb(Access a) { return a == Access::kLoad ? "read" : a == Access::kStore ? "write" : "atomic access"; }

void addresses_of(const Warp& w, const Op& op, int operand, std::uint64_t* addresses) {
  const auto offset = static_cast<std::uint64_t>(op.offset);
  if (op.wide >> operand & 1) {
    const auto* a = w.row<std::uint64_t>(op.o[operand]);
    for (int i = 0; i < kLanes; ++i) addresses[i] = a[i] + offset;
  } else {
    const auto* a = w.row<std::uint32_t>(op.o[operand]);
    for (int i = 0; i < kLanes; ++i) addresses[i] = a[i] + static_cast<std::uint32_t>(offset);
  }
}

Mask access_global(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to) {
  if (OpCount* c = count_of(w, op)) count_sectors(*c, mask, addresses, bytes);
  check_alignment(w, op, mask, addresses, bytes, "global");
  // Caches the last allocation: most accesses of a launch are to few allocations.
  static thread_local Allocation* last = nullptr;
  static thread_local std::uint32_t last_work = 0;
  if (last_work != w.block->launch->work.number) last = nullptr, last_work = w.block->launch->work.number;
  Device& here = *w.block->launch->device;
  const auto size = static_cast<std::uint64_t>(bytes);
  for_lanes(mask, [&](int i) {
    const std::uint64_t a = addresses[i];
    if (last == nullptr || a < last->begin || a + size > last->end()) {
      Allocation* found = find_allocation(w, op, i, a, size, access);
      if (found == nullptr) {
        mask &= ~(1u << i);
        return;
      }
      last = found;
    }
    Device& owner = a >= here.base && a < here.base + kDeviceSpan ? here : device(device_of(a));
    to[i] = owner.host(a);
    if (last->written < last->bytes) check_initialised(w, op, i, owner, *last, a, bytes, access);
    if (options().race || options().streams) check_global_race(w, op, i, owner, a, bytes, access);
  });
  return mask;
}

Mask access_shared(Warp& w, const Op& op, Mask mask, const std::uint64_t* addresses, int bytes, Access access, std::uint8_t** to) {
  if (OpCount* c = count_of(w, op)) count_wavefronts(*c, mask, addresses, bytes);
  check_alignment(w, op, mask, addresses, bytes, "shared");
  Block& b = *w.block;
  for_lanes(mask, [&](int i) {
    const std::uint64_t a = addresses[i];
    if (a < kFirstShared || a + static_cast<std::uint64_t>(bytes) > b.shared_end) {
      report(w, op, i, "out of bounds",
             std::string(verb(access)) + " of " + std::to_string(bytes) + " bytes of shared memory at byte " +
                 std::to_string(static_cast<std::int64_t>(a) - kFirstShared) + "; the block has " +
                 std::to_string(b.shared_end - kFirstShared) + " bytes");
      mask &= ~(1u << i);
      return;
    }
    to[i] = b.shared.data() + a;
  });
  if (options().race || options().initialised) check_shared(w, op, mask, addresses, bytes, access);
  return mask;
}

Mask access_memory(Warp& w, const Op& op, Mask mask, Space space, const std::uint64_t* addresses, int bytes, Access access,
                   std::uint8_t** to) {
  switch (space) {
    case Space::kGlobal:
    case Space::kConst:
      return access_global(w, op, mask, addresses, bytes, access, to);
    case Space::kShared:
      return access_shared(w, op, mask, addresses, bytes, access, to);
    case Space::kLocal:
      return access_local(w, op, mask, addresses, bytes, access, to);
    case Space::kParam:
      return access_parameters(w, op, mask, addresses, bytes, access, to);
    case Space::kGeneric:
      return access_generic(w, op, mask, addresses, bytes, access, to);
  }
  return 0;
}

void finish_copies(Warp& w, Mask mask, const std::array<std::int32_t, kLanes>& finished) {
  std::size_t kept = 0;
  for (std::size_t k = 0; k < w.copies.size(); ++k) {
    const AsyncCopy copy = w.copies[k];
    const std::int32_t limit = mask >> copy.lane & 1 ? finished[copy.lane] : -1;
    const bool done = limit == kAllGroups || (copy.group >= 0 && copy.group < limit);
    if (done)
      complete(w, copy);
    else
      w.copies[kept++] = copy;
  }
  w.copies.resize(kept);
}

}  // namespace emu
