// Winograd's convolutions (Winograd 1980; Lavin and Gray 2016): a tile of m x m outputs under r x r filters takes (m + r - 1)^2 products
// instead of m^2 r^2. All are sums over products in a transformed space:
//
//   forward          y  = A^T [ sum over channels         (G w G^T) . (B^T x B)  ] A
//   data gradient    the same of dy, with turned filters
//   weight gradient  dw = G^T [ sum over pixels, images   (B^T x B) . (A dy A^T) ] G
//
// An output is cut into tiles of m and of m - 1 pixels, without waste: 13 = 4 + 3 + 3 + 3. Both sizes share their transformed filters, as
// the points of the smaller size are a subset of the larger one's, and as filters are transformed without scaling (B holds it).
//
// For CPUs: a GPU's kernels are direct.
#pragma once

#include <utility>

#include "conv/choose.hpp"
#include "gemm/tiles.cuh"

namespace pyalexnet::winograd {

/// Toom and Cook's matrices for kPixels outputs of a filter of kTaps: polynomials, evaluated at kPoints points, the last one infinity.
template <int kPixels, int kTaps>
struct ToomCook {
  static constexpr int kPoints = kPixels + kTaps - 1;
  double output[kPixels][kPoints]{};  // A^T
  double filter[kPoints][kTaps]{};    // G
  double input[kPoints][kPoints]{};   // B^T

