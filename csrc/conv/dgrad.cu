// Convolution, data gradient: flipped filters times patches of the gradient.
#include "conv/operands.cuh"
#include "conv/winograd.hpp"
#include "gemm/split_k.cuh"

namespace pyalexnet {

namespace {
template <class Tile>
ProductShape product_of(const ConvShape& s) {
  return {s.C / s.G, s.H * s.W * s.N, s.G, s.R * s.S * padded_filters<Tile::kVec>(s)};
}
}  // namespace

std::size_t conv_backward_data_workspace(const ConvShape& s, ConvAlgorithm algorithm) {
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (chosen == ConvAlgorithm::kWinograd) return winograd::filter_floats(winograd::Pass::data_gradient(s));
#endif
  std::size_t floats = 0;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    const ProductShape product = product_of<Tile>(s);
    floats = split_floats(choose_output_split_k<Tile>(product), product);
  });
  return floats;
}

template <class T>
void conv_backward_data(T* dx, const T* dy, const T* w, const T* mask, float* workspace, const ConvShape& s, ConvAlgorithm algorithm,
                        StreamHandle stream) {
  const simt::Range range(__func__);
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (chosen == ConvAlgorithm::kWinograd) {
    const auto pass = winograd::Pass::data_gradient(s);
    winograd::transform_filters(workspace, w, pass, stream);
    winograd::convolve(dx, dy, workspace, MaskGradient<float>{mask}, pass, stream);
    return;
  }
#endif
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm_to_rows<Tile>(FiltersByChannel<T, Tile>(w, s), GradientPatches<T, Tile::kVec>(dy, s), dx, MaskGradient<T>{mask}, workspace,
                            product_of<Tile>(s), stream);
  });
}

template void conv_backward_data(float*, const float*, const float*, const float*, float*, const ConvShape&, ConvAlgorithm, StreamHandle);

}  // namespace pyalexnet
