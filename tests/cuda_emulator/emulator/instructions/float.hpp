// Floating-point handlers with their modifiers (.ftz, .sat, rounding), and their decoders.
#pragma once

#include "instructions/operands.hpp"

namespace emu {

struct FloatModifiers {
  int rounding = 0;  // take_rounding()
  bool ftz = false, sat = false;
};

/// .ftz: subnormal operands and results become zero.
template <class F>
struct Flushed {
  template <class... T>
  static auto apply(T... values) {
    return flush(F::apply(flush(values)...));
  }
};
/// .sat: the result is clamped to [0, 1]; a NaN becomes 0.
template <class F>
struct Saturated {
  template <class T, class... More>
  static T apply(T first, More... more) {
    const T v = F::apply(first, more...);
    return v > T{0} ? (v < T{1} ? v : T{1}) : T{0};
  }
};

/// Directed rounding: sets the processor's rounding mode during the instruction. volatile keeps the compiler from moving the operation.
template <class T, class F, int kOperands>
__attribute__((noinline)) void rounded(Warp& w, const Op& op, Mask mask) {
  std::fesetround(kRoundingModes[op.variant]);
  for_lanes(mask, [&](int i) {
    const auto operand = [&](int k) { return get<T>(w.row<Word<T>>(op.o[k])[i]); };
    volatile T a = operand(1), b = operand(kOperands > 1 ? 2 : 1), c = operand(kOperands > 2 ? 3 : 1), result;
    if constexpr (kOperands == 1)
      result = F::apply(T(a));
    else if constexpr (kOperands == 2)
      result = F::apply(T(a), T(b));
    else
      result = F::apply(T(a), T(b), T(c));
    w.row<Word<T>>(op.o[0])[i] = put<T>(T(result));
  });
  std::fesetround(FE_TONEAREST);
}

template <class T, class F, int kOperands>
Handler float_handler() {
  if constexpr (kOperands == 1)
    return unary<T, T, F>;
  else if constexpr (kOperands == 2)
    return binary<T, F>;
  else
    return ternary<T, F>;
}

/// Half-precision values and pairs. Operations on one or two operands are computed in float, whose 24 bits make double rounding harmless;
/// fma is computed in double.
template <class F, bool kBrain, int kOperands, int kElements>
void half_handler(Warp& w, const Op& op, Mask mask) {
  using Wide = std::conditional_t<kOperands == 3, double, float>;
  auto* d = w.row<std::uint32_t>(op.o[0]);
  const std::uint32_t* operand[kOperands];
  for (int k = 0; k < kOperands; ++k) operand[k] = w.row<std::uint32_t>(op.o[1 + k]);
  for_lanes(mask, [&](int i) {
    std::uint32_t result = 0;
    for (int shift = 0; shift < 16 * kElements; shift += 16) {
      const auto value = [&](int k) { return Wide{half_value<kBrain>(operand[k][i] >> shift & 0xffff)}; };
      std::uint32_t bits;
      if constexpr (kOperands == 1)
        bits = half_bits<kBrain>(F::apply(value(0)));
      else if constexpr (kOperands == 2)
        bits = half_bits<kBrain>(F::apply(value(0), value(1)));
      else
        bits = half_bits<kBrain>(F::apply(value(0), value(1), value(2)));
      result |= bits << shift;
    }
    d[i] = result;
  });
}

template <class F, int kOperands>
void decode_half(Decoder& d, Type t, const FloatModifiers& m) {
  if (m.rounding > 0 || m.ftz || m.sat) d.fail("this modifier is not emulated for half precision");
  if (t == Type::kF16)
    d.op.run = half_handler<F, false, kOperands, 1>;
  else if (t == Type::kBF16)
    d.op.run = half_handler<F, true, kOperands, 1>;
  else if (t == Type::kF16x2)
    d.op.run = half_handler<F, false, kOperands, 2>;
  else
    d.op.run = half_handler<F, true, kOperands, 2>;
}

template <class T, class F, int kOperands>
void decode_float_as(Decoder& d, const FloatModifiers& m) {
  if (m.rounding > 0) {
    if (m.ftz || m.sat) d.fail("this rounding with .ftz or .sat is not emulated");
    d.op.variant = static_cast<std::uint8_t>(m.rounding);
    d.op.run = rounded<T, F, kOperands>;
  } else if (m.sat) {
    if (m.ftz) d.fail(".ftz with .sat is not emulated");
    d.op.run = float_handler<T, Saturated<F>, kOperands>();
  } else {
    d.op.run = m.ftz ? float_handler<T, Flushed<F>, kOperands>() : float_handler<T, F, kOperands>();
  }
}

template <class F, int kOperands>
void decode_float(Decoder& d, Type t, Class cls, const FloatModifiers& m) {
  d.op.cls = cls;
  if (m.ftz && t != Type::kF32) d.fail(".ftz is for .f32");
  if (is_half(t))
    decode_half<F, kOperands>(d, t, m);
  else if (t == Type::kF32)
    decode_float_as<float, F, kOperands>(d, m);
  else if (t == Type::kF64)
    decode_float_as<double, F, kOperands>(d, m);
  else
    d.fail("this type is not emulated");
}

// Decoders of "opcode d, a", "opcode d, a, b" and "opcode d, a, b, c".

template <class F>
void decode_float1(Decoder& d, Type t, Class cls, const FloatModifiers& m) {
  operands(d, t, {t});
  decode_float<F, 1>(d, t, cls, m);
}
template <class F>
void decode_float2(Decoder& d, Type t, Class cls, const FloatModifiers& m) {
  operands(d, t, {t, t});
  decode_float<F, 2>(d, t, cls, m);
}
template <class F>
void decode_float3(Decoder& d, Type t, Class cls, const FloatModifiers& m) {
  operands(d, t, {t, t, t});
  decode_float<F, 3>(d, t, cls, m);
}

/// Decodes div for floats. Returns false, with nothing decoded, if the type is an integer.
bool decode_float_div(Decoder& d);

}  // namespace emu
