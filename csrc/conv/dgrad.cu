// Convolution, gradient of the data: the filters turned around, times patches of the gradient.
#include "conv/operands.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet {

void conv_backward_data(float* dx, const float* dy, const float* w, const ConvShape& s, StreamHandle stream) {
  check_conv_sizes(s);
  const int channels = s.C / s.G, columns = s.H * s.W * s.N;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    const int steps = s.R * s.S * padded_filters<Tile::kVec>(s);
    tile_gemm<Tile>(FiltersByChannel<Tile>(w, s), GradientPatches<Tile::kVec>(dy, s),
                    StoreRows{dx, nullptr, Activation::kNone, channels, columns}, channels, columns, s.G,
                    Reduction{steps, simt::round_up(steps, Tile::kDepth), 1}, static_cast<simt::Stream>(stream));
  });
}

}  // namespace pyalexnet
