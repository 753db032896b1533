// A CPU's vectors: the vector extension of GCC and clang, whose operators take whole vectors, or a vector and a scalar.
#pragma once

#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "simt/storage.cuh"

namespace simt {

template <class T, int W>
struct NativeVector {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};

template <int W>
struct Mask {
  using Native = typename NativeVector<int, W>::type;
  Native v;
  bool operator[](int i) const { return v[i] != 0; }
  friend Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
  friend Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
};

template <int W>
struct IntVec {
  using Native = typename NativeVector<int, W>::type;
  using Narrow = typename NativeVector<std::uint16_t, W>::type;
  Native v;
  IntVec() = default;
  explicit IntVec(int x) : v(Native{} + x) {}
  int operator[](int i) const { return v[i]; }
  void set(int i, int x) { v[i] = x; }
  friend Mask<W> operator>(IntVec a, IntVec b) { return {a.v > b.v}; }
  friend Mask<W> operator==(IntVec a, IntVec b) { return {a.v == b.v}; }
};

/// W unsigned 32-bit integers, for Philox.
template <int W>
struct WordVec {
  using Native = typename NativeVector<std::uint32_t, W>::type;
  Native v;
  WordVec() = default;
  explicit WordVec(std::uint32_t x) : v(Native{} + x) {}
  explicit WordVec(Native x) : v(x) {}
  void set(int i, std::uint32_t x) { v[i] = x; }
  friend WordVec operator^(WordVec a, WordVec b) { return WordVec(a.v ^ b.v); }
  friend Mask<W> operator>=(WordVec a, WordVec b) { return {a.v >= b.v}; }
};

template <int W>
struct Vec {
  using Native = typename NativeVector<float, W>::type;
  Native v;
  Vec() = default;
  explicit Vec(float x) : v(x - Native{}) {}  // x + 0 would turn -0 into 0
  explicit Vec(Native x) : v(x) {}
  float operator[](int i) const { return v[i]; }
  void set(int i, float x) { v[i] = x; }
  friend Vec operator+(Vec a, Vec b) { return Vec(a.v + b.v); }
  friend Vec operator-(Vec a, Vec b) { return Vec(a.v - b.v); }
  friend Vec operator*(Vec a, Vec b) { return Vec(a.v * b.v); }
  friend Vec operator/(Vec a, Vec b) { return Vec(a.v / b.v); }
  friend Vec operator*(float a, Vec b) { return Vec(a * b.v); }
  friend Mask<W> operator>(Vec a, Vec b) { return {a.v > b.v}; }
  friend Mask<W> operator!=(Vec a, Vec b) { return {a.v != b.v}; }
  friend Mask<W> operator==(Vec a, Vec b) { return {a.v == b.v}; }
};

/// Loads W elements as floats. Any alignment.
template <int W, class T>
inline Vec<W> load(const T* p) {
  Vec<W> r;
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(&r.v, p, sizeof r.v);
  } else {
    const auto q = read<Packed<T, W>>(p);
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) r.v[i] = to_float(q.v[i]);
  }
  return r;
}
template <int W, class T>
inline void store(T* p, Vec<W> x) {
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(p, &x.v, sizeof x.v);
  } else {
    Packed<T, W> q;
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) q.v[i] = to_storage<T>(x.v[i]);
    write(p, q);
  }
}
/// Stores a vector that no one reads soon, past the caches: no line is read to be overwritten. The address is a multiple of its size. Other
/// threads may read it after a streaming_fence().
template <int W>
inline void store_streaming(float* p, Vec<W> x) {
#if defined(__AVX512F__)
  if constexpr (W == 16) return _mm512_stream_ps(p, (__m512)x.v);
#endif
#if defined(__AVX__)
  if constexpr (W == 8) return _mm256_stream_ps(p, (__m256)x.v);
#endif
#if defined(__SSE2__)
  if constexpr (W == 4) return _mm_stream_ps(p, (__m128)x.v);
#endif
  store<W>(p, x);
}
inline void streaming_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}
/// Loads the first `count` elements, 0 < count <= W; the others are zeros. Any alignment.
template <int W, class T>
inline Vec<W> load_first(const T* p, int count) {
  T first[W] = {};
  std::memcpy(first, p, static_cast<std::size_t>(count) * sizeof(T));
  return load<W>(first);
}
template <int W, class T>
inline void store_first(T* p, int count, Vec<W> x) {
  T first[W];
  store<W>(first, x);
  std::memcpy(p, first, static_cast<std::size_t>(count) * sizeof(T));
}
/// Loads W bytes as floats, by intrinsics where there are any: GCC converts a vector's bytes one by one. Any alignment.
template <int W>
inline Vec<W> load_bytes(const std::uint8_t* p) {
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    const auto integers = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return Vec<W>(__builtin_convertvector((typename IntVec<W>::Native)integers, typename Vec<W>::Native));
  }
