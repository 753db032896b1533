// cvt (PTX ISA, "Data Movement and Conversion Instructions: cvt").
#include <algorithm>
#include <cmath>

#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

// op.variant is the rounding mode (take_rounding). Bits of op.flags:
constexpr std::uint8_t kSaturate = 1;
constexpr std::uint8_t kToInteger = 2;  // .rni, .rzi, .rmi, .rpi
constexpr std::uint8_t kFtz = 4;
constexpr std::uint8_t kAwayFromZero = 8;  // .rna
constexpr std::uint8_t kRelu = 16;

double round_to_integer(double v, int rounding) {
  switch (rounding) {
    case 0:
      return std::nearbyint(v);
    case 1:
      return std::trunc(v);
    case 2:
      return std::floor(v);
    default:
      return std::ceil(v);
  }
}

/// The low bits of `v`, sign- or zero-extended to 64 bits.
std::uint64_t extended(std::uint64_t v, Type t) {
  const int bits = 8 * bytes_of(t);
  if (bits == 64) return v;
  v &= (1ull << bits) - 1;
  return is_signed(t) && v >> (bits - 1) & 1 ? v | ~((1ull << bits) - 1) : v;
}

double float_value(std::uint64_t raw, Type t, bool ftz) {
  const auto low = static_cast<std::uint32_t>(raw);
  switch (t) {
    case Type::kF64:
      return get<double>(raw);
    case Type::kF32:
      return ftz ? flush(get<float>(low)) : get<float>(low);
    case Type::kF16:
      return half_value<false>(low & 0xffff);
    default:
      return half_value<true>(low & 0xffff);
  }
}

std::uint64_t float_to_float(double v, const Op& op) {
  if (op.flags & kToInteger) v = round_to_integer(v, op.variant);
  if (op.flags & kSaturate) v = v > 0.0 ? (v < 1.0 ? v : 1.0) : 0.0;
  if (op.flags & kRelu) v = v > 0.0 || v != v ? v : 0.0;
  switch (op.type) {
    case Type::kF64:
      return put<double>(v);
    case Type::kF32: {
      const float f = round_double(v, op.variant);
      return put<float>(op.flags & kFtz ? flush(f) : f);
    }
    case Type::kTF32:
      return op.flags & kAwayFromZero ? tf32_away(static_cast<float>(v)) : tf32_nearest(static_cast<float>(v));
    case Type::kF16:
      return half_bits<false>(v, op.variant);
    default:
      return half_bits<true>(v, op.variant);
  }
}

/// Out-of-range values are clamped. A NaN becomes 0, or, if either type has 64 bits, only the highest bit is set.
std::uint64_t float_to_integer(double v, const Op& op) {
  const Type to = op.type;
  const int bits = 8 * bytes_of(to);
  if (v != v) return bits == 64 || op.from == Type::kF64 ? extended(1ull << (bits - 1), to) : 0;
  const double rounded = round_to_integer(v, op.variant);
  const double low = is_signed(to) ? -std::ldexp(1.0, bits - 1) : 0.0, end = std::ldexp(1.0, is_signed(to) ? bits - 1 : bits);
  std::uint64_t out;
  if (rounded >= end)
    out = is_signed(to) ? (1ull << (bits - 1)) - 1 : bits == 64 ? ~0ull : (1ull << bits) - 1;
  else if (is_signed(to))
    out = static_cast<std::uint64_t>(static_cast<std::int64_t>(std::max(rounded, low)));
  else
    out = static_cast<std::uint64_t>(std::max(rounded, low));
  return extended(out, to);
}

std::uint64_t integer_to_float(std::uint64_t v, const Op& op) {
  const bool sign = is_signed(op.from);
  const auto as_signed = static_cast<std::int64_t>(v);
  const double d = sign ? static_cast<double>(as_signed) : static_cast<double>(v);
  if (op.type == Type::kF64) return put<double>(d);
  if (op.type == Type::kF16) return half_bits<false>(d, op.variant);
  if (op.type == Type::kBF16) return half_bits<true>(d, op.variant);
  // Not via double: 64-bit integers would be rounded twice.
  std::fesetround(kRoundingModes[op.variant]);
  volatile float f = sign ? static_cast<float>(as_signed) : static_cast<float>(v);
  std::fesetround(FE_TONEAREST);
  return put<float>(float(f));
}

