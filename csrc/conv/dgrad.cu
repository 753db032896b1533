// Convolution, data gradient: flipped filters times patches of the gradient.
#include "conv/operands.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet {

template <class T>
void conv_backward_data(T* dx, const T* dy, const T* w, const ConvShape& s, StreamHandle stream) {
  const simt::Range range(__func__);
  check_conv_shape(s);
  const int channels = s.C / s.G, columns = s.H * s.W * s.N;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm<Tile>(FiltersByChannel<T, Tile>(w, s), GradientPatches<T, Tile::kVec>(dy, s),
                    StoreRows<T>{dx, nullptr, Activation::kNone, channels, columns}, channels, columns, s.G,
                    unsplit(s.R * s.S * padded_filters<Tile::kVec>(s)), stream);
  });
}

template void conv_backward_data(float*, const float*, const float*, const ConvShape&, StreamHandle);

}  // namespace pyalexnet
