// Forward passes of few images on a CPU, for the launcher.
#pragma once

#include "gemm/epilogue.cuh"
#include "kernels.hpp"
#include "target.cuh"

namespace pyalexnet {

/// At most so many images are few. With more, vectors of images are full enough, and Winograd's transforms pay. A GPU has none.
#if defined(__CUDACC__)
constexpr int kFewImages = 0;
#else
constexpr int kFewImages = 4;
#endif

/// Whether few_images_forward computes a forward pass of so many real images: on a CPU, unless another algorithm is asked for, or the
/// border is much larger than x.
bool are_few_images(const ConvShape& s, ConvAlgorithm wanted, int images);

/// Floats of workspace that few_images_forward needs for any number of images.
std::size_t few_images_workspace(const ConvShape& s);
/// y = the convolution, finished, of the first `images` images, with the direct product's bits; the other images' x count as zeros.
/// (conv/few_images.cu)
void few_images_forward(float* y, const float* x, const float* w, const AddBias& last, float* workspace, const ConvShape& s, int images,
                        StreamHandle stream);

}  // namespace pyalexnet
