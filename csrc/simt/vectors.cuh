// A GPU's vectors: plain loops over floats, which nvcc unrolls into registers. The host can be built with them too
// (PYALEXNET_VECTORS=loops), so that tests execute this code without a GPU; the host's own vectors are in native_vectors.hpp.
#pragma once

#include "simt/storage.cuh"

namespace simt {

template <int W>
struct Mask {
  bool v[W];
  __device__ __forceinline__ bool operator[](int i) const { return v[i]; }
};

/// A vector of W elements.
template <class E, int W>
struct Lanes {
  E v[W];
  Lanes() = default;
  __device__ __forceinline__ explicit Lanes(E x) {
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) v[i] = x;
  }
  __device__ __forceinline__ E operator[](int i) const { return v[i]; }
  __device__ __forceinline__ void set(int i, E x) { v[i] = x; }
};
template <int W>
using Vec = Lanes<float, W>;
template <int W>
using IntVec = Lanes<int, W>;
/// W unsigned 32-bit integers, for Philox.
template <int W>
using WordVec = Lanes<std::uint32_t, W>;

/// Applies f to every element.
template <int W, class F>
__device__ __forceinline__ Vec<W> map(Vec<W> a, F f) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = f(a.v[i]);
  return r;
}
template <class R, int W, class A, class F>
__device__ __forceinline__ R map2(const A& a, const A& b, F f) {
  R r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = f(a.v[i], b.v[i]);
  return r;
}

