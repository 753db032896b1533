// A convolution's matrices, as operands of the tiled product: where each vector of x, w and dy is.
//
//   forward            y[k][pixel, n]   = sum over (c, r, s)  w[(c, r, s)][k]  * patch[(c, r, s)][pixel, n]
//   data gradient      dx[c][pixel, n]  = sum over (r, s, k)  w'[(r, s, k)][c] * turned patch[(r, s, k)][pixel, n]
//   weight gradient    dw[(c, r, s)][k] = sum over (pixel, n) patch[(c, r, s)][pixel, n] * dy[k][pixel, n]
//
// A vector of columns is a few images of one pixel, so its padding test is one branch and its load is contiguous.
#pragma once

#include "gemm/tile_gemm.cuh"
#include "kernels.hpp"

namespace pyalexnet {

/// A row or column so far outside that no filter tap brings it back in.
constexpr int kFarOutside = -(1 << 29);

/// Kernels count a matrix's rows, columns and steps in 32 bits. Throws std::invalid_argument.
inline void check_conv_sizes(const ConvShape& s) {
  const std::int64_t limit = 0x7fffffff - 4096;  // a tile may reach over the edge
  if (std::int64_t{s.P} * s.Q * s.N > limit || std::int64_t{s.H} * s.W * s.N > limit || std::int64_t{s.C} * s.R * s.S > limit ||
      std::int64_t{s.K + 16} * s.R * s.S > limit)
    throw std::invalid_argument("a convolution's pixels times images, and its filters' elements, must be well below 2^31");
}

/// The part of x that each filter sees.
class Patches {
 public:
  /// One vector of images at the upper left pixel of an output pixel's patch.
  struct Pixel {
    std::int64_t offset;
    int row, column;
    int images;  // from the vector's first on
  };
  /// One element of the patch.
  struct Tap {
    std::int64_t offset;
    int row, column;
  };

  Patches(const float* x, const ConvShape& s)
      : x_(x), per_group_(std::int64_t{s.C / s.G} * s.H * s.W * s.N), pixels_(s.P * s.Q), taps_(s.C / s.G * s.R * s.S), height_(s.H),
        width_(s.W), images_(s.N), stride_(s.stride), pad_(s.pad), by_images_(s.N), by_q_(s.Q), by_taps_(s.R * s.S), by_s_(s.S) {}

  __device__ void select(int group) { x_ += group * per_group_; }

  __device__ Pixel pixel(int column) const {
    int n, q;
    const int at = by_images_.split(column, n);
    const int p = by_q_.split(at, q);
    if (at >= pixels_) return {0, kFarOutside, 0, images_ - n};
    const int row = p * stride_ - pad_, col = q * stride_ - pad_;
    return {(std::int64_t{row} * width_ + col) * images_ + n, row, col, images_ - n};
  }

  __device__ Tap tap(int k) const {
    int rest, s;
    const int c = by_taps_.split(k, rest);
    const int r = by_s_.split(rest, s);
    if (k >= taps_) return {0, kFarOutside, 0};
    return {((std::int64_t{c} * height_ + r) * width_ + s) * images_, r, s};
  }

  __device__ __forceinline__ Source at(const Pixel& pixel, const Tap& tap) const {
    const bool inside = static_cast<unsigned>(pixel.row + tap.row) < static_cast<unsigned>(height_) &&
                        static_cast<unsigned>(pixel.column + tap.column) < static_cast<unsigned>(width_);
    return {x_ + pixel.offset + tap.offset, 0, inside};
  }