  constexpr ToomCook() {
    constexpr double kFinite[] = {0, 1, -1, 0.5, -2, 2};  // in order of use: smaller tiles leave out the last ones
    static_assert(kPoints <= 7, "there is a point for each product");
    constexpr int kInfinity = kPoints - 1;
    for (int point = 0; point < kPoints; ++point) {
      double power = 1;
      for (int i = 0; i < kPixels || i < kTaps; ++i) {
        if (i < kPixels) output[i][point] = point < kInfinity ? power : (i == kPixels - 1);
        if (i < kTaps) filter[point][i] = point < kInfinity ? power : (i == kTaps - 1);
        if (point < kInfinity) power *= kFinite[point];
      }
      // The row of B^T: coefficients of the product of (x - other point) over the other finite points, over its value at this one.
      double coefficients[kPoints + 1]{1};
      int degree = 0;
      double value = 1;
      for (int other = 0; other < kInfinity; ++other) {
        if (other == point) continue;
        for (int i = degree + 1; i > 0; --i) coefficients[i] = coefficients[i - 1] - kFinite[other] * coefficients[i];
        coefficients[0] *= -kFinite[other];
        ++degree;
        if (point < kInfinity) value *= kFinite[point] - kFinite[other];
      }
      for (int i = 0; i < kPoints; ++i) input[point][i] = i <= degree ? coefficients[i] / value : 0;
    }
  }
};
template <int kPixels, int kTaps>
inline constexpr ToomCook<kPixels, kTaps> kToomCook{};

/// What a 1-D transform multiplies by: B^T, G, A^T; A and G^T for the weight gradient.
enum class Matrix { kInput, kFilter, kOutput, kGradient, kFilterGradient };

template <int kPixels, int kTaps, Matrix kMatrix>
constexpr int rows_of() {
  if (kMatrix == Matrix::kOutput) return kPixels;
  if (kMatrix == Matrix::kFilterGradient) return kTaps;
  return kPixels + kTaps - 1;
}
template <int kPixels, int kTaps, Matrix kMatrix>
constexpr int columns_of() {
  if (kMatrix == Matrix::kFilter) return kTaps;
  if (kMatrix == Matrix::kGradient) return kPixels;
  return kPixels + kTaps - 1;
}
template <int kPixels, int kTaps, Matrix kMatrix>
constexpr float element(int row, int column) {
  constexpr const ToomCook<kPixels, kTaps>& t = kToomCook<kPixels, kTaps>;
  if (kMatrix == Matrix::kInput) return static_cast<float>(t.input[row][column]);
  if (kMatrix == Matrix::kFilter) return static_cast<float>(t.filter[row][column]);
  if (kMatrix == Matrix::kOutput) return static_cast<float>(t.output[row][column]);
  if (kMatrix == Matrix::kGradient) return static_cast<float>(t.output[column][row]);
  return static_cast<float>(t.filter[column][row]);
}

/// Row kRow of the matrix times the vectors in(0), in(1), …; zeros of the matrix cost nothing.
template <int kPixels, int kTaps, Matrix kMatrix, int kRow, int kColumn = 0, class In, class V>
__forceinline__ V dot(const In& in, V sum, bool first) {
  if constexpr (kColumn < columns_of<kPixels, kTaps, kMatrix>()) {
    constexpr float kFactor = element<kPixels, kTaps, kMatrix>(kRow, kColumn);
    if constexpr (kFactor != 0) {
      const V x = in(kColumn);
      if (first)
        sum = kFactor == 1 ? x : kFactor * x;
      else if constexpr (kFactor == 1)
        sum = sum + x;
      else if constexpr (kFactor == -1)
        sum = sum - x;
      else
        sum = simt::fma(kFactor, x, sum);
      first = false;
    }
    return dot<kPixels, kTaps, kMatrix, kRow, kColumn + 1>(in, sum, first);
  }
  return sum;
}

template <int kPixels, int kTaps, Matrix kMatrix, class V, class In, class Out, int... kRows, int... kColumns>
__forceinline__ void transform(const In& in, const Out& out, std::integer_sequence<int, kRows...>,
                               std::integer_sequence<int, kColumns...>) {
  const V x[] = {in(kColumns)...};
  (out(kRows, dot<kPixels, kTaps, kMatrix, kRows>([&](int i) { return x[i]; }, V(0.0f), true)), ...);
}

/// Calls out(i, vector) for every row i of the matrix times the vectors in(0), in(1), …, each asked for once.
template <int kPixels, int kTaps, Matrix kMatrix, class V, class In, class Out>
__forceinline__ void transform(const In& in, const Out& out) {
  transform<kPixels, kTaps, kMatrix, V>(in, out, std::make_integer_sequence<int, rows_of<kPixels, kTaps, kMatrix>()>(),
                                        std::make_integer_sequence<int, columns_of<kPixels, kTaps, kMatrix>()>());
}

/// An axis of the output, cut into tiles: first `large` tiles of m pixels, then tiles of m - 1. The last one may reach over the end.
struct Cut {
  int tiles, large;

  /// The cut with the fewest products; of these, the one with the fewest tiles.
  static Cut of(int pixels, int m, int taps) {
    Cut best{0, 0};
    int fewest = 0;
    const int most = simt::ceil_div(pixels, m);
    for (int large = most > m ? most - m : 0; large <= most; ++large) {  // m small tiles are as long as m - 1 large ones, and dearer
      const int rest = pixels - large * m, small = rest > 0 ? simt::ceil_div(rest, m - 1) : 0;
      const int products = large * (m + taps - 1) + small * (m + taps - 2);
      if (best.tiles == 0 || products < fewest || (products == fewest && large + small < best.tiles)) {
        best = {large + small, large};
        fewest = products;
      }
    }
    return best;
  }
  /// Tiles of a size, and the first pixel of the i-th of them.
  int count(bool small) const { return small ? tiles - large : large; }
  int start(bool small, int i, int m) const { return small ? large * m + i * (m - 1) : i * m; }
};

/// The output's tiles. They are of four kinds: bit 1 for small rows, bit 0 for small columns.
struct Tiling {
  Cut rows, columns;

