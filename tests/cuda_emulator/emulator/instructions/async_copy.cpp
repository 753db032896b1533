// cp.async (PTX ISA, "Data Movement and Conversion Instructions: Asynchronous copy", the non-bulk form).
//
// The data arrives as late as the ISA allows, at the wait that covers the copy. Until then the destination is marked as pending.
#include <algorithm>

#include "execution/memory_access.hpp"
#include "instructions/memory_modifiers.hpp"
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"
#include "report.hpp"

namespace emu {
namespace {

// op.flags of a copy
constexpr std::uint8_t kGenericTarget = 1;  // the shared address is generic
constexpr std::uint8_t kSourceSize = 2;     // the operand src-size is present
// op.flags of a wait
constexpr std::uint8_t kWaitAll = 1;

struct Copy {
  std::uint64_t to[kLanes], from[kLanes];
  std::uint32_t source_bytes[kLanes];
};

/// Checks the reads of the source and returns the lanes whose reads are legal. A lane that reads fewer bytes than it writes is checked and
/// counted byte by byte; a lane that reads none does not touch its source.
Mask check_source(Warp& w, const Op& op, Mask mask, const Copy& copy) {
  std::uint8_t* pointer[kLanes];
  Mask whole = 0, legal = 0;
  for_lanes(mask, [&](int i) { whole |= copy.source_bytes[i] == op.bytes ? 1u << i : 0; });
  if (whole) legal = access_global(w, op, whole, copy.from, op.bytes, Access::kLoad, pointer);
  for_lanes(mask & ~whole, [&](int i) {
    bool fine = true;
    for (std::uint32_t k = 0; k < copy.source_bytes[i]; ++k) {
      std::uint64_t addresses[kLanes] = {};
      addresses[i] = copy.from[i] + k;
      fine = fine && access_global(w, op, 1u << i, addresses, 1, Access::kLoad, pointer);
    }
    if (fine) legal |= 1u << i;
  });
  return legal;
}

void start(Warp& w, const Op& op, int lane, const Copy& copy) {
  Block& b = *w.block;
  const std::uint64_t to = copy.to[lane];
  const std::string what =
      "cp.async of " + std::to_string(op.bytes) + " bytes to shared byte " + std::to_string(static_cast<std::int64_t>(to) - kFirstShared);
  if (to % op.bytes) return report(w, op, lane, "misaligned address", what);
  if (to < kFirstShared || to + op.bytes > b.shared_end)
    return report(w, op, lane, "out of bounds", what + "; the block has " + std::to_string(b.shared_end - kFirstShared) + " bytes");
  const std::uint64_t source = copy.source_bytes[lane] ? copy.from[lane] : devices()[0]->base;
  w.copies.push_back({source, static_cast<std::uint32_t>(to), static_cast<std::uint8_t>(lane), op.bytes,
                      static_cast<std::uint8_t>(copy.source_bytes[lane]), -1, op.number});
  for (std::uint64_t word = to / 4; word < (to + op.bytes) / 4; ++word) ++b.word_state(static_cast<std::uint32_t>(word)).pending;
}

void copy_async(Warp& w, const Op& op, Mask mask) {
  Copy copy;
  const auto source_offset = *w.row<std::uint64_t>(op.o[op.reads - 1]);  // the last operand, a constant
  addresses_of(w, op, 0, copy.to);
  for (int i = 0; i < kLanes; ++i) {
    if (op.flags & kGenericTarget) copy.to[i] &= ~kWindowMask;
    copy.from[i] = w.row<std::uint64_t>(op.o[1])[i] + source_offset;
    copy.source_bytes[i] = op.flags & kSourceSize ? std::min<std::uint32_t>(op.bytes, w.row<std::uint32_t>(op.o[2])[i]) : op.bytes;
  }
  const Mask legal = check_source(w, op, mask, copy);
  for_lanes(legal, [&](int i) { start(w, op, i, copy); });
}

void commit(Warp& w, const Op&, Mask mask) {
  for (auto& copy : w.copies)
    if ((mask >> copy.lane & 1) && copy.group < 0) copy.group = w.committed[copy.lane];
  for_lanes(mask, [&](int i) { ++w.committed[static_cast<std::size_t>(i)]; });
}
/// Waits until at most op.variant of a lane's latest groups are pending.
void wait(Warp& w, const Op& op, Mask mask) {
  std::array<std::int32_t, kLanes> finished{};
  for_lanes(mask, [&](int i) {
    const auto lane = static_cast<std::size_t>(i);
    finished[lane] = op.flags & kWaitAll ? kAllGroups : w.committed[lane] - static_cast<std::int32_t>(op.variant);
  });
  finish_copies(w, mask, finished);
}

void decode_cp(Decoder& d) {
  if (!d.take("async")) d.fail("is not emulated");
  d.op.cls = Class::kAsyncCopy;
  if (d.take("commit_group")) {
    d.op.run = commit;
    return;
  }
  if (d.take("wait_group")) {
    d.expect_operands(1);
    d.op.variant = static_cast<std::uint8_t>(d.s.operands[0].bits);
    d.op.run = wait;
    return;
  }
  if (d.take("wait_all")) {
    d.op.flags = kWaitAll;
    d.op.run = wait;
    return;
  }
  const bool bypass = d.take_one({"cg", "ca"}) == 0;
  if (d.take_one({"shared", "shared::cta"}) < 0 || !d.take("global")) d.fail("this form is not emulated");
  take_hints(d);
  const auto& o = d.s.operands;
  if (o.size() < 3 || o.size() > 4) d.fail("has " + std::to_string(o.size()) + " operands; expected 3 or 4");
  d.address(o[0]);
  if (d.op.wide & 1) d.op.flags |= kGenericTarget;
  const std::int64_t target_offset = d.op.offset;
  d.address(o[1]);
  const std::int64_t source_offset = d.op.offset;
  d.op.offset = target_offset;
  d.op.bytes = static_cast<std::uint8_t>(o[2].bits);
  if (d.op.bytes != 16 && (bypass || (d.op.bytes != 4 && d.op.bytes != 8))) d.fail("cannot copy " + std::to_string(d.op.bytes) + " bytes");
  if (o.size() > 3) {
    d.read(o[3], Type::kU32);
    d.op.flags |= kSourceSize;
  }
  d.read_value(static_cast<std::uint64_t>(source_offset), true);
  d.op.run = copy_async;
}

}  // namespace

void add_async_copy(InstructionTable& t) { t["cp"] = decode_cp; }

}  // namespace emu
