// How the kernels of csrc/ops distribute vectors and pixels over threads.
#pragma once

#include "kernels.hpp"
#include "target.cuh"

namespace pyalexnet {

/// Calls f(i) for each vector that the running thread owns in an array of `count` elements; i is the index of its first element. Adjacent
/// threads own adjacent vectors.
template <class Target, class F>
__device__ __forceinline__ void for_own_vectors(std::int64_t count, F f) {
  constexpr int kPerBlock = Target::kThreads * Target::kVecsPerThread;
  std::int64_t i = (std::int64_t{blockIdx.x} * kPerBlock + threadIdx.x) * Target::kVec;
  for (int v = 0; v < Target::kVecsPerThread && i < count; ++v) {
    f(i);
    i += Target::kThreads * Target::kVec;
  }
}

/// y[i] = f(x[i], ...) for the vectors that the running thread owns in arrays of `count` elements; the last vector may be partial.
template <class Target, class F, class Y, class... X>
__device__ __forceinline__ void map_arrays(std::int64_t count, F f, Y* y, const X*... x) {
  constexpr int W = Target::kVec;
  for_own_vectors<Target>(count, [=](std::int64_t i) {
    if (count - i >= W) {
      simt::store<W>(y + i, f(simt::load<W>(x + i)...));
    } else {
      const int rest = static_cast<int>(count - i);
      simt::store_first<W>(y + i, rest, f(simt::load_first<W>(x + i, rest)...));
    }
  });
}

/// Whether a kernel stores its result of `elements` past the caches: they would not keep it for who reads it next, so lines are not read
/// to be overwritten. Only whole, aligned vectors are.
template <class Target, class T>
bool streams(const T* out, std::int64_t elements) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 22;
  return std::is_same_v<T, float> && elements >= kLarge && reinterpret_cast<std::uintptr_t>(out) % (Target::kVec * sizeof(float)) == 0;
}

/// Stores a vector, past the caches if `streaming`; the thread then ends with simt::streaming_fence().
template <int W, class T>
__device__ __forceinline__ void store(T* to, simt::Vec<W> x, bool streaming) {
  if constexpr (std::is_same_v<T, float>) {
    if (streaming) return simt::store_streaming<W>(to, x);
  }
  simt::store<W>(to, x);
}

/// The grid for for_own_vectors.
template <class Target>
dim3 vectors_grid(std::int64_t count) {
  constexpr std::int64_t kPerBlock = std::int64_t{Target::kThreads} * Target::kVecsPerThread * Target::kVec;
  return dim3(simt::grid_extent(count / kPerBlock + (count % kPerBlock != 0)));
}

/// The block for arrays whose last axis is images: threadIdx.x runs along vectors of images, threadIdx.y along pixels.
template <class Target>
dim3 pixels_block(int N) {
  unsigned across = 1;
  while (across < Target::kThreads && static_cast<int>(across) * Target::kVec < N) across *= 2;
  return dim3(across, Target::kThreads / across);
}

/// Calls f(pixel) for each of the `pixels` that the running thread's row of the block owns. Blocks are numbered along blockIdx.x.
template <class Target, class F>
__device__ __forceinline__ void for_own_pixels(int pixels, F f) {
  std::int64_t pixel = std::int64_t{blockIdx.x} * Target::kPixelsPerThread * blockDim.y + threadIdx.y;
  for (int i = 0; i < Target::kPixelsPerThread && pixel < pixels; ++i) {
    f(static_cast<int>(pixel));
    pixel += blockDim.y;
  }
}

/// The grid's extent for for_own_pixels.
template <class Target>
unsigned pixels_blocks(int pixels, dim3 block) {
  return simt::ceil_div(static_cast<unsigned>(pixels), block.y * Target::kPixelsPerThread);
}

}  // namespace pyalexnet