 private:
  const float* x_;
  std::int64_t per_group_;
  int pixels_, taps_, height_, width_, images_, stride_, pad_;
  simt::FastDiv by_images_, by_q_, by_taps_, by_s_;
};

/// Forward: B[(c, r, s)][pixel, n].
template <int kVec>
struct PatchesByColumn : Patches {
  static constexpr bool kTransposed = false, kAlwaysWhole = true;
  using Entry = Pixel;
  using Step = Tap;
  using Patches::Patches;
  __device__ Entry entry(int column) const { return pixel(column); }
  __device__ __forceinline__ Step step(int k) const { return tap(k); }
  __device__ __forceinline__ Source source(const Entry& entry, const Step& step) const { return at(entry, step); }
  __device__ __forceinline__ int run(const Entry& entry) const { return entry.images / kVec; }
};

/// Weight gradient: A[pixel, n][(c, r, s)].
template <int kVec>
struct PatchesByRow : Patches {
  static constexpr bool kTransposed = true, kAlwaysWhole = true;
  using Entry = Tap;
  using Step = Pixel;
  using Patches::Patches;
  __device__ Entry entry(int row) const { return tap(row); }
  __device__ __forceinline__ Step step(int k) const { return pixel(k); }
  __device__ __forceinline__ Source source(const Entry& entry, const Step& step) const { return at(step, entry); }
  __device__ __forceinline__ int run(const Step& step) const { return step.images / kVec; }
};

/// Whether vectors of a group's filters can be read and written whole: on a GPU they have to lie on 16 bytes.
template <class Tile>
bool filters_are_aligned(const ConvShape& s) {
  return !Tile::kNeedsAlignment || (s.K % Tile::kVec == 0 && s.K / s.G % Tile::kVec == 0);
}

/// Forward: A[(c, r, s)][k]; w as it lies.
template <class Tile>
class FiltersByRow {
 public:
  static constexpr int kVec = Tile::kVec;
  static constexpr bool kTransposed = false, kAlwaysWhole = false;
  using Entry = int;
  using Step = std::int64_t;

  FiltersByRow(const float* w, const ConvShape& s) : w_(w), per_tap_(s.K), filters_(s.K / s.G), aligned_(filters_are_aligned<Tile>(s)) {}
  __device__ void select(int group) { w_ += group * filters_; }
  __device__ Entry entry(int row) const { return row; }
  __device__ __forceinline__ Step step(int k) const { return std::int64_t{k} * per_tap_; }
  __device__ __forceinline__ Source source(Entry row, Step offset) const {
    const int left = filters_ - row;
    return {w_ + offset + row, left, aligned_ && left >= kVec};
  }
  __device__ __forceinline__ int run(Entry row) const { return (filters_ - row) / kVec; }

 private:
  const float* w_;
  int per_tap_, filters_;
  bool aligned_;
};

/// A tap's filters, rounded up so that a vector of them never spans two taps. The data gradient's reduction is over these.
template <int kVec>
inline int padded_filters(const ConvShape& s) {
  return simt::round_up(s.K / s.G, kVec);
}

/// Data gradient: A[(r, s, k)][c].
template <class Tile>
class FiltersByChannel {
 public:
  static constexpr int kVec = Tile::kVec;
  static constexpr bool kTransposed = true, kAlwaysWhole = false;
  using Entry = std::int64_t;
  struct Step {
    std::int64_t offset;
    int left;
  };

  FiltersByChannel(const float* w, const ConvShape& s)
      : w_(w), per_tap_(s.K), taps_(s.R * s.S), filters_(s.K / s.G), channels_(s.C / s.G), by_filters_(padded_filters<kVec>(s)),
        aligned_(filters_are_aligned<Tile>(s)) {}
  __device__ void select(int group) { w_ += group * filters_; }
  /// Past the last channel its weights are read again: those rows of the product are not stored.
  __device__ Entry entry(int row) const { return std::int64_t{simt::min(row, channels_ - 1)} * taps_ * per_tap_; }
  __device__ __forceinline__ Step step(int k) const {
    int filter;
    const int tap = by_filters_.split(k, filter);
    return {std::int64_t{tap} * per_tap_ + filter, filters_ - filter};
  }
  __device__ __forceinline__ Source source(Entry entry, const Step& step) const {
    return {w_ + entry + step.offset, step.left, aligned_ && step.left >= kVec};
  }
  __device__ __forceinline__ int run(const Step& step) const { return step.left / kVec; }

