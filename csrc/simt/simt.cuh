// What a kernel may use on either target: CUDA's execution model and names.
//
// A kernel includes only this header and is plain CUDA: threadIdx, blockIdx, blockDim, gridDim, __shared__, __syncthreads(), __shfl_*_sync,
// __ballot_sync, atomicAdd. The names that CUDA lacks are
//   Vec<W>                 a vector of W floats: 128-bit accesses on a GPU, a SIMD register on a CPU
//   load<W>, store<W>      a Vec from and to an array of float, or of another storage type (storage.cuh)
//   store_streaming<W>, streaming_fence   stores past the caches, and the fence behind them
//   multiprocessors()      how many the device has
//   launch(kernel, grid, block, shared bytes, stream, args...)
//   Range                  names the launches in its scope, for a GPU's profilers
//   shared_memory<T>()     the block's dynamic shared memory
//   copy_async, copy_async_wait   copies from global to shared memory, asynchronous from sm_80 on
//   SIMT_UNROLL            unrolls a loop over registers; SIMT_UNROLL_LOOP unrolls a long loop by 2
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace simt {

/// CUDA's limits hold on both targets, so a launch that no GPU would accept already fails on the host.
constexpr unsigned kMaxThreadsPerBlock = 1024;
constexpr unsigned kMaxGridYZ = 65535;
constexpr int kWarp = 32;

}  // namespace simt

#if defined(__CUDACC__)
#include "simt/cuda.cuh"
#else
#include "simt/host.hpp"
#endif
#if defined(__CUDACC__) || defined(PYALEXNET_GPU_VECTORS)
#include "simt/vectors.cuh"
#else
#include "simt/native_vectors.hpp"
#endif

namespace simt {

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

template <class T>
__host__ __device__ constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

template <class T>
__host__ __device__ constexpr T min(T a, T b) {
  return b < a ? b : a;
}

template <class T>
__host__ __device__ constexpr T max(T a, T b) {
  return a < b ? b : a;
}

/// `blocks` as a grid's extent along x. Throws std::invalid_argument for more than a grid has.
inline unsigned grid_extent(std::int64_t blocks) {
  if (blocks < 1 || blocks > 0x7fffffff)
    throw std::invalid_argument("launch: grid is " + std::to_string(blocks) + " blocks; expected 1 to 2147483647");
  return static_cast<unsigned>(blocks);
}

/// Division of 0 <= n < 2^31 by a divisor known at launch, as one multiplication (Granlund and Montgomery, 1994): for
/// 2^(s-1) < d <= 2^s, floor(n / d) = floor(n m / 2^(31+s)) with m = ceil(2^(31+s) / d) < 2^32.
class FastDiv {
 public:
  FastDiv() = default;
  explicit FastDiv(int divisor) : divisor_(divisor) {
    while ((1ull << shift_) < static_cast<unsigned long long>(divisor)) ++shift_;
    multiplier_ = static_cast<unsigned>(((1ull << (31 + shift_)) + divisor - 1) / divisor);
  }
  __device__ int quotient(int n) const { return static_cast<int>(__umulhi(2u * static_cast<unsigned>(n), multiplier_) >> shift_); }
  __device__ int split(int n, int& remainder) const {
    const int q = quotient(n);
    remainder = n - q * divisor_;
    return q;
  }

 private:
  int divisor_ = 1;
  unsigned multiplier_ = 1u << 31;
  unsigned shift_ = 0;
};

}  // namespace simt
