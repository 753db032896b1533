// The execution model on NVIDIA GPUs: plain CUDA, and the few names of simt.cuh that it lacks.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define SIMT_NVTX(call) call
#else
#define SIMT_NVTX(call)
#endif

#include "simt/storage.cuh"

#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_UNROLL SIMT_PRAGMA(unroll)
#define SIMT_UNROLL_LOOP SIMT_PRAGMA(unroll 2)

namespace simt {

/// A cudaStream_t.
using Stream = void*;

/// Throws std::runtime_error with the call, its source location and CUDA's reason.
inline void check(cudaError_t status, const char* what, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status) + " (" + file +
                           ":" + std::to_string(line) + ")");
}
#define SIMT_CHECK(call) ::simt::check((call), #call, __FILE__, __LINE__)

/// Multiprocessors of the current device, which are asked for once.
inline int multiprocessors() {
  constexpr int kDevices = 64;
  static std::atomic<int> known[kDevices];
  int device, count;
  SIMT_CHECK(cudaGetDevice(&device));
  if (device < kDevices && (count = known[device].load(std::memory_order_relaxed)) != 0) return count;
  SIMT_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  if (device < kDevices) known[device].store(count, std::memory_order_relaxed);
  return count;
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes, Stream stream, A&&... args) {
  constexpr std::size_t kDefaultSharedBytes = 48 * 1024;
  if (shared_bytes > kDefaultSharedBytes)
    SIMT_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(P(args)...);
  SIMT_CHECK(cudaGetLastError());
}

/// Names what is launched in its scope, in NVIDIA's profilers (NVTX). Does nothing where the toolkit lacks their library.
class Range {
 public:
  explicit Range([[maybe_unused]] const char* name) { SIMT_NVTX(nvtxRangePushA(name)); }
  ~Range() { SIMT_NVTX(nvtxRangePop()); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

template <class T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}

// --- memory ---

/// The integer type of an access of 2, 4, 8 or 16 bytes. Members of a struct may be stored one by one: nvcc merges such stores only where
/// it can still see that their addresses are consecutive.
template <std::size_t kBytes>
struct Access;
template <>
struct Access<2> {
  using Bits = std::uint16_t;
};
template <>
struct Access<4> {
  using Bits = std::uint32_t;
};
template <>
struct Access<8> {
  using Bits = std::uint64_t;
};
template <>
struct Access<16> {
  using Bits = unsigned __int128;
};

/// Reads a P in one access; the address is a multiple of its size.
template <class P>
__device__ __forceinline__ P read(const void* p) {
  return *static_cast<const P*>(p);
}
template <class P>
__device__ __forceinline__ void write(void* p, P x) {
  typename Access<sizeof(P)>::Bits bits;
  memcpy(&bits, &x, sizeof bits);
  *static_cast<decltype(bits)*>(p) = bits;
}

// --- asynchronous copies (sm_80 and newer): to shared memory without passing through registers ---

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define SIMT_HAS_ASYNC_COPIES 1
#else
#define SIMT_HAS_ASYNC_COPIES 0
#endif

/// Copies W elements; both addresses are multiples of an access's size (see access_width). Complete after copy_async_wait() and a barrier.
template <int W, class T>
__device__ __forceinline__ void copy_async(T* shared, const T* global) {
  constexpr int kAccess = access_width<T, W>();
  SIMT_UNROLL
  for (int i = 0; i < W; i += kAccess) {
#if SIMT_HAS_ASYNC_COPIES
    constexpr int kBytes = kAccess * sizeof(T);
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared + i));
    if constexpr (kBytes == 16)  // .cg bypasses the L1 cache and takes only 16 bytes
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global + i) : "memory");
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global + i), "n"(kBytes) : "memory");
#else
    write(shared + i, read<Packed<T, kAccess>>(global + i));
#endif
  }
}
/// Waits for all copies that this thread started.
__device__ __forceinline__ void copy_async_wait() {
#if SIMT_HAS_ASYNC_COPIES
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

}  // namespace simt
