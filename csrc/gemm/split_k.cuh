// Split-K: divides the reduction of a product among blocks where its tiles alone would leave a GPU idle, and adds the splits in order.
#pragma once

#include <algorithm>

#include "gemm/epilogue.cuh"
#include "gemm/tile_gemm.cuh"
#include "ops/elementwise.cuh"

namespace pyalexnet {

constexpr int kMinKTiles = 4;  // per split: with fewer, adding the splits costs more than the parallelism saves
constexpr std::int64_t kMaxSplitFloats = std::int64_t{1} << 26;  // of all splits of a product

/// A product's sizes: C is `groups` times rows x columns.
struct ProductShape {
  int rows, columns, groups, length;
  std::int64_t elements() const { return std::int64_t{rows} * columns * groups; }
};

/// Estimated time of a product on a GPU, in k tiles of an SM that holds kBlocksPerSm blocks. Measured on an H100: a block alone on an SM
/// takes 0.61 of what two take together, and launching, filling and storing cost a block some 8 k tiles.
template <class Tile>
double product_cost(std::int64_t tiles, int k_tiles, int splits, std::int64_t elements, int multiprocessors) {
  static_assert(Tile::kBlocksPerSm == 2, "kAlone is for two blocks an SM");
  constexpr double kAlone = 0.61, kFixed = 8, kLaunch = 3, kBytesPerFlop = 0.08;
  const std::int64_t blocks = simt::ceil_div<std::int64_t>(tiles * splits, multiprocessors);  // of the busiest SM
  const double rounds = static_cast<double>(blocks / 2) + (blocks % 2 != 0 ? kAlone : 0.0);
  const double product = rounds * (simt::ceil_div(k_tiles, splits) + kFixed);
  if (splits == 1) return product;
  const double bytes_per_k_tile = kBytesPerFlop * 2.0 * Tile::kRows * Tile::kCols * Tile::kDepth * 2 * multiprocessors;
  return product + kLaunch + 4.0 * static_cast<double>(elements) * (2 * splits + 1) / bytes_per_k_tile;
}

/// Splits a product's sum. On a GPU, the choice depends on the sizes and the number of multiprocessors; on a CPU on the sizes alone, so
/// the number of cores does not change the result.
template <class Tile>
SplitK choose_split_k(const ProductShape& s) {
  const std::int64_t tiles = std::int64_t{simt::ceil_div(s.rows, Tile::kRows)} * simt::ceil_div(s.columns, Tile::kCols) * s.groups;
  const int k_tiles = simt::ceil_div(s.length, Tile::kDepth);
  int splits = 1;
  if constexpr (Tile::kOnGpu) {
    const int sms = simt::multiprocessors();
    const std::int64_t most = std::min<std::int64_t>(simt::ceil_div(k_tiles, kMinKTiles), kMaxSplitFloats / s.elements());
    double best = product_cost<Tile>(tiles, k_tiles, 1, s.elements(), sms);
    for (int blocks = 1; blocks <= 8; ++blocks) {  // an SM; more only add up longer
      const auto candidate = static_cast<int>(std::min(most, std::int64_t{blocks} * sms / tiles));
      if (candidate <= 1) continue;
      const double cost = product_cost<Tile>(tiles, k_tiles, candidate, s.elements(), sms);
      if (cost < best) best = cost, splits = candidate;
    }
  } else {
    const auto wanted = static_cast<int>(simt::ceil_div<std::int64_t>(Tile::kSplitTarget, tiles));
    splits = simt::min(wanted, simt::ceil_div(k_tiles, kMinKTiles));
  }
  const int chunk = simt::ceil_div(k_tiles, splits) * Tile::kDepth;
  return {s.length, chunk, simt::ceil_div(s.length, chunk)};
}

/// As choose_split_k, for a product whose columns are images: CPU tiles do not split it, as it has enough of them.
template <class Tile>
SplitK choose_output_split_k(const ProductShape& s) {
  if constexpr (Tile::kOnGpu) return choose_split_k<Tile>(s);
  return unsplit(s.length);
}

/// Floats that the splits of a product take.
inline std::size_t split_floats(const SplitK& split_k, const ProductShape& s) {
  return split_k.splits == 1 ? 0 : static_cast<std::size_t>(split_k.splits * s.elements());
}

// Computes  out[i] = sum over splits of partial[split][i], first to last, finished as an element of row i / columns
// Layout    partial (splits, elements), out (elements)
// Mapping   a thread owns whole vectors of W elements
// Cost      splits additions, 4 (splits + 1) bytes an element: bound by memory
template <class Target, int W, class T, class Finish>
__global__ void __launch_bounds__(Target::kThreads)
    add_splits_kernel(T* out, const float* partial, Finish last, std::int64_t elements, simt::FastDiv by_columns, int splits) {
  constexpr int kAtOnce = 8;  // loads in flight
  std::int64_t i = (std::int64_t{blockIdx.x} * Target::kThreads * Target::kVecsPerThread + threadIdx.x) * W;
  for (int v = 0; v < Target::kVecsPerThread && i < elements; ++v, i += Target::kThreads * W) {
    const int count = static_cast<int>(simt::min<std::int64_t>(W, elements - i));
    const auto piece = [&](int split) {
      const float* from = partial + split * elements + i;
      return count == W ? simt::load<W>(from) : simt::load_first<W>(from, count);
    };
    simt::Vec<W> sum = piece(0);
    int split = 1;
    for (; split + kAtOnce <= splits; split += kAtOnce) {
      simt::Vec<W> pieces[kAtOnce];
      SIMT_UNROLL
      for (int j = 0; j < kAtOnce; ++j) pieces[j] = piece(split + j);
      SIMT_UNROLL
      for (int j = 0; j < kAtOnce; ++j) sum = sum + pieces[j];
    }
    for (; split < splits; ++split) sum = sum + piece(split);
    if (count == W)
      simt::store<W>(out + i, last.finish(by_columns.quotient(static_cast<int>(i)), i, sum));
    else
      simt::store_first<W>(out + i, count, sum);
  }
}

/// Adds the splits of a product and finishes the sums; a row is `columns` consecutive elements. Where `elements` are no multiple of the
/// vector's width, the last ones are not finished.
template <class T, class Finish>
void add_splits(T* out, const float* partial, const Finish& last, std::int64_t elements, int columns, int splits, simt::Stream stream) {
  with_target([&](auto target) {
    using Target = decltype(target);
    const auto launch = [&](auto width) {
      constexpr int W = decltype(width)::value;
      constexpr std::int64_t kPerBlock = std::int64_t{Target::kThreads} * Target::kVecsPerThread * W;
      simt::launch(add_splits_kernel<Target, W, T, Finish>, simt::grid_extent(simt::ceil_div(elements, kPerBlock)), Target::kThreads, 0,
                   stream, out, partial, last, elements, simt::FastDiv(columns), splits);
    };
    if (Target::kOnGpu && elements % Target::kVec != 0)  // the splits are not aligned
      launch(std::integral_constant<int, 1>{});
    else
      launch(std::integral_constant<int, Target::kVec>{});
  });
}

/// Launches a product whose columns are images: out[group][row][column] = C, finished. `workspace` has split_floats.
template <class Tile, class A, class B, class T, class Finish>
void tile_gemm_to_rows(const A& a, const B& b, T* out, const Finish& last, float* workspace, const ProductShape& s, simt::Stream stream) {
  const SplitK split_k = choose_output_split_k<Tile>(s);
  if (split_k.splits == 1) {
    const StoreRows<T, Finish> epilogue{out, last, s.rows, s.columns, 0};
    tile_gemm<Tile>(a, b, epilogue, s.rows, s.columns, s.groups, split_k, stream);
    return;
  }
  if constexpr (Tile::kOnGpu) {
    const StoreRows<float, Finish> epilogue{workspace, Finish{}, s.rows, s.columns, s.elements()};
    tile_gemm<Tile>(a, b, epilogue, s.rows, s.columns, s.groups, split_k, stream);
    add_splits(out, workspace, last, s.elements(), s.columns, split_k.splits, stream);
  }
}

}  // namespace pyalexnet
