// Number formats without a C++ type (half, bfloat16, TF32), rounding, and flushing of subnormal numbers.
#pragma once

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emu {

/// .ftz: a subnormal number becomes a zero of the same sign.
inline float flush(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, 4);
  bits &= (bits & 0x7f800000u) ? 0xffffffffu : 0x80000000u;
  std::memcpy(&v, &bits, 4);
  return v;
}
inline double flush(double v) { return v; }

/// The processor's rounding modes, by index: 0 to nearest even, 1 toward zero, 2 down, 3 up.
constexpr int kRoundingModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};

inline float round_double(double v, int rounding) {
  if (rounding == 0) return static_cast<float>(v);
  std::fesetround(kRoundingModes[rounding]);
  volatile double in = v;
  volatile float out = static_cast<float>(in);
  std::fesetround(FE_TONEAREST);
  return out;
}

/// kBrain: bfloat16 (8 exponent bits, 7 mantissa bits), else IEEE half (5, 10).
template <bool kBrain>
inline float half_value(std::uint32_t bits) {
  constexpr int kMantissa = kBrain ? 7 : 10, kBias = kBrain ? 127 : 15;
  constexpr std::uint32_t kMaxExponent = kBrain ? 255 : 31;
  const std::uint32_t exponent = bits >> kMantissa & kMaxExponent, mantissa = bits & ((1u << kMantissa) - 1);
  double v;
  if (exponent == kMaxExponent)
    v = mantissa ? NAN : INFINITY;
  else if (exponent == 0)
    v = std::ldexp(static_cast<double>(mantissa), 1 - kBias - kMantissa);
  else
    v = std::ldexp(static_cast<double>(mantissa | 1u << kMantissa), static_cast<int>(exponent) - kBias - kMantissa);
  return static_cast<float>(bits & 0x8000u ? -v : v);
}
template <>
inline float half_value<true>(std::uint32_t bits) {
  const std::uint32_t wide = bits << 16;
  float v;
  std::memcpy(&v, &wide, 4);
  return v;
}

template <bool kBrain>
inline std::uint32_t half_bits(double v, int rounding = 0) {
  constexpr int kMantissa = kBrain ? 7 : 10, kBias = kBrain ? 127 : 15;
  constexpr std::uint32_t kInfinity = (kBrain ? 255u : 31u) << kMantissa;
  const std::uint32_t sign = std::signbit(v) ? 0x8000u : 0;
  const bool toward_zero = rounding == 1 || (rounding == 2 && !sign) || (rounding == 3 && sign);
  if (v != v) return 0x7fff;
  const double magnitude = std::fabs(v);
  if (std::isinf(magnitude)) return sign | kInfinity;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int least = 1 - kBias - kMantissa;                     // exponent of a subnormal number's last bit
  const int last = std::max(exponent - 1 - kMantissa, least);  // of this number's last bit
  const double scaled = std::ldexp(magnitude, -last);
  double kept = std::nearbyint(scaled);
  if (toward_zero)
    kept = std::floor(scaled);
  else if (rounding != 0)
    kept = std::ceil(scaled);
  // The mantissa includes its leading one: the addition carries into the exponent.
  const auto mantissa = static_cast<std::uint32_t>(kept);
  const auto field = static_cast<std::uint32_t>(last - least);
  const std::uint32_t bits = mantissa >= 1u << kMantissa ? (field << kMantissa) + mantissa : mantissa;
  if (bits >= kInfinity) return sign | (toward_zero ? kInfinity - 1 : kInfinity);
  return sign | bits;
}

/// TF32 keeps 10 of float's 23 mantissa bits. cvt.rna rounds to nearest, ties away from zero.
inline std::uint32_t tf32_away(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
}
inline std::uint32_t tf32_nearest(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, 4);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x0fffu + (bits >> 13 & 1)) & ~0x1fffu;
}
/// The value that mma reads: the 13 low bits are ignored.
inline float tf32_read(std::uint32_t bits) {
  bits &= ~0x1fffu;
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

}  // namespace emu
