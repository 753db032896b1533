// The execution model on NVIDIA GPUs: CUDA as it is, and the few words of simt.cuh that it lacks.
#pragma once

#include <cuda_runtime.h>

#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_UNROLL SIMT_PRAGMA(unroll)
#define SIMT_HOT_LOOP __device__ __forceinline__
#define SIMT_UNROLL_LOOP SIMT_PRAGMA(unroll 2)

namespace simt {

using Stream = cudaStream_t;

/// Throws std::runtime_error that names the call, its place and CUDA's reason.
inline void check(cudaError_t status, const char* what, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status) + " (" + file +
                           ":" + std::to_string(line) + ")");
}
#define SIMT_CHECK(call) ::simt::check((call), #call, __FILE__, __LINE__)

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream stream, A&&... args) {
  constexpr std::size_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking)
    SIMT_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, stream>>>(P(args)...);
  SIMT_CHECK(cudaGetLastError());
}

template <class T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}

// --- vectors ---

template <int W>
struct Mask {
  bool v[W];
  __device__ __forceinline__ bool operator[](int i) const { return v[i]; }
};

template <int W>
struct IntVec {
  int v[W];
  IntVec() = default;
  __device__ __forceinline__ explicit IntVec(int x) {
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) v[i] = x;
  }
  __device__ __forceinline__ int operator[](int i) const { return v[i]; }
  __device__ __forceinline__ void set(int i, int x) { v[i] = x; }
};

/// 32-bit words without a sign, for random numbers.
template <int W>
struct WordVec {
  std::uint32_t v[W];
  WordVec() = default;
  __device__ __forceinline__ explicit WordVec(std::uint32_t x) {
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) v[i] = x;
  }
  __device__ __forceinline__ void set(int i, std::uint32_t x) { v[i] = x; }
};

template <int W>
struct Vec {
  static constexpr int kWidth = W;
  float v[W];
  Vec() = default;
  __device__ __forceinline__ explicit Vec(float x) {
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) v[i] = x;
  }
  __device__ __forceinline__ float operator[](int i) const { return v[i]; }
  __device__ __forceinline__ void set(int i, float x) { v[i] = x; }
};

/// f of every element.
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
/// The low and the high words of a*b.
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

/// x^(-3/4), and 1/x, which costs little more, within 6 ulp.
template <int W>
__device__ __forceinline__ Vec<W> inverse_three_quarters(Vec<W> x, Vec<W>& inverse) {
  const Vec<W> root = map(x, [](float f) { return rsqrtf(f); });
  inverse = root * root;
  return inverse * map(root, [](float f) { return rsqrtf(f); });
}

/// 128-bit accesses: the address is a multiple of 16 bytes. W is a multiple of 4.
template <int W>
__device__ __forceinline__ Vec<W> load(const float* p) {
  static_assert(W % 4 == 0, "a GPU loads float4s");
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; i += 4) {
    const float4 q = *reinterpret_cast<const float4*>(p + i);
    r.v[i] = q.x, r.v[i + 1] = q.y, r.v[i + 2] = q.z, r.v[i + 3] = q.w;
  }
  return r;
}
template <int W>
__device__ __forceinline__ void store(float* p, Vec<W> x) {
  static_assert(W % 4 == 0, "a GPU stores float4s");
  SIMT_UNROLL
  for (int i = 0; i < W; i += 4) *reinterpret_cast<float4*>(p + i) = make_float4(x.v[i], x.v[i + 1], x.v[i + 2], x.v[i + 3]);
}
/// The first `count` elements, 0 < count <= W; the others are zeros. Any alignment.
template <int W>
__device__ __forceinline__ Vec<W> load_first(const float* p, int count) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = i < count ? p[i] : 0.0f;
  return r;
}
template <int W>
__device__ __forceinline__ void store_first(float* p, int count, Vec<W> x) {
  SIMT_UNROLL
  for (int i = 0; i < W; ++i)
    if (i < count) p[i] = x.v[i];
}
/// W bytes as floats. Any alignment.
template <int W>
__device__ __forceinline__ Vec<W> load_bytes(const std::uint8_t* p) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = static_cast<float>(p[i]);
  return r;
}
template <int W>
__device__ __forceinline__ IntVec<W> load(const std::uint16_t* p) {
  static_assert(W == 4, "a GPU loads ushort4s");
  const ushort4 q = *reinterpret_cast<const ushort4*>(p);
  IntVec<W> r;
  r.v[0] = q.x, r.v[1] = q.y, r.v[2] = q.z, r.v[3] = q.w;
  return r;
}
template <int W>
__device__ __forceinline__ void store(std::uint16_t* p, IntVec<W> x) {
  static_assert(W == 4, "a GPU stores ushort4s");
  *reinterpret_cast<ushort4*>(p) = make_ushort4(static_cast<unsigned short>(x.v[0]), static_cast<unsigned short>(x.v[1]),
                                                static_cast<unsigned short>(x.v[2]), static_cast<unsigned short>(x.v[3]));
}

/// Transposes W vectors of W: on a GPU this only renames registers.
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

// --- asynchronous copies (sm_80 and newer): the data goes to shared memory without passing through registers ---

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define SIMT_HAS_ASYNC_COPIES 1
#else
#define SIMT_HAS_ASYNC_COPIES 0
#endif

/// Copies W floats, W a multiple of 4, both addresses multiples of 16 bytes; complete after copy_async_wait() and a barrier.
template <int W>
__device__ __forceinline__ void copy_async(float* shared, const float* global) {
  SIMT_UNROLL
  for (int i = 0; i < W; i += 4) {
#if SIMT_HAS_ASYNC_COPIES
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared + i));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global + i) : "memory");
#else
    store<4>(shared + i, load<4>(global + i));
#endif
  }
}
/// Waits for all copies that this thread has started.
__device__ __forceinline__ void copy_async_wait() {
#if SIMT_HAS_ASYNC_COPIES
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace simt