  static Tiling of(int rows, int columns, int m, int taps) { return {Cut::of(rows, m, taps), Cut::of(columns, m, taps)}; }
  int tiles(int kind) const { return rows.count((kind & 2) != 0) * columns.count((kind & 1) != 0); }
};

/// Vectors of images of one tile: its first output pixel, the first image, and which vectors of the group they are.
struct TileRun {
  int row, column, image;
  int first, vectors;
};

/// Up to kMost vectors of images of tiles of one kind.
template <int kMost>
struct TileGroup {
  int kind, vectors, runs;
  TileRun run[kMost];

  /// How many groups the tiles of the first `kinds` kinds have: of 2, those of large rows.
  static std::int64_t count(const Tiling& tiling, int image_vectors, int kinds = 4) {
    std::int64_t groups = 0;
    for (int kind = 0; kind < kinds; ++kind) groups += of_kind(tiling, image_vectors, kind);
    return groups;
  }
  /// The group `index`: kinds follow each other, those with most products first.
  static TileGroup at(const Tiling& tiling, int image_vectors, int m, int index) {
    int kind = 0;
    for (; index >= of_kind(tiling, image_vectors, kind); ++kind) index -= of_kind(tiling, image_vectors, kind);
    const bool small_rows = (kind & 2) != 0, small_columns = (kind & 1) != 0;
    const int across = tiling.columns.count(small_columns), first = index * kMost;
    TileGroup group{kind, simt::min(kMost, tiling.tiles(kind) * image_vectors - first), 0, {}};
    for (int i = 0; i < group.vectors; ++i) {
      const int tile = (first + i) / image_vectors, image = (first + i) % image_vectors * kCpuVec;
      if (i > 0 && image > 0) {
        ++group.run[group.runs - 1].vectors;
        continue;
      }
      group.run[group.runs++] = {tiling.rows.start(small_rows, tile / across, m), tiling.columns.start(small_columns, tile % across, m),
                                 image, i, 1};
    }
    return group;
  }

 private:
  static int of_kind(const Tiling& tiling, int image_vectors, int kind) {
    return simt::ceil_div(tiling.tiles(kind) * image_vectors, kMost);
  }
};

/// Calls f with the rows and columns of a tile of this kind as constants.
template <int kPixels, class F>
__forceinline__ void with_tile_size(int kind, F f) {
  using Large = std::integral_constant<int, kPixels>;
  using Small = std::integral_constant<int, kPixels - 1>;
  if (kind == 0) return f(Large{}, Large{});
  if (kind == 1) return f(Large{}, Small{});
  if (kind == 2) return f(Small{}, Large{});
  f(Small{}, Small{});
}

/// The place of a tile's i-th point among the larger tile's: the last one is infinity for both.
template <int kPixels, int kTaps>
constexpr int point_of(int tile_pixels, int i) {
  return i < tile_pixels + kTaps - 2 ? i : kPixels + kTaps - 2;
}

/// Pixels of the larger tile of filters of `taps` rows, 3 or 5.
constexpr int tile_pixels(int taps) { return taps == 3 ? 4 : 3; }

/// Calls f with tile_pixels(taps) and taps as constants.
template <class F>
void with_taps(int taps, F f) {
  if (taps == 3)
    f(std::integral_constant<int, tile_pixels(3)>{}, std::integral_constant<int, 3>{});
  else
    f(std::integral_constant<int, tile_pixels(5)>{}, std::integral_constant<int, 5>{});
}

/// A CPU's register tile: kRows filters by kVecs vectors of images.
struct RegisterTile {
  static constexpr int kVec = kCpuVec;
#if defined(__AVX512F__) || defined(__aarch64__) || defined(PYALEXNET_GPU_VECTORS)
  static constexpr int kRows = 8;
#else
  static constexpr int kRows = 4;
#endif
  static constexpr int kVecs = 3;
  static constexpr int kColumns = kVecs * kVec;
};

/// What lies outside an image: a pixel's vectors of a block.
alignas(64) inline constexpr float kZeros[RegisterTile::kColumns] = {};

}  // namespace pyalexnet::winograd
