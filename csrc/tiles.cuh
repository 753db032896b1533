// The sizes of every kernel's work units, for each target, in one place.
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// Width of the host build's vectors, in floats: its widest native one, or a GPU's.
#if defined(PYALEXNET_GPU_VECTORS)
constexpr int kHostVec = 4;
#elif defined(__AVX512F__)
constexpr int kHostVec = 16;
#elif defined(__AVX__)
constexpr int kHostVec = 8;
#else
constexpr int kHostVec = 4;
#endif

/// What the kernels of ops/ take from their target. On a CPU a block is one thread that runs long enough to outweigh its dispatch.
///   kVec                 width of a vector
///   kThreads             threads of a block, at most
///   kVecsPerThread       vectors that a thread of an element-wise kernel takes before its block is done
///   kPixelsPerThread     the same for pooling, in pixels, each with all images
///   kLrnVecs             adjacent vectors that a thread of LRN takes along from channel to channel: on a CPU half a memory page
///   kSoftmaxVecs, kSoftmaxThreads   vectors of images that a block of softmax has, and the threads that share one's classes
///   kAugmentImages, kAugmentElements, kAugmentThreads   tile of the input kernel, and how many of the block's threads lie along
///                        its elements
struct Gpu {
  static constexpr int kVec = 4;
  static constexpr int kThreads = 256;
  static constexpr int kVecsPerThread = 1;
  static constexpr int kPixelsPerThread = 1;
  static constexpr int kLrnVecs = 1;
  static constexpr int kSoftmaxVecs = 2, kSoftmaxThreads = 128;
  static constexpr int kAugmentImages = 32, kAugmentElements = 128, kAugmentThreads = 32;
};
struct Host {
  static constexpr int kVec = kHostVec;
  static constexpr int kThreads = 1;
  static constexpr int kVecsPerThread = 512;
  static constexpr int kPixelsPerThread = 64;
  static constexpr int kLrnVecs = 512 / kHostVec;
  static constexpr int kSoftmaxVecs = 1, kSoftmaxThreads = 1;
  static constexpr int kAugmentImages = kHostVec, kAugmentElements = 256, kAugmentThreads = 1;
};

/// The number of images in an array is padded to a multiple of this.
#if defined(__CUDACC__) || defined(PYALEXNET_CUDA)
constexpr int kImagesMultiple = Gpu::kVec;
#else
constexpr int kImagesMultiple = kHostVec;
#endif

/// Calls f with the target whose instantiation is to run: on a GPU its own, on the host the one that the Execution asks for.
template <class F>
void with_target(F f) {
#if defined(__CUDACC__)
  f(Gpu{});
#else
  if (simt::execution().tiles == simt::Tiles::kHost)
    f(Host{});
  else
    f(Gpu{});
#endif
}

}  // namespace pyalexnet