template <int W>
__device__ __forceinline__ Vec<W> operator+(Vec<W> a, Vec<W> b) {
  return map2<Vec<W>, W>(a, b, [](float x, float y) { return x + y; });
}
template <int W>
__device__ __forceinline__ Vec<W> operator-(Vec<W> a, Vec<W> b) {
  return map2<Vec<W>, W>(a, b, [](float x, float y) { return x - y; });
}
template <int W>
__device__ __forceinline__ Vec<W> operator*(Vec<W> a, Vec<W> b) {
  return map2<Vec<W>, W>(a, b, [](float x, float y) { return x * y; });
}
template <int W>
__device__ __forceinline__ Vec<W> operator/(Vec<W> a, Vec<W> b) {
  return map2<Vec<W>, W>(a, b, [](float x, float y) { return x / y; });
}
template <int W>
__device__ __forceinline__ Vec<W> operator*(float a, Vec<W> b) {
  return map(b, [a](float x) { return a * x; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator>(Vec<W> a, Vec<W> b) {
  return map2<Mask<W>, W>(a, b, [](float x, float y) { return x > y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator!=(Vec<W> a, Vec<W> b) {
  return map2<Mask<W>, W>(a, b, [](float x, float y) { return x != y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator==(Vec<W> a, Vec<W> b) {
  return map2<Mask<W>, W>(a, b, [](float x, float y) { return x == y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator>(IntVec<W> a, IntVec<W> b) {
  return map2<Mask<W>, W>(a, b, [](int x, int y) { return x > y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator==(IntVec<W> a, IntVec<W> b) {
  return map2<Mask<W>, W>(a, b, [](int x, int y) { return x == y; });
}
template <int W>
__device__ __forceinline__ WordVec<W> operator^(WordVec<W> a, WordVec<W> b) {
  return map2<WordVec<W>, W>(a, b, [](std::uint32_t x, std::uint32_t y) { return x ^ y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator>=(WordVec<W> a, WordVec<W> b) {
  return map2<Mask<W>, W>(a, b, [](std::uint32_t x, std::uint32_t y) { return x >= y; });
}
/// Low and high words of a*b.
template <int W>
__device__ __forceinline__ void multiply(std::uint32_t a, WordVec<W> b, WordVec<W>& low, WordVec<W>& high) {
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) {
    low.v[i] = a * b.v[i];
    high.v[i] = __umulhi(a, b.v[i]);
  }
}
template <int W>
__device__ __forceinline__ Mask<W> operator|(Mask<W> a, Mask<W> b) {
  return map2<Mask<W>, W>(a, b, [](bool x, bool y) { return x || y; });
}
template <int W>
__device__ __forceinline__ Mask<W> operator&(Mask<W> a, Mask<W> b) {
  return map2<Mask<W>, W>(a, b, [](bool x, bool y) { return x && y; });
}
template <int W>
__device__ __forceinline__ Vec<W> fma(float a, Vec<W> b, Vec<W> c) {
  return map2<Vec<W>, W>(b, c, [a](float x, float y) { return fmaf(a, x, y); });
}
template <int W>
__device__ __forceinline__ Vec<W> fma(Vec<W> a, Vec<W> b, Vec<W> c) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
  return r;
}
template <int W, class V>
__device__ __forceinline__ V select(Mask<W> m, V a, V b) {
  V r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = m.v[i] ? a.v[i] : b.v[i];
  return r;
}

/// x^(-3/4), and 1/x, which costs little more. Error at most 6 ulp with a GPU's rsqrtf, which has 2.
template <int W>
__device__ __forceinline__ Vec<W> inverse_three_quarters(Vec<W> x, Vec<W>& inverse) {
  const Vec<W> root = map(x, [](float f) { return rsqrtf(f); });
  inverse = root * root;
  return inverse * map(root, [](float f) { return rsqrtf(f); });
}

/// Loads W elements as floats, in accesses of up to 128 bits; the address is a multiple of an access's size.
template <int W, class T>
__device__ __forceinline__ Vec<W> load(const T* p) {
  constexpr int kAccess = access_width<T, W>();
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; i += kAccess) {
    const auto q = read<Packed<T, kAccess>>(p + i);
    SIMT_UNROLL
    for (int j = 0; j < kAccess; ++j) r.v[i + j] = to_float(q.v[j]);
  }
  return r;
}
template <int W, class T>
__device__ __forceinline__ void store(T* p, Vec<W> x) {
  constexpr int kAccess = access_width<T, W>();
  SIMT_UNROLL
  for (int i = 0; i < W; i += kAccess) {
    Packed<T, kAccess> q;
    SIMT_UNROLL
    for (int j = 0; j < kAccess; ++j) q.v[j] = to_storage<T>(x.v[i + j]);
    write(p + i, q);
  }
}
/// Stores a vector that no one reads soon: here, as any other.
template <int W>
__device__ __forceinline__ void store_streaming(float* p, Vec<W> x) {
  store<W>(p, x);
}
__device__ __forceinline__ void streaming_fence() {}
/// Loads the first `count` elements, 0 < count <= W; the others are zeros. Any alignment.
template <int W, class T>
__device__ __forceinline__ Vec<W> load_first(const T* p, int count) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = i < count ? to_float(p[i]) : 0.0f;
  return r;
}
template <int W, class T>
__device__ __forceinline__ void store_first(T* p, int count, Vec<W> x) {
  SIMT_UNROLL
  for (int i = 0; i < W; ++i)
    if (i < count) p[i] = to_storage<T>(x.v[i]);
}
/// Loads W bytes as floats. Any alignment.
template <int W>
__device__ __forceinline__ Vec<W> load_bytes(const std::uint8_t* p) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = static_cast<float>(p[i]);
  return r;
}
/// Loads W small integers, such as positions in a pooling window.
template <int W>
__device__ __forceinline__ IntVec<W> load_ints(const std::uint16_t* p) {
  const auto q = read<Packed<std::uint16_t, W>>(p);
  IntVec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = q.v[i];
  return r;
}
template <int W>
__device__ __forceinline__ void store_ints(std::uint16_t* p, IntVec<W> x) {
  Packed<std::uint16_t, W> q;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) q.v[i] = static_cast<std::uint16_t>(x.v[i]);
  write(p, q);
}

/// Transposes W vectors of W by renaming registers.
template <int W>
__device__ __forceinline__ void transpose(Vec<W> (&rows)[W]) {
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) SIMT_UNROLL
  for (int j = i + 1; j < W; ++j) {
    const float t = rows[i].v[j];
    rows[i].v[j] = rows[j].v[i];
    rows[j].v[i] = t;
  }
}

}  // namespace simt
