// Integer arithmetic, and decoders for opcodes that integers and floats share (PTX ISA, "Integer Arithmetic Instructions").
#include "instructions/float.hpp"
#include "instructions/functors.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

struct Sad {
  template <class T>
  static T apply(T a, T b, T c) {
    return static_cast<T>(c + (a < b ? b - a : a - b));
  }
};
// The ISA leaves a division by zero undefined; hardware returns all ones.
struct Div {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return Neg::apply(a);  // INT_MIN / -1 overflows and would trap in C++
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return 0;
    return static_cast<T>(a % b);
  }
};

/// add and sub.
template <class F>
void decode_add(Decoder& d) {
  const int rounding = take_rounding(d);
  const bool ftz = d.take("ftz"), sat = d.take("sat");
  if (d.take("cc")) d.fail("the carry flag is not emulated");
  const Type t = d.take_type();
  if (is_float(t)) return decode_float2<F>(d, t, Class::kFloat, {rounding, ftz, sat});
  if (sat) d.fail("saturating integers are not emulated");
  operands(d, t, {t, t});
  d.op.cls = Class::kInteger;
  with_integer(d, t, [&](auto v) { d.op.run = binary<decltype(v), F>; });
}

/// mul.wide and mad.wide: the result has twice the operands' width.
template <class T, bool kAdd>
void multiply_wide(Warp& w, const Op& op, Mask mask) {
  using Twice = std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>,
                                   std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>>;
  const auto *a = w.row<Word<T>>(op.o[1]), *b = w.row<Word<T>>(op.o[2]);
  const auto* c = w.row<Word<Twice>>(op.o[kAdd ? 3 : 1]);
  each(mask, w.row<Word<Twice>>(op.o[0]), [=](int i) {
    const Word<Twice> product = put<Twice>(static_cast<Twice>(Twice{get<T>(a[i])} * Twice{get<T>(b[i])}));
    return static_cast<Word<Twice>>(product + (kAdd ? c[i] : 0));
  });
}
template <bool kAdd>
void decode_wide(Decoder& d, Type t) {
  const Type twice = bytes_of(t) == 4 ? Type::kB64 : Type::kB32;
  if (kAdd)
    operands(d, twice, {t, t, twice});
  else
    operands(d, twice, {t, t});
  switch (t) {
    case Type::kU32:
      d.op.run = multiply_wide<std::uint32_t, kAdd>;
      break;
    case Type::kS32:
      d.op.run = multiply_wide<std::int32_t, kAdd>;
      break;
    case Type::kU16:
      d.op.run = multiply_wide<std::uint16_t, kAdd>;
      break;
    case Type::kS16:
      d.op.run = multiply_wide<std::int16_t, kAdd>;
      break;
    default:
      d.fail("this type is not emulated");
  }
}

enum Part { kLow, kHigh, kWide };

void decode_mul(Decoder& d) {
  const int rounding = take_rounding(d);
  const bool ftz = d.take("ftz"), sat = d.take("sat");
  const int part = d.take_one({"lo", "hi", "wide"});
  const Type t = d.take_type();
  if (is_float(t)) return decode_float2<Mul>(d, t, Class::kFloat, {rounding, ftz, sat});
  d.op.cls = Class::kInteger;
  if (part == kWide) return decode_wide<false>(d, t);
  operands(d, t, {t, t});
  with_integer(d, t, [&](auto v) { d.op.run = part == kHigh ? binary<decltype(v), MulHigh> : binary<decltype(v), Mul>; });
}

void decode_mad(Decoder& d) {
  const int rounding = take_rounding(d);
  const bool ftz = d.take("ftz"), sat = d.take("sat");
  const int part = d.take_one({"lo", "hi", "wide"});
  if (d.take("cc")) d.fail("the carry flag is not emulated");
  const Type t = d.take_type();
  if (is_float(t)) return decode_float3<Fma>(d, t, Class::kFma, {rounding, ftz, sat});
  d.op.cls = Class::kInteger;
  if (part == kWide) return decode_wide<true>(d, t);
  operands(d, t, {t, t, t});
  with_integer(d, t, [&](auto v) { d.op.run = part == kHigh ? ternary<decltype(v), MadHigh> : ternary<decltype(v), MadLow>; });
}

void decode_sad(Decoder& d) {
  const Type t = d.take_type();
  operands(d, t, {t, t, t});
  d.op.cls = Class::kInteger;
  with_integer(d, t, [&](auto v) { d.op.run = ternary<decltype(v), Sad>; });
}

template <class F>
void decode_integer(Decoder& d, Type t) {
  operands(d, t, {t, t});
  d.op.cls = Class::kInteger;
  with_integer(d, t, [&](auto v) { d.op.run = binary<decltype(v), F>; });
}

void decode_div(Decoder& d) {
  if (decode_float_div(d)) return;
  decode_integer<Div>(d, d.take_type());
}
void decode_rem(Decoder& d) { decode_integer<Rem>(d, d.take_type()); }

template <class F>
void decode_min_max(Decoder& d) {
  const bool ftz = d.take("ftz"), nan = d.take("NaN");
  const Type t = d.take_type();
  if (!is_float(t)) return decode_integer<F>(d, t);
  if (nan)
    decode_float2<NanWins<F>>(d, t, Class::kFloat, {0, ftz, false});
  else
    decode_float2<F>(d, t, Class::kFloat, {0, ftz, false});
}

/// neg and abs.
template <class F>
void decode_sign(Decoder& d) {
  const bool ftz = d.take("ftz");
  const Type t = d.take_type();
  if (is_float(t)) return decode_float1<F>(d, t, Class::kFloat, {0, ftz, false});
  operands(d, t, {t});
  d.op.cls = Class::kInteger;
  if (t == Type::kS16)
    d.op.run = unary<std::int16_t, std::int16_t, F>;
  else if (t == Type::kS32)
    d.op.run = unary<std::int32_t, std::int32_t, F>;
  else if (t == Type::kS64)
    d.op.run = unary<std::int64_t, std::int64_t, F>;
  else
    d.fail("this type is not emulated");
}

}  // namespace

void add_integer(InstructionTable& t) {
  t["add"] = decode_add<Add>;
  t["sub"] = decode_add<Sub>;
  t["mul"] = decode_mul;
  t["mad"] = decode_mad;
  t["sad"] = decode_sad;
  t["div"] = decode_div;
  t["rem"] = decode_rem;
  t["min"] = decode_min_max<Min>;
  t["max"] = decode_min_max<Max>;
  t["neg"] = decode_sign<Neg>;
  t["abs"] = decode_sign<Abs>;
}

}  // namespace emu
