// Convolution, forward: filters times patches, gathered while staging (implicit GEMM). A fully connected layer is the one-pixel case.
#include "conv/operands.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet {

template <class T>
void conv_forward(T* y, const T* x, const T* w, const float* b, const ConvShape& s, Activation activation, StreamHandle stream) {
  const simt::Range range(__func__);
  check_conv_shape(s);
  const int filters = s.K / s.G, columns = s.P * s.Q * s.N, taps = s.C / s.G * s.R * s.S;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm<Tile>(FiltersByRow<T, Tile>(w, s), PatchesByColumn<T, Tile::kVec>(x, s), StoreRows<T>{y, b, activation, filters, columns},
                    filters, columns, s.G, unsplit(taps), stream);
  });
}

template void conv_forward(float*, const float*, const float*, const float*, const ConvShape&, Activation, StreamHandle);
#if defined(PYALEXNET_TEST_BUILD)
template void conv_forward(simt::Bf16*, const simt::Bf16*, const simt::Bf16*, const float*, const ConvShape&, Activation, StreamHandle);
#endif

}  // namespace pyalexnet
