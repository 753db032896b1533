// Instructions that exchange values between the lanes of a warp: shuffles, votes, reductions.
#include <algorithm>

#include "instructions/operands.hpp"
#include "instructions/tables.hpp"
#include "report.hpp"

namespace emu {
namespace {

/// Reports a member mask (operand `operand`) whose live lanes do not execute the instruction together.
void check_members(Warp& w, const Op& op, Mask mask, int operand) {
  const Mask members = w.row<std::uint32_t>(op.o[operand])[first_lane(mask)];
  if (!options().sync) return;
  if ((members & w.alive) != mask)
    report(w, op, first_lane(mask), "warp divergence",
           "the member mask is " + hex(members) + "; lanes " + hex(mask) + " execute the instruction, lanes " + hex(w.alive) +
               " have not exited");
}

// --- shfl.sync d|p, a, b, c, membermask ---

enum Shuffle : std::uint8_t { kUp, kDown, kButterfly, kIndex };

void shfl(Warp& w, const Op& op, Mask mask) {
  const int n = op.writes;
  std::uint32_t a[kLanes], b[kLanes], c[kLanes];  // copies: the destination may be one of them
  std::memcpy(a, w.row<std::uint32_t>(op.o[n]), sizeof a);
  std::memcpy(b, w.row<std::uint32_t>(op.o[n + 1]), sizeof b);
  std::memcpy(c, w.row<std::uint32_t>(op.o[n + 2]), sizeof c);
  check_members(w, op, mask, n + 3);
  Mask valid = 0;
  auto* d = w.row<std::uint32_t>(op.o[0]);
  for_lanes(mask, [&](int lane) {
    // c holds the clamp (bits 0 to 4) and the segment mask (bits 8 to 12).
    const int clamp = static_cast<int>(c[lane] & 31), segment = static_cast<int>(c[lane] >> 8 & 31), by = static_cast<int>(b[lane] & 31);
    const int limit = (lane & segment) | (clamp & ~segment), first = lane & segment;
    int from = lane;
    switch (op.variant) {
      case kUp:
        from = lane - by;
        break;
      case kDown:
        from = lane + by;
        break;
      case kButterfly:
        from = lane ^ by;
        break;
      case kIndex:
        from = first | (by & ~segment);
        break;
    }
    if (op.variant == kUp ? from >= limit : from <= limit)
      valid |= 1u << lane;
    else
      from = lane;
    if (options().sync && !(mask >> from & 1))
      report(w, op, lane, "warp divergence", "reads lane " + std::to_string(from) + ", which does not execute the instruction");
    d[lane] = a[from & 31];
  });
  if (n > 1) write_predicate(w, op.o[1], mask, valid);
}
void decode_shfl(Decoder& d) {
  if (!d.take("sync")) d.fail("is not emulated without .sync");
  d.op.variant = static_cast<std::uint8_t>(d.take_one({"up", "down", "bfly", "idx"}));
  d.take_type();
  d.expect_operands(5);
  d.write(d.s.operands[0], Type::kB32);
  if (!d.s.operands[0].parts.empty()) d.write_predicate(d.s.operands[0].parts[0]);
  for (std::size_t i = 1; i <= 4; ++i) d.read(d.s.operands[i], Type::kB32);
  d.op.cls = Class::kWarp;
  d.op.run = shfl;
}

// --- vote.sync ---

enum Vote : std::uint8_t { kAll, kAny, kUni, kBallot };

void vote(Warp& w, const Op& op, Mask mask) {
  check_members(w, op, mask, 2);
  const Mask p = (w.predicate(op.o[1]) ^ (op.flags ? kAllLanes : 0)) & mask;
  if (op.variant == kBallot) {
    each(mask, w.row<std::uint32_t>(op.o[0]), [=](int) { return p; });
    return;
  }
  const bool result = op.variant == kAll ? p == mask : op.variant == kAny ? p != 0 : p == 0 || p == mask;
  write_predicate(w, op.o[0], mask, result ? kAllLanes : 0);
}
void decode_vote(Decoder& d) {
  if (!d.take("sync")) d.fail("is not emulated without .sync");
  d.op.variant = static_cast<std::uint8_t>(d.take_one({"all", "any", "uni", "ballot"}));
  d.take_type();
  d.expect_operands(3);
  if (d.op.variant == kBallot)
    d.write(d.s.operands[0], Type::kB32);
  else
    d.write_predicate(d.s.operands[0]);
  d.read_predicate(d.s.operands[1]);
  d.op.flags = d.negated != 0;
  d.read(d.s.operands[2], Type::kB32);
  d.op.cls = Class::kWarp;
  d.op.run = vote;
}

void activemask(Warp& w, const Op& op, Mask mask) {
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int) { return mask; });
}
void decode_activemask(Decoder& d) {
  d.take_type();
  d.expect_operands(1);
  d.write(d.s.operands[0], Type::kB32);
  d.op.run = activemask;
  d.op.cls = Class::kWarp;
}

