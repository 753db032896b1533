// Convolution, weight gradient: patches times gradients, summed over pixels and images. The result is small and the sum long, so the sum is
// split over blocks (split-K). The splits are added in a fixed order, so that every run gives the same bits.
#include "conv/operands.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet {
namespace {

/// Splits the sum over pixels and images. It depends only on the sizes, so the number of cores does not change the result.
template <class Tile>
SplitK split_k_of(const ConvShape& s) {
  const int length = s.P * s.Q * s.N, rows = s.C / s.G * s.R * s.S, columns = s.K / s.G;
  const std::int64_t tiles = std::int64_t{simt::ceil_div(rows, Tile::kRows)} * simt::ceil_div(columns, Tile::kCols) * s.G;
  const int k_tiles = simt::ceil_div(length, Tile::kDepth);
  constexpr int kMinKTiles = 4;  // per split: with fewer, adding the splits costs more than the parallelism saves
  const auto wanted = static_cast<int>(simt::ceil_div<std::int64_t>(Tile::kSplitTarget, tiles));
  const int splits = simt::min(wanted, simt::ceil_div(k_tiles, kMinKTiles));
  const int chunk = simt::ceil_div(k_tiles, splits) * Tile::kDepth;
  return {length, chunk, simt::ceil_div(length, chunk)};
}

// Computes  dw[i] = sum over splits of partial[split][i], first to last
// Layout    partial (splits, elements of dw)
// Mapping   a thread owns one element at a time
// Cost      splits - 1 additions, 4 (splits + 1) bytes an element: bound by memory
template <class Target>
__global__ void __launch_bounds__(Target::kThreads) add_splits_kernel(float* dw, const float* partial, std::int64_t elements, int splits) {
  constexpr int kPerBlock = Target::kThreads * Target::kVec * Target::kVecsPerThread;
  const std::int64_t begin = std::int64_t{blockIdx.x} * kPerBlock;
  const std::int64_t end = simt::min(elements, begin + kPerBlock);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += Target::kThreads) {
    float sum = partial[i];
    for (int split = 1; split < splits; ++split) sum += partial[split * elements + i];
    dw[i] = sum;
  }
}

std::int64_t elements_of(const ConvShape& s) { return std::int64_t{s.C / s.G} * s.R * s.S * s.K; }

}  // namespace

std::size_t conv_backward_weights_workspace(const ConvShape& s) {
  check_conv_shape(s);
  std::size_t floats = 0;
  for_each_gemm_tile([&](auto tile) {
    const SplitK split_k = split_k_of<decltype(tile)>(s);
    if (split_k.splits > 1) floats = std::max(floats, static_cast<std::size_t>(split_k.splits * elements_of(s)));
  });
  return floats;
}

template <class T>
void conv_backward_weights(float* dw, const T* x, const T* dy, float* workspace, const ConvShape& s, StreamHandle stream) {
  const simt::Range range(__func__);
  check_conv_shape(s);
  const int rows = s.C / s.G * s.R * s.S, columns = s.K / s.G;
  int splits = 1;
  with_gemm_tile([&](auto tile) {
    using Tile = decltype(tile);
    const SplitK split_k = split_k_of<Tile>(s);
    splits = split_k.splits;
    const StoreSplit epilogue{splits > 1 ? workspace : dw, elements_of(s), rows, columns, s.G, filters_are_aligned<Tile>(s)};
    tile_gemm<Tile>(PatchesByRow<T, Tile::kVec>(x, s), GradientByFilter<T>(dy, s), epilogue, rows, columns, s.G, split_k, stream);
  });
  if (splits == 1) return;
  with_target([&](auto target) {
    using Target = decltype(target);
    constexpr std::int64_t kPerBlock = Target::kThreads * Target::kVec * Target::kVecsPerThread;
    const auto blocks = static_cast<unsigned>(simt::ceil_div(elements_of(s), kPerBlock));
    simt::launch(add_splits_kernel<Target>, blocks, Target::kThreads, 0, stream, dw, workspace, elements_of(s), splits);
  });
}

template void conv_backward_weights(float*, const float*, const float*, float*, const ConvShape&, StreamHandle);

}  // namespace pyalexnet
