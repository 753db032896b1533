// CUDA's execution model on a CPU: a block is a task of a thread pool, a CUDA thread is a fiber of the worker that runs the block.
//
// One worker runs one block at a time, so __shared__ is thread_local storage. Threads run one after another and switch only where
// they wait for each other: at __syncthreads() and at warp operations. Which of the runnable threads goes first is the Execution's
// order; a kernel with its barriers in place gives the same bits in any.
#pragma once

#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_UNROLL SIMT_PRAGMA(GCC unroll 64)
// A function of its own: within a larger one GCC does not keep two dozen accumulators in registers.
#define SIMT_HOT_LOOP __attribute__((noinline))
#define SIMT_UNROLL_LOOP SIMT_PRAGMA(GCC unroll 2)

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace simt {

/// Work is done when a launch returns: a stream is only there for the launchers to have one signature.
using Stream = void*;

enum class Order { kForward, kReverse, kShuffled };

/// Which instantiation of a kernel runs: the CPU's tiles, or on the CPU the exact one a GPU would run (kGpuPlainLoads: sm_75's,
/// which has no asynchronous copies).
enum class Tiles { kHost, kGpu, kGpuPlainLoads };

/// How launches run from now on. For tests and debugging; set it only between launches.
struct Execution {
  Order order = Order::kForward;
  std::uint64_t seed = 0;
  Tiles tiles = Tiles::kHost;
};
Execution& execution();

/// Where the running thread is. The fiber scheduler keeps it right across switches.
struct Here {
  uint3 thread{0, 0, 0};
  uint3 block{0, 0, 0};
  dim3 block_size;
  dim3 grid_size;
  unsigned linear_thread = 0;
  std::byte* shared = nullptr;
};
// __thread: initialised at compile time, so that no access has to look whether that was done. Hidden: the address is worked out once
// for a function. (A faster TLS model would move all the module's __shared__ arrays into glibc's small static reserve.)
extern __thread Here here __attribute__((visibility("hidden")));

/// Waits for the block's other threads.
void barrier();

/// Waits for the lanes of `mask`; then published[i] is what lane i gave. Lanes outside the mask are not to be read.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value);

/// Runs body once for every thread of every block of the grid. Throws std::invalid_argument for a launch that no GPU would accept
/// and std::runtime_error when threads wait for each other for ever.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, void (*body)(void*), void* context);

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream, A&&... args) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> args;
  } call{kernel, std::tuple<P...>(std::forward<A>(args)...)};
  run_grid(
      grid, block, shared_bytes,
      [](void* context) {
        const Call& c = *static_cast<const Call*>(context);
        std::apply(c.kernel, c.args);
      },
      &call);
}

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(here.shared);
}

// --- vectors: GCC's and clang's vector extension, which has operators for whole vectors and for vector with scalar ---

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

/// 32-bit words without a sign, for random numbers.
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
  static constexpr int kWidth = W;
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

template <int W>
inline Vec<W> load(const float* p) {
  Vec<W> r;
  std::memcpy(&r.v, p, sizeof r.v);
  return r;
}

template <int W>
inline void store(float* p, Vec<W> x) {
  std::memcpy(p, &x.v, sizeof x.v);
}

/// The first `count` elements, 0 < count <= W; the others are zeros. Any alignment.
template <int W>
inline Vec<W> load_first(const float* p, int count) {
  Vec<W> r(0.0f);
  std::memcpy(&r.v, p, static_cast<std::size_t>(count) * sizeof(float));
  return r;
}

template <int W>
inline void store_first(float* p, int count, Vec<W> x) {
  std::memcpy(p, &x.v, static_cast<std::size_t>(count) * sizeof(float));
}

/// W bytes as floats. Any alignment.
template <int W>
inline Vec<W> load_bytes(const std::uint8_t* p) {
  typename NativeVector<std::uint8_t, W>::type bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return Vec<W>(__builtin_convertvector(bytes, typename Vec<W>::Native));
}

template <int W>
inline IntVec<W> load(const std::uint16_t* p) {
  typename IntVec<W>::Narrow narrow;
  std::memcpy(&narrow, p, sizeof narrow);
  IntVec<W> r;
  r.v = __builtin_convertvector(narrow, typename IntVec<W>::Native);
  return r;
}

template <int W>
inline void store(std::uint16_t* p, IntVec<W> x) {
  const auto narrow = __builtin_convertvector(x.v, typename IntVec<W>::Narrow);
  std::memcpy(p, &narrow, sizeof narrow);
}

/// a*b + c; one rounding where the target has the instruction (the compiler contracts it).
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

/// The low and the high words of a*b. Even and odd words are multiplied apart, as wide as their products.
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

/// f of every element, for functions that have no vector form.
template <int W, class F>
inline Vec<W> map(Vec<W> x, F f) {
  Vec<W> r;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) r.v[i] = f(x.v[i]);
  return r;
}

/// x^(-3/4), and 1/x, which costs little more, within 2 ulp for normal x > 0; a NaN stays one. A guess at y = x^(-1/4) from the bits
/// of x, off by 3 %; a step of Newton's method, its constants such that the error's two ends are equal, 0.1 %; then powers of y and
/// what is missing of them, from e = 1 - x y^4.
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

/// Transposes W vectors of W in registers: log2(W) rounds, each swapping blocks of half the size of the last.
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

// --- copies into shared memory that run in the background on a GPU: here they are done at once ---

template <int W>
inline void copy_async(float* shared, const float* global) {
  store<W>(shared, load<W>(global));
}
inline void copy_async_wait() {}

// --- warps ---

template <class T>
inline T shuffle_from(unsigned mask, T value, unsigned lane) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t), "a shuffle moves at most 64 bits");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits)[lane % kWarp];
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline unsigned lane() { return here.linear_thread % kWarp; }

}  // namespace simt

#define threadIdx (::simt::here.thread)
#define blockIdx (::simt::here.block)
#define blockDim (::simt::here.block_size)
#define gridDim (::simt::here.grid_size)

inline void __syncthreads() { simt::barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::exchange(mask, 0); }

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source) {
  return simt::shuffle_from(mask, value, static_cast<unsigned>(source));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  return simt::shuffle_from(mask, value, simt::lane() ^ static_cast<unsigned>(lane_mask));
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  const unsigned from = simt::lane() + delta;
  return simt::shuffle_from(mask, value, from < simt::kWarp ? from : simt::lane());
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const unsigned lane = simt::lane();
  return simt::shuffle_from(mask, value, lane >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  const std::uint64_t* votes = simt::exchange(mask, predicate);
  unsigned result = 0;
  for (unsigned i = 0; i < simt::kWarp; ++i)
    if ((mask >> i & 1u) && votes[i]) result |= 1u << i;
  return result;
}
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
inline bool __all_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) == mask; }

template <class T>
inline T atomicAdd(T* address, T value) {
  if constexpr (std::is_integral_v<T>) {
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
  } else {
    T seen, sum;
    __atomic_load(address, &seen, __ATOMIC_RELAXED);
    do sum = seen + value;
    while (!__atomic_compare_exchange(address, &seen, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return seen;
  }
}
template <class T>
inline T atomicMax(T* address, T value) {
  T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (seen < value && !__atomic_compare_exchange_n(address, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return seen;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32); }
