// How the ops' kernels deal an array's vectors out to threads.
#pragma once

#include "kernels.hpp"
#include "tiles.cuh"

namespace pyalexnet {

inline simt::Stream stream_of(StreamHandle stream) { return static_cast<simt::Stream>(stream); }

/// Calls f(i) for each vector of an array of `count` floats that the running thread owns: i is the index of its first float.
/// Neighbouring threads own neighbouring vectors.
template <class T, class F>
__device__ __forceinline__ void for_own_vectors(std::int64_t count, F f) {
  constexpr int kPerBlock = T::kThreads * T::kVecsPerThread;
  std::int64_t i = (std::int64_t{blockIdx.x} * kPerBlock + threadIdx.x) * T::kVec;
  for (int v = 0; v < T::kVecsPerThread && i < count; ++v) {
    f(i);
    i += T::kThreads * T::kVec;
  }
}

/// The grid for for_own_vectors.
template <class T>
dim3 vectors_grid(std::int64_t count) {
  constexpr std::int64_t kPerBlock = std::int64_t{T::kThreads} * T::kVecsPerThread * T::kVec;
  return dim3(static_cast<unsigned>(simt::ceil_div(count, kPerBlock)));
}

/// A block for arrays whose last axis is images: threadIdx.x goes along the images' vectors, threadIdx.y along pixels.
template <class T>
dim3 pixels_block(int N) {
  unsigned across = 1;
  while (across < T::kThreads && static_cast<int>(across) * T::kVec < N) across *= 2;
  return dim3(across, T::kThreads / across);
}

/// Calls f(pixel) for each of the `pixels` that the running thread owns together with its row of the block. Blocks are numbered along
/// blockIdx.x.
template <class T, class F>
__device__ __forceinline__ void for_own_pixels(int pixels, F f) {
  std::int64_t pixel = std::int64_t{blockIdx.x} * T::kPixelsPerThread * blockDim.y + threadIdx.y;
  for (int i = 0; i < T::kPixelsPerThread && pixel < pixels; ++i) {
    f(static_cast<int>(pixel));
    pixel += blockDim.y;
  }
}

/// The grid's extent for for_own_pixels.
template <class T>
unsigned pixels_blocks(int pixels, dim3 block) {
  return simt::ceil_div(static_cast<unsigned>(pixels), block.y * T::kPixelsPerThread);
}

}  // namespace pyalexnet
