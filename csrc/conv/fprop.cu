// Convolution, forward: filters times patches, gathered while staging (implicit GEMM). A fully connected layer is the one-pixel case.
#include "conv/choose.hpp"
#include "conv/few_images.hpp"
#include "conv/operands.cuh"
#include "conv/winograd.hpp"
#include "gemm/split_k.cuh"

namespace pyalexnet {

namespace {
ProductShape product_of(const ConvShape& s) { return {s.K / s.G, s.P * s.Q * s.N, s.G, s.C / s.G * s.R * s.S}; }
}  // namespace

ConvAlgorithm conv_algorithm(const ConvShape& s, ConvAlgorithm wanted) {
  check_conv_shape(s);
  return choose_conv(s, wanted);
}

int few_images() { return kFewImages; }

std::size_t conv_filter_floats(const ConvShape& s, ConvAlgorithm algorithm, [[maybe_unused]] int images) {
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (chosen == ConvAlgorithm::kWinograd && !are_few_images(s, algorithm, images))
    return winograd::filter_floats(winograd::Pass::forward(s));
#endif
  return 0;
}

std::size_t conv_forward_workspace(const ConvShape& s, ConvAlgorithm algorithm, int images) {
  const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (are_few_images(s, algorithm, images)) return few_images_workspace(s);
#endif
  if (chosen == ConvAlgorithm::kWinograd) return conv_filter_floats(s, algorithm, images);
  const ProductShape product = product_of(s);
  std::size_t floats = 0;
  with_gemm_tile([&](auto tile) { floats = split_floats(choose_output_split_k<decltype(tile)>(product), product); });
  return floats;
}

template <class T>
void conv_forward(T* y, const T* x, const T* w, const float* b, float* workspace, bool transformed, const ConvShape& s,
                  Activation activation, ConvAlgorithm algorithm, int images, StreamHandle stream) {
  const simt::Range range(__func__);
  if (images < 1 || images > s.N)
    throw std::invalid_argument("images is " + std::to_string(images) + "; expected 1 to " + std::to_string(s.N) +
                                ", the last extent of x");
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if constexpr (std::is_same_v<T, float>) {
    if (are_few_images(s, algorithm, images)) return few_images_forward(y, x, w, AddBias{b, activation}, workspace, s, images, stream);
    if (chosen == ConvAlgorithm::kWinograd) {
      const auto pass = winograd::Pass::forward(s);
      if (!transformed) winograd::transform_filters(workspace, w, pass, stream);
      winograd::convolve(y, x, workspace, AddBias{b, activation}, pass, stream);
      return;
    }
  }
#endif
  static_cast<void>(transformed);
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm_to_rows<Tile>(FiltersByRow<T, Tile>(w, s), PatchesByColumn<T, Tile::kVec>(x, s), y, AddBias{b, activation}, workspace,
                            product_of(s), stream);
  });
}

template void conv_forward(float*, const float*, const float*, const float*, float*, bool, const ConvShape&, Activation, ConvAlgorithm, int,
                           StreamHandle);
#if defined(PYALEXNET_TEST_BUILD)
template void conv_forward(simt::Bf16*, const simt::Bf16*, const simt::Bf16*, const float*, float*, bool, const ConvShape&, Activation,
                           ConvAlgorithm, int, StreamHandle);
#endif

}  // namespace pyalexnet
