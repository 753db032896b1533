// CUDA's execution model on a CPU: a block is a task of a thread pool, a CUDA thread is a fiber of the worker that runs the block.
//
// A worker runs one block at a time, so __shared__ is thread_local storage. Threads run one at a time and switch only where they wait for
// each other: at __syncthreads() and at warp operations. The Execution's order says which runnable thread goes first; a kernel that has its
// barriers gives the same bits in every order.
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
#define SIMT_UNROLL_LOOP SIMT_PRAGMA(GCC unroll 2)

#include "simt/storage.cuh"

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace simt {

/// Unused: a launch returns when its work is done. It gives the launchers one signature on both targets.
using Stream = void*;

enum class Order { kForward, kReverse, kShuffled };

/// Which instantiation of a kernel runs: the CPU's, a GPU's on the CPU, or (kGpuPlainLoads) sm_75's, which has no asynchronous copies.
enum class Tiles { kHost, kGpu, kGpuPlainLoads };

/// How launches run. For tests and debugging; set it only between launches.
struct Execution {
  Order order = Order::kForward;
  std::uint64_t seed = 0;
  Tiles tiles = Tiles::kHost;
  std::int64_t l2_bytes = 0;  // what l2_bytes() returns, if not 0
};
Execution& execution();

/// Multiprocessors of the GPU whose tiles the host runs: an H100's.
inline int multiprocessors() { return 132; }

/// Bytes of a core's L2 cache; a usual size where the system does not tell.
std::int64_t l2_bytes();

/// The running thread's position. The fiber scheduler updates it at each switch.
struct Here {
  uint3 thread{0, 0, 0};
  uint3 block{0, 0, 0};
  dim3 block_size;
  dim3 grid_size;
  unsigned linear_thread = 0;
  std::byte* shared = nullptr;
};
// __thread: constant initialisation, so that an access needs no check. Hidden: a function computes the address once. (A faster TLS model
// would move all the module's __shared__ arrays into glibc's small static reserve.)
extern __thread Here here __attribute__((visibility("hidden")));

/// Waits for the block's other threads.
void barrier();

/// Waits for the lanes of `mask`, then returns what they gave, indexed by lane. Lanes outside the mask are undefined.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value);

/// Runs body once for every thread of every block of the grid. Throws std::invalid_argument for a launch that no GPU would accept, and
/// std::runtime_error if threads deadlock.
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

/// Names launches for a GPU's profilers; does nothing here.
struct [[maybe_unused]] Range {
  explicit Range(const char*) {}
};

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(here.shared);
}

// --- memory ---

/// Reads a P at any address.
template <class P>
inline P read(const void* p) {
  P x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
template <class P>
inline void write(void* p, P x) {
  std::memcpy(p, &x, sizeof x);
}

// --- copies into shared memory, which are asynchronous on a GPU ---

/// Defers a copy to the running thread's next copy_async_wait(); without one, it never happens.
void defer_copy(void* to, const void* from, std::size_t bytes);
/// Makes the running thread's deferred copies.
void run_deferred_copies();

/// Copies at once in the forward order. In any other order it copies at the wait and no sooner, so that a missing wait shows.
template <int W, class T>
inline void copy_async(T* shared, const T* global) {
  if (execution().order == Order::kForward)
    write(shared, read<Packed<T, W>>(global));
  else
    defer_copy(shared, global, W * sizeof(T));
}
inline void copy_async_wait() {
  if (execution().order != Order::kForward) run_deferred_copies();
}

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
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32); }
