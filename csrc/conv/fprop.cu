// Convolution, forward: filters times patches, gathered while staging (implicit GEMM). A fully connected layer is the one-pixel case.
#include "conv/operands.cuh"
#include "gemm/split_k.cuh"

namespace pyalexnet {

namespace {
ProductShape product_of(const ConvShape& s) { return {s.K / s.G, s.P * s.Q * s.N, s.G, s.C / s.G * s.R * s.S}; }
}  // namespace

std::size_t conv_forward_workspace(const ConvShape& s) {
  check_conv_shape(s);
  const ProductShape product = product_of(s);
  std::size_t floats = 0;
  with_gemm_tile([&](auto tile) { floats = split_floats(choose_output_split_k<decltype(tile)>(product), product); });
  return floats;
}

template <class T>
void conv_forward(T* y, const T* x, const T* w, const float* b, float* workspace, const ConvShape& s, Activation activation,
                  StreamHandle stream) {
  const simt::Range range(__func__);
  check_conv_shape(s);
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    tile_gemm_to_rows<Tile>(FiltersByRow<T, Tile>(w, s), PatchesByColumn<T, Tile::kVec>(x, s), y, AddBias{b, activation}, workspace,
                            product_of(s), stream);
  });
}

template void conv_forward(float*, const float*, const float*, const float*, float*, const ConvShape&, Activation, StreamHandle);
#if defined(PYALEXNET_TEST_BUILD)
template void conv_forward(simt::Bf16*, const simt::Bf16*, const simt::Bf16*, const float*, float*, const ConvShape&, Activation,
                           StreamHandle);
#endif

}  // namespace pyalexnet
