// Convolution, weight gradient: patches times gradients, summed over pixels and images. The result is small and the sum long, so the sum is
// split over blocks (split-K). The splits are added in a fixed order, so that every run gives the same bits.
#include "conv/operands.cuh"
#include "conv/winograd.hpp"
#include "gemm/split_k.cuh"

namespace pyalexnet {
namespace {
ProductShape product_of(const ConvShape& s) { return {s.C / s.G * s.R * s.S, s.K / s.G, s.G, s.P * s.Q * s.N}; }

/// Whether to store past the caches: more than they hold for the optimiser, in whole, aligned vectors.
template <class Tile>
bool streams(const float* out, const ConvShape& s) {
  constexpr std::int64_t kLarge = std::int64_t{1} << 23;  // elements
  constexpr std::size_t kBytes = Tile::kVec * sizeof(float);
  return product_of(s).elements() >= kLarge && s.K / s.G % Tile::kVec == 0 && reinterpret_cast<std::uintptr_t>(out) % kBytes == 0;
}
}  // namespace

std::size_t conv_backward_weights_workspace(const ConvShape& s, ConvAlgorithm algorithm) {
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (chosen == ConvAlgorithm::kWinograd) return winograd::weight_gradient_floats(winograd::Pass::forward(s));
#endif
  const ProductShape product = product_of(s);
  std::size_t floats = 0;
  with_gemm_tile([&](auto tile) { floats = split_floats(choose_split_k<decltype(tile)>(product), product); });
  return floats;
}

template <class T>
void conv_backward_weights(float* dw, const T* x, const T* dy, float* workspace, const ConvShape& s, ConvAlgorithm algorithm,
                           StreamHandle stream) {
  const simt::Range range(__func__);
  [[maybe_unused]] const ConvAlgorithm chosen = conv_algorithm(s, algorithm);
#if !defined(__CUDACC__)
  if (chosen == ConvAlgorithm::kWinograd) return winograd::weight_gradient(dw, x, dy, workspace, winograd::Pass::forward(s), stream);
#endif
  const ProductShape product = product_of(s);
  int splits = 1;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    const SplitK split_k = choose_split_k<Tile>(product);
    splits = split_k.splits;
    const StoreSplit epilogue{splits > 1 ? workspace : dw,
                              product.elements(),
                              product.rows,
                              product.columns,
                              s.G,
                              filters_are_aligned<Tile>(s),
                              streams<Tile>(splits > 1 ? workspace : dw, s)};
    tile_gemm<Tile>(PatchesByRow<T, Tile::kVec>(x, s), GradientByFilter<T>(dy, s), epilogue, product.rows, product.columns, s.G, split_k,
                    stream);
  });
  if (splits > 1) add_splits(dw, workspace, AddBias{}, product.elements(), 1, splits, stream);
}

template void conv_backward_weights(float*, const float*, const float*, float*, const ConvShape&, ConvAlgorithm, StreamHandle);

}  // namespace pyalexnet
