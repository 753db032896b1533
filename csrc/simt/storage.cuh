// Storage types of arrays. Kernels compute in float: a kernel is a template on its arrays' type T and reads and writes them with load<W>
// and store<W>, which convert.
#pragma once

#include <cstdint>
#include <cstring>

namespace simt {

/// bfloat16, the upper half of a float: its sign, its exponent, and 7 bits of its mantissa.
struct Bf16 {
  std::uint16_t bits;
};

__host__ __device__ __forceinline__ float to_float(float x) { return x; }
__host__ __device__ __forceinline__ float to_float(Bf16 x) {
  const std::uint32_t bits = std::uint32_t{x.bits} << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

/// Converts x to T, rounding to nearest, ties to even. A NaN stays NaN.
template <class T>
__host__ __device__ __forceinline__ T to_storage(float x);
template <>
__host__ __device__ __forceinline__ float to_storage<float>(float x) {
  return x;
}
template <>
__host__ __device__ __forceinline__ Bf16 to_storage<Bf16>(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

/// N elements that one access reads or writes.
template <class T, int N>
struct alignas(sizeof(T) * N) Packed {
  T v[N];
};

/// Number of the W elements that one access moves: as many as fit in 128 bits.
template <class T, int W>
__host__ __device__ constexpr int access_width() {
  constexpr int kMost = 16 / static_cast<int>(sizeof(T));
  static_assert(W % kMost == 0 || kMost % W == 0, "a vector is one access or several whole ones");
  return W < kMost ? W : kMost;
}

}  // namespace simt