/// match.any: returns the mask of lanes with the same value.
void match_any(Warp& w, const Op& op, Mask mask) {
  check_members(w, op, mask, 2);
  std::uint64_t a[kLanes];
  for (int i = 0; i < kLanes; ++i) a[i] = wide_value(w, op, 1, i);
  for_lanes(mask, [&](int i) {
    Mask same = 0;
    for_lanes(mask, [&](int j) { same |= static_cast<Mask>(a[i] == a[j]) << j; });
    w.row<std::uint32_t>(op.o[0])[i] = same;
  });
}
void decode_match(Decoder& d) {
  if (!d.take("any") || !d.take("sync")) d.fail("only match.any.sync is emulated");
  const Type t = d.take_type();
  operands(d, Type::kB32, {t, Type::kB32});
  d.op.cls = Class::kWarp;
  d.op.run = match_any;
}

// --- redux.sync: a reduction of integers ---

enum Reduction : std::uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

std::uint32_t reduce(const Op& op, std::uint32_t a, std::uint32_t b) {
  const auto signed_a = static_cast<std::int32_t>(a), signed_b = static_cast<std::int32_t>(b);
  switch (op.variant) {
    case kAdd:
      return a + b;
    case kMin:
      return is_signed(op.type) ? static_cast<std::uint32_t>(std::min(signed_a, signed_b)) : std::min(a, b);
    case kMax:
      return is_signed(op.type) ? static_cast<std::uint32_t>(std::max(signed_a, signed_b)) : std::max(a, b);
    case kAnd:
      return a & b;
    case kOr:
      return a | b;
    default:
      return a ^ b;
  }
}
void redux(Warp& w, const Op& op, Mask mask) {
  check_members(w, op, mask, 2);
  const auto* a = w.row<std::uint32_t>(op.o[1]);
  std::uint32_t result = a[first_lane(mask)];
  for_lanes(mask & (mask - 1), [&](int i) { result = reduce(op, result, a[i]); });
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int) { return result; });
}
void decode_redux(Decoder& d) {
  d.take("sync");
  d.op.variant = static_cast<std::uint8_t>(d.take_one({"add", "min", "max", "and", "or", "xor"}));
  d.op.type = d.take_type();
  if (is_float(d.op.type)) d.fail("this type is not emulated");
  operands(d, Type::kB32, {Type::kB32, Type::kB32});
  d.op.cls = Class::kWarp;
  d.op.run = redux;
}

/// elect.sync d|p, membermask: the lowest lane is the leader.
void elect(Warp& w, const Op& op, Mask mask) {
  check_members(w, op, mask, 2);
  const int leader = first_lane(mask);
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int) { return static_cast<std::uint32_t>(leader); });
  write_predicate(w, op.o[1], mask, 1u << leader);
}
void decode_elect(Decoder& d) {
  d.take("sync");
  d.expect_operands(2);
  if (d.s.operands[0].parts.empty()) d.fail("has no predicate to write");
  d.write(d.s.operands[0], Type::kB32);
  d.write_predicate(d.s.operands[0].parts[0]);
  d.read(d.s.operands[1], Type::kB32);
  d.op.cls = Class::kWarp;
  d.op.run = elect;
}

}  // namespace

void add_warp(InstructionTable& t) {
  t["shfl"] = decode_shfl;
  t["vote"] = decode_vote;
  t["activemask"] = decode_activemask;
  t["match"] = decode_match;
  t["redux"] = decode_redux;
  t["elect"] = decode_elect;
}

}  // namespace emu