#endif
#if defined(__AVX2__)
  if constexpr (W == 8) {
    const auto integers = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return Vec<W>(__builtin_convertvector((typename IntVec<W>::Native)integers, typename Vec<W>::Native));
  }
#endif
  typename NativeVector<std::uint8_t, W>::type bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  const auto integers = __builtin_convertvector(bytes, typename IntVec<W>::Native);
  return Vec<W>(__builtin_convertvector(integers, typename Vec<W>::Native));
}
/// Loads W small integers, such as positions in a pooling window.
template <int W>
inline IntVec<W> load_ints(const std::uint16_t* p) {
  typename IntVec<W>::Narrow narrow;
  std::memcpy(&narrow, p, sizeof narrow);
  IntVec<W> r;
  r.v = __builtin_convertvector(narrow, typename IntVec<W>::Native);
  return r;
}
template <int W>
inline void store_ints(std::uint16_t* p, IntVec<W> x) {
  const auto narrow = __builtin_convertvector(x.v, typename IntVec<W>::Narrow);
  std::memcpy(p, &narrow, sizeof narrow);
}

/// a*b + c, rounded once where the target has FMA (the compiler contracts it).
template <int W>
inline Vec<W> fma(float a, Vec<W> b, Vec<W> c) {
  return Vec<W>(a * b.v + c.v);
}
template <int W>
inline Vec<W> fma(Vec<W> a, Vec<W> b, Vec<W> c) {
  return Vec<W>(a.v * b.v + c.v);
}
template <int W>
inline Vec<W> select(Mask<W> m, Vec<W> a, Vec<W> b) {
  return Vec<W>(m.v ? a.v : b.v);
}
template <int W>
inline IntVec<W> select(Mask<W> m, IntVec<W> a, IntVec<W> b) {
  IntVec<W> r;
  r.v = m.v ? a.v : b.v;
  return r;
}

/// Low and high words of a*b. Even and odd words are multiplied separately, in 64-bit lanes.
template <int W>
inline void multiply(std::uint32_t a, WordVec<W> b, WordVec<W>& low, WordVec<W>& high) {
  using Wide = typename NativeVector<std::uint64_t, W / 2>::type;
  constexpr std::uint64_t kLow = 0xffffffffu;
  Wide words;
  std::memcpy(&words, &b.v, sizeof words);
  const Wide even = (words & kLow) * a, odd = (words >> 32) * a;
  const Wide lows = (even & kLow) | (odd << 32), highs = (even >> 32) | (odd & ~kLow);
  std::memcpy(&low.v, &lows, sizeof lows);
  std::memcpy(&high.v, &highs, sizeof highs);
}

/// Applies f to every element, for functions without a vector form.
template <int W, class F>
inline Vec<W> map(Vec<W> x, F f) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = f(x.v[i]);
  return r;
}

/// x^(-3/4), and 1/x, which costs little more. Error at most 2 ulp for normal x > 0; a NaN stays NaN. A first approximation of y = x^(-1/4)
/// from the bits of x has an error of 3 %. A Newton step, its constants chosen to balance the errors at both ends, leaves 0.1 %. Powers of
/// y are then corrected by e = 1 - x y^4.
template <int W>
inline Vec<W> inverse_three_quarters(Vec<W> x, Vec<W>& inverse) {
  typename Mask<W>::Native bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  bits = 0x4f504000 - (bits >> 2);
  Vec<W> y;
  std::memcpy(&y.v, &bits, sizeof bits);
  const Vec<W> rough = y * y, one(1.0f);
  y = y * fma(-0.306166486f * x, rough * rough, Vec<W>(1.302836115f));
  const Vec<W> square = y * y, cube = y * square, fourth = square * square;
  const Vec<W> e = fma(-1.0f * x, fourth, one);
  inverse = fma(fourth * e, one + e, fourth);
  return fma(cube * e, fma(0.65625f, e, Vec<W>(0.75f)), cube);
}

/// Transposes W vectors of W in registers: log2(W) rounds that swap blocks, each round's half the size of the last one's.
template <int W>
inline void transpose(Vec<W> (&rows)[W]) {
  typename Mask<W>::Native low, high;
  SIMT_UNROLL
  for (int half = W / 2; half > 0; half /= 2) {
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) {
      low[i] = (i & half) ? W + (i ^ half) : i;
      high[i] = (i & half) ? W + i : (i ^ half);
    }
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) {
      if (i & half) continue;
      const auto a = rows[i].v, b = rows[i | half].v;
      rows[i].v = __builtin_shuffle(a, b, low);
      rows[i | half].v = __builtin_shuffle(a, b, high);
    }
  }
}

}  // namespace simt
