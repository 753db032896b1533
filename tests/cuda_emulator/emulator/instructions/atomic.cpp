// atom and red (PTX ISA, "Parallel Synchronization and Communication Instructions").
#include <algorithm>
#include <cstring>

#include "execution/memory_access.hpp"
#include "instructions/memory_modifiers.hpp"
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

enum Atomic : std::uint8_t { kAnd, kOr, kXor, kExch, kAdd, kInc, kDec, kMin, kMax, kCas };

template <class U>
U sum(Type t, U a, U b) {
  if (t == Type::kF32) {
    const float total = get<float>(static_cast<std::uint32_t>(a)) + get<float>(static_cast<std::uint32_t>(b));
    return put<float>(total);
  }
  if constexpr (sizeof(U) == 8)
    if (t == Type::kF64) return put<double>(get<double>(a) + get<double>(b));
  if (t == Type::kF16x2 || t == Type::kBF16x2) {
    std::uint32_t result = 0;
    for (int shift : {0, 16}) {
      const auto x = static_cast<std::uint32_t>(a) >> shift & 0xffff, y = static_cast<std::uint32_t>(b) >> shift & 0xffff;
      result |= (t == Type::kF16x2 ? half_bits<false>(half_value<false>(x) + half_value<false>(y))
                                   : half_bits<true>(half_value<true>(x) + half_value<true>(y)))
                << shift;
    }
    return result;
  }
  return a + b;
}

template <class U>
U updated(const Op& op, U old, U b, U c) {
  using S = std::make_signed_t<U>;
  switch (op.variant) {
    case kAnd:
      return old & b;
    case kOr:
      return old | b;
    case kXor:
      return old ^ b;
    case kExch:
      return b;
    case kInc:
      return old >= b ? 0 : old + 1;
    case kDec:
      return old == 0 || old > b ? b : old - 1;
    case kMin:
      return is_signed(op.type) ? static_cast<U>(std::min(static_cast<S>(old), static_cast<S>(b))) : std::min(old, b);
    case kMax:
      return is_signed(op.type) ? static_cast<U>(std::max(static_cast<S>(old), static_cast<S>(b))) : std::max(old, b);
    case kCas:
      return old == b ? c : old;
    default:
      return sum(op.type, old, b);
  }
}

/// The lanes update memory in an order that depends on the seed.
template <class U>
void atomic(Warp& w, const Op& op, Mask mask) {
  std::uint64_t addresses[kLanes];
  std::uint8_t* at[kLanes];
  const int first = op.writes;
  addresses_of(w, op, first, addresses);
  mask = access_memory(w, op, mask, op.space, addresses, sizeof(U), Access::kAtomic, at);
  const int order = static_cast<int>(w.block->random() & 31);
  for (int k = 0; k < kLanes; ++k) {
    const int i = k ^ order;
    if (!(mask >> i & 1)) continue;
    U old;
    std::memcpy(&old, at[i], sizeof old);
    const U b = w.row<U>(op.o[first + 1])[i], c = op.reads > 2 ? w.row<U>(op.o[first + 2])[i] : 0;
    const U now = updated<U>(op, old, b, c);
    std::memcpy(at[i], &now, sizeof now);
    if (op.writes) w.row<U>(op.o[0])[i] = old;
  }
}

void decode(Decoder& d, bool returns) {
  take_hints(d);
  d.op.space = take_space(d);
  take_hints(d);
  const int what = d.take_one({"and", "or", "xor", "exch", "add", "inc", "dec", "min", "max", "cas"});
  d.take("noftz");
  take_hints(d);
  const Type t = d.op.type = d.take_type();
  if (what < 0 || (bytes_of(t) != 4 && bytes_of(t) != 8)) d.fail("this form is not emulated");
  if (is_float(t) && what != kAdd && what != kExch) d.fail("this operation is not emulated for floats");
  d.op.variant = static_cast<std::uint8_t>(what);
  d.expect_operands((returns ? 1u : 0u) + (what == kCas ? 3u : 2u));
  std::size_t i = 0;
  if (returns) d.write(d.s.operands[i++], t);
  d.address(d.s.operands[i++]);
  for (; i < d.s.operands.size(); ++i) d.read(d.s.operands[i], t);
  d.op.cls = Class::kAtomic;
  d.op.run = bytes_of(t) == 8 ? atomic<std::uint64_t> : atomic<std::uint32_t>;
}

}  // namespace

void add_atomic(InstructionTable& t) {
  t["atom"] = [](Decoder& d) { decode(d, true); };
  t["red"] = [](Decoder& d) { decode(d, false); };
}

}  // namespace emu
