// Convolution, forward: filters times patches, gathered on the way (implicit GEMM). A fully connected layer is the case of one pixel.
#include "conv/operands.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet {

void conv_forward(float* y, const float* x, const float* w, const float* b, const ConvShape& s, Activation activation,
                  StreamHandle stream) {
  check_conv_sizes(s);
  const int filters = s.K / s.G, columns = s.P * s.Q * s.N, taps = s.C / s.G * s.R * s.S;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm<Tile>(FiltersByRow<Tile>(w, s), PatchesByColumn<Tile::kVec>(x, s), StoreRows{y, b, activation, filters, columns}, filters,
                    columns, s.G, Reduction{taps, simt::round_up(taps, Tile::kDepth), 1}, static_cast<simt::Stream>(stream));
  });
}

}  // namespace pyalexnet
