// Fully connected layers of few images, for the forward pass's launcher.
#pragma once

#include "gemm/epilogue.cuh"
#include "kernels.hpp"
#include "target.cuh"

namespace pyalexnet {

/// At most so many images are few. With more, vectors of images are full enough.
constexpr int kFewImages = 4;

/// Whether few_images_forward computes a forward pass of so many real images: on a CPU, of a fully connected layer.
inline bool are_few_images(const ConvShape& s, int images) {
#if defined(__CUDACC__)
  static_cast<void>(s), static_cast<void>(images);
  return false;
#else
  const bool one_pixel = s.H == 1 && s.W == 1 && s.R == 1 && s.S == 1 && s.P == 1 && s.Q == 1 && s.pad == 0 && s.G == 1;
  return simt::execution().tiles == simt::Tiles::kHost && one_pixel && images <= kFewImages && images <= kCpuVec;
#endif
}

/// y = the layer, finished, of the first `images` images, with the direct product's bits; the other images' x count as zeros.
/// (conv/few_images.cu)
void few_images_forward(float* y, const float* x, const float* w, const AddBias& last, const ConvShape& s, int images, StreamHandle stream);

}  // namespace pyalexnet