std::uint64_t integer_to_integer(std::uint64_t v, const Op& op) {
  const Type to = op.type;
  if (op.flags & kSaturate) {
    const int bits = 8 * bytes_of(to);
    const bool negative = is_signed(op.from) && static_cast<std::int64_t>(v) < 0;
    const std::uint64_t high = is_signed(to) ? (1ull << (bits - 1)) - 1 : bits == 64 ? ~0ull : (1ull << bits) - 1;
    if (!negative)
      v = std::min(v, high);
    else if (!is_signed(to))
      v = 0;
    else
      v = static_cast<std::uint64_t>(std::max(static_cast<std::int64_t>(v), -static_cast<std::int64_t>(high) - 1));
  }
  return extended(v, to);
}

/// Handles all types. decode_cvt() picks faster handlers for common pairs.
void convert(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) {
    const std::uint64_t raw = wide_value(w, op, 1, i);
    std::uint64_t out;
    if (is_float(op.from)) {
      const double v = float_value(raw, op.from, op.flags & kFtz);
      out = is_float(op.type) ? float_to_float(v, op) : float_to_integer(v, op);
    } else {
      const std::uint64_t v = extended(raw, op.from);
      out = is_float(op.type) ? integer_to_float(v, op) : integer_to_integer(v, op);
    }
    write_wide(w, op, i, out);
  });
}
template <class R, class A>
void convert_plain(Warp& w, const Op& op, Mask mask) {
  const auto* a = w.row<Word<A>>(op.o[1]);
  each(mask, w.row<Word<R>>(op.o[0]), [=](int i) { return put<R>(static_cast<R>(get<A>(a[i]))); });
}
/// Converts two floats to a pair of halves: cvt.rn.bf16x2.f32 d, a, b puts a in the upper half.
template <bool kBrain>
void convert_pair(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) {
    double a = get<float>(w.row<std::uint32_t>(op.o[1])[i]), b = get<float>(w.row<std::uint32_t>(op.o[2])[i]);
    if (op.flags & kRelu) a = a > 0.0 || a != a ? a : 0.0, b = b > 0.0 || b != b ? b : 0.0;
    w.row<std::uint32_t>(op.o[0])[i] = half_bits<kBrain>(a, op.variant) << 16 | half_bits<kBrain>(b, op.variant);
  });
}

/// A vectorised handler for common pairs of types; null: none.
Handler plain_handler(Type to, Type from, int rounding) {
  if (to == Type::kF32 && rounding <= 0) {
    if (from == Type::kS32) return convert_plain<float, std::int32_t>;
    if (from == Type::kU32) return convert_plain<float, std::uint32_t>;
    if (from == Type::kU16) return convert_plain<float, std::uint16_t>;
    if (from == Type::kU8) return convert_plain<float, std::uint8_t>;
  }
  if (to == Type::kS64 && from == Type::kS32) return convert_plain<std::int64_t, std::int32_t>;
  if (to == Type::kU64 && from == Type::kU32) return convert_plain<std::uint64_t, std::uint32_t>;
  if (to == Type::kU32 && from == Type::kU64) return convert_plain<std::uint32_t, std::uint64_t>;
  if (to == Type::kF64 && from == Type::kF32) return convert_plain<double, float>;
  return nullptr;
}

void decode_cvt(Decoder& d) {
  d.op.cls = Class::kConvert;
  if (d.take("pack")) d.fail("is not emulated");
  const int integer = d.take_one({"rni", "rzi", "rmi", "rpi"}), rounding = take_rounding(d);
  if (integer >= 0) d.op.flags |= kToInteger;
  if (d.take("rna")) d.op.flags |= kAwayFromZero;
  if (d.take("sat")) d.op.flags |= kSaturate;
  if (d.take("ftz")) d.op.flags |= kFtz;
  if (d.take("relu")) d.op.flags |= kRelu;
  d.op.variant = static_cast<std::uint8_t>(std::max(0, std::max(integer, rounding)));
  const Type to = d.op.type = d.take_type(), from = d.op.from = d.take_type();
  if (to == Type::kBF16x2 || to == Type::kF16x2) {
    if (from != Type::kF32) d.fail("this source type is not emulated");
    operands(d, to, {from, from});
    d.op.run = to == Type::kBF16x2 ? convert_pair<true> : convert_pair<false>;
    return;
  }
  operands(d, to, {from});
  d.op.run = convert;
  // A register may be wider than its type.
  const bool same_width = (d.op.wide & 1) == (bytes_of(to) == 8) && (d.op.wide >> 1 & 1) == (bytes_of(from) == 8);
  if (!same_width || d.op.flags) return;
  if (const Handler plain = plain_handler(to, from, rounding)) d.op.run = plain;
}

}  // namespace

void add_convert(InstructionTable& t) { t["cvt"] = decode_cvt; }

}  // namespace emu
