// What a kernel may assume: CUDA's execution model and vocabulary, on either target.
//
// A kernel includes this header alone and is then written as plain CUDA: threadIdx, blockIdx, blockDim, gridDim,
// __shared__, __syncthreads(), __shfl_*_sync, __ballot_sync, atomicAdd. The words that CUDA lacks are
//   Vec<W>                 W floats that move together: 128-bit accesses on a GPU, a SIMD register on a CPU
//   load<W>, store<W>      a Vec from and to an array of float, or of another storage type (storage.cuh)
//   launch(kernel, grid, block, shared bytes, stream, args...)
//   shared_memory<T>()     the block's dynamic shared memory
//   copy_async, copy_async_wait   global to shared memory, in the background from sm_80 on
//   SIMT_UNROLL            unrolls a loop over registers; SIMT_UNROLL_LOOP unrolls a long loop by 2
//   SIMT_INLINE_ON_GPU     inlined on a GPU, a call on a CPU
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace simt {

/// CUDA's limits hold on both targets, so that a launch no GPU would accept fails where it is first run.
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

/// Division of 0 <= n < 2^31 by a divisor known at launch, as one multiplication (Granlund and Montgomery, 1994).
class FastDiv {
 public:
  FastDiv() = default;
  explicit FastDiv(int divisor) : divisor_(divisor) {
    unsigned shift = 0;
    while ((1ull << shift) < static_cast<unsigned long long>(divisor)) ++shift;
    shift_ = 31 + shift;
    multiplier_ = ((1ull << shift_) + divisor - 1) / divisor;
  }
  __host__ __device__ int quotient(int n) const { return static_cast<int>((static_cast<unsigned long long>(n) * multiplier_) >> shift_); }
  __host__ __device__ int divisor() const { return divisor_; }
  __host__ __device__ int split(int n, int& remainder) const {
    const int q = quotient(n);
    remainder = n - q * divisor_;
    return q;
  }

 private:
  int divisor_ = 1;
  unsigned long long multiplier_ = 1ull << 31;
  unsigned shift_ = 31;
};

}  // namespace simt
