// The targets, a GPU and a CPU, and the sizes that all kernels take from them.
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// Width of the host build's vectors, in floats: the widest native vector, or a GPU's.
#if defined(PYALEXNET_GPU_VECTORS)
constexpr int kCpuVec = 4;
#elif defined(__AVX512F__)
constexpr int kCpuVec = 16;
#elif defined(__AVX__)
constexpr int kCpuVec = 8;
#else
constexpr int kCpuVec = 4;
#endif

/// Sizes that all kernels take from their target; sizes of a single op are in its file. On a CPU a block is one thread, with enough work to
/// outweigh its dispatch.
///   kVec              width of a vector
///   kThreads          most threads per block
///   kVecsPerThread    vectors per thread of an element-wise kernel
///   kPixelsPerThread  the same for pooling, in pixels, each with all images
struct Gpu {
  static constexpr bool kOnGpu = true;
  static constexpr int kVec = 4;
  static constexpr int kThreads = 256;
  static constexpr int kVecsPerThread = 1;
  static constexpr int kPixelsPerThread = 1;
};
struct Cpu {
  static constexpr bool kOnGpu = false;
  static constexpr int kVec = kCpuVec;
  static constexpr int kThreads = 1;
  static constexpr int kVecsPerThread = 512;
  static constexpr int kPixelsPerThread = 64;
};

/// The number of images in an array is padded to a multiple of this.
#if defined(__CUDACC__) || defined(PYALEXNET_CUDA)
constexpr int kImagesMultiple = Gpu::kVec;
#else
constexpr int kImagesMultiple = kCpuVec;
#endif

/// Calls f with the target to run: on a GPU, Gpu; on the host, the one that the Execution selects.
template <class F>
void with_target(F f) {
#if defined(__CUDACC__)
  f(Gpu{});
#else
  if (simt::execution().tiles == simt::Tiles::kHost)
    f(Cpu{});
  else
    f(Gpu{});
#endif
}

}  // namespace pyalexnet