 private:
  const float* w_;
  int per_tap_, taps_, filters_, channels_;
  simt::FastDiv by_filters_;
  bool aligned_;
};

/// Data gradient: B[(r, s, k)][input pixel, n]: the outputs that saw this pixel through tap (r, s).
template <int kVec>
class GradientPatches {
 public:
  static constexpr bool kTransposed = false, kAlwaysWhole = true;
  struct Entry {
    int row, column, image;
  };
  struct Step {
    std::int64_t offset;
    int row, column;
  };

  GradientPatches(const float* dy, const ConvShape& s)
      : dy_(dy), per_filter_(std::int64_t{s.P} * s.Q * s.N), filters_(s.K / s.G), pixels_(s.H * s.W), rows_(s.P), columns_(s.Q),
        images_(s.N), stride_(s.stride), pad_(s.pad), by_images_(s.N), by_width_(s.W), by_filters_(padded_filters<kVec>(s)), by_s_(s.S),
        by_stride_(s.stride) {}

  __device__ void select(int group) { dy_ += group * filters_ * per_filter_; }
  __device__ Entry entry(int column) const {
    int n, x;
    const int at = by_images_.split(column, n);
    const int y = by_width_.split(at, x);
    if (at >= pixels_) return {kFarOutside, 0, n};
    return {y + pad_, x + pad_, n};
  }
  __device__ __forceinline__ Step step(int k) const {
    int filter, s;
    const int tap = by_filters_.split(k, filter);
    const int r = by_s_.split(tap, s);
    if (filter >= filters_) return {0, -kFarOutside, 0};
    return {filter * per_filter_, r, s};
  }
  __device__ __forceinline__ Source source(const Entry& entry, const Step& step) const {
    int p = entry.row - step.row, q = entry.column - step.column;
    bool inside = p >= 0 && q >= 0;
    if (inside && stride_ > 1) {
      int p_rest, q_rest;
      p = by_stride_.split(p, p_rest);
      q = by_stride_.split(q, q_rest);
      inside = p_rest == 0 && q_rest == 0;
    }
    inside = inside && p < rows_ && q < columns_;
    const std::int64_t at = inside ? (std::int64_t{p} * columns_ + q) * images_ + entry.image : 0;
    return {dy_ + step.offset + at, 0, inside};
  }
  __device__ __forceinline__ int run(const Entry& entry) const { return (images_ - entry.image) / kVec; }

 private:
  const float* dy_;
  std::int64_t per_filter_;
  int filters_, pixels_, rows_, columns_, images_, stride_, pad_;
  simt::FastDiv by_images_, by_width_, by_filters_, by_s_, by_stride_;
};

/// Weight gradient: B[pixel, n][k]: dy as it lies.
class GradientByFilter {
 public:
  static constexpr bool kTransposed = true, kAlwaysWhole = true;
  using Entry = std::int64_t;
  using Step = int;

  GradientByFilter(const float* dy, const ConvShape& s) : dy_(dy), per_filter_(std::int64_t{s.P} * s.Q * s.N), filters_(s.K / s.G) {}
  __device__ void select(int group) { dy_ += group * filters_ * per_filter_; }
  /// Past the last filter its gradient is read again: those columns of the product are not stored.
  __device__ Entry entry(int column) const { return simt::min(column, filters_ - 1) * per_filter_; }
  __device__ __forceinline__ Step step(int k) const { return k; }
  __device__ __forceinline__ Source source(Entry entry, Step k) const { return {dy_ + entry + k, 0, true}; }
  /// A filter's gradient is contiguous from end to end.
  __device__ __forceinline__ int run(Step) const { return 1 << 20; }

 private:
  const float* dy_;
  std::int64_t per_filter_;
  int filters_;
};

}  // namespace pyalexnet
