// A convolution's matrices as operands of the tiled product: where each vector of x, w and dy is.
//
//   forward            y[k][pixel, n]   = sum over (c, r, s)  w[(c, r, s)][k]  * patch[(c, r, s)][pixel, n]
//   data gradient      dx[c][pixel, n]  = sum over (r, s, k)  w'[(r, s, k)][c] * flipped patch[(r, s, k)][pixel, n]
//   weight gradient    dw[(c, r, s)][k] = sum over (pixel, n) patch[(c, r, s)][pixel, n] * dy[k][pixel, n]
//
// A vector of columns is a few images of one pixel, so it needs one border test and its load is contiguous.
#pragma once

#include "conv/shape.cuh"
#include "gemm/tile_gemm.cuh"

namespace pyalexnet {

/// Patches: the part of x that a filter covers at each output pixel.
template <class T>
class Patches {
 public:
  using Element = T;
  /// A vector of images at the upper left corner of an output pixel's patch.
  struct Pixel {
    std::int64_t offset;
    int row, column;
    int images;  // remaining images, from the vector's first on
  };
  /// An element of the patch, relative to its corner.
  struct Tap {
    std::int64_t offset;
    int row, column;
  };

  Patches(const T* x, const ConvShape& s)
      : x_(x), per_group_(std::int64_t{s.C / s.G} * s.H * s.W * s.N), pixels_(s.P * s.Q), taps_(s.C / s.G * s.R * s.S), height_(s.H),
        width_(s.W), images_(s.N), stride_(s.stride), pad_(s.pad), by_images_(s.N), by_q_(s.Q), by_taps_(s.R * s.S), by_s_(s.S) {}

  __device__ void select_group(int group) { x_ += group * per_group_; }

  __device__ Pixel pixel(int column) const {
    int n, q;
    const int at = by_images_.split(column, n);
    const int p = by_q_.split(at, q);
    if (at >= pixels_) return {0, kOutOfBounds, 0, images_ - n};
    const int row = p * stride_ - pad_, col = q * stride_ - pad_;
    return {(std::int64_t{row} * width_ + col) * images_ + n, row, col, images_ - n};
  }

  __device__ Tap tap(int k) const {
    int rest, s;
    const int c = by_taps_.split(k, rest);
    const int r = by_s_.split(rest, s);
    if (k >= taps_) return {0, kOutOfBounds, 0};
    return {((std::int64_t{c} * height_ + r) * width_ + s) * images_, r, s};
  }

  __device__ __forceinline__ LoadPlan<T> at(const Pixel& pixel, const Tap& tap) const {
    const bool inside = static_cast<unsigned>(pixel.row + tap.row) < static_cast<unsigned>(height_) &&
                        static_cast<unsigned>(pixel.column + tap.column) < static_cast<unsigned>(width_);
    return {x_ + pixel.offset + tap.offset, 0, inside};
  }

 private:
  const T* x_;
  std::int64_t per_group_;
  int pixels_, taps_, height_, width_, images_, stride_, pad_;
  simt::FastDiv by_images_, by_q_, by_taps_, by_s_;
};

/// Forward: B[(c, r, s)][pixel, n].
template <class T, int kVec>
struct PatchesByColumn : Patches<T> {
  static constexpr bool kContiguousAlongK = false, kAlwaysWhole = true;
  using RowState = typename Patches<T>::Pixel;
  using KStep = typename Patches<T>::Tap;
  using Patches<T>::Patches;
  __device__ RowState row_state(int column) const { return this->pixel(column); }
  __device__ __forceinline__ KStep k_step(int k) const { return this->tap(k); }
  __device__ __forceinline__ LoadPlan<T> load_plan(const RowState& row, const KStep& step) const { return this->at(row, step); }
  __device__ __forceinline__ int contiguous(const RowState& row) const { return row.images / kVec; }
};

/// Weight gradient: A[pixel, n][(c, r, s)].
template <class T, int kVec>
struct PatchesByRow : Patches<T> {
  static constexpr bool kContiguousAlongK = true, kAlwaysWhole = true;
  using RowState = typename Patches<T>::Tap;
  using KStep = typename Patches<T>::Pixel;
  using Patches<T>::Patches;
  __device__ RowState row_state(int row) const { return this->tap(row); }
  __device__ __forceinline__ KStep k_step(int k) const { return this->pixel(k); }
  __device__ __forceinline__ LoadPlan<T> load_plan(const RowState& row, const KStep& step) const { return this->at(step, row); }
  __device__ __forceinline__ int contiguous(const KStep& step) const { return step.images / kVec; }
};

/// Whether a group's filters can be read and written in whole vectors; on a GPU, vectors need 16-byte alignment.
template <class Tile>
bool filters_are_aligned(const ConvShape& s) {
  return !Tile::kNeedsAlignment || (s.K % Tile::kVec == 0 && s.K / s.G % Tile::kVec == 0);
}

/// Forward: A[(c, r, s)][k], w in its own layout.
template <class T, class Tile>
class FiltersByRow {
 public:
  using Element = T;
  static constexpr int kVec = Tile::kVec;
  static constexpr bool kContiguousAlongK = false, kAlwaysWhole = false;
  using RowState = int;
  using KStep = std::int64_t;

  FiltersByRow(const T* w, const ConvShape& s) : w_(w), per_tap_(s.K), filters_(s.K / s.G), aligned_(filters_are_aligned<Tile>(s)) {}
  __device__ void select_group(int group) { w_ += group * filters_; }
  __device__ RowState row_state(int row) const { return row; }
  __device__ __forceinline__ KStep k_step(int k) const { return std::int64_t{k} * per_tap_; }
  __device__ __forceinline__ LoadPlan<T> load_plan(RowState row, KStep offset) const {
    const int left = filters_ - row;
    return {w_ + offset + row, left, aligned_ && left >= kVec};
  }
  __device__ __forceinline__ int contiguous(RowState row) const { return (filters_ - row) / kVec; }

 private:
  const T* w_;
  int per_tap_, filters_;
  bool aligned_;
};

/// The filters of a tap, rounded up so that a vector never spans two taps. The data gradient reduces over these.
template <int kVec>
inline int padded_filters(const ConvShape& s) {
  return simt::round_up(s.K / s.G, kVec);
}

/// Data gradient: A[(r, s, k)][c].
template <class T, class Tile>
class FiltersByChannel {
 public:
  using Element = T;
  static constexpr int kVec = Tile::kVec;
  static constexpr bool kContiguousAlongK = true, kAlwaysWhole = false;
  using RowState = std::int64_t;
  struct KStep {
    std::int64_t offset;
    int left;
  };

  FiltersByChannel(const T* w, const ConvShape& s)
      : w_(w), per_tap_(s.K), taps_(s.R * s.S), filters_(s.K / s.G), channels_(s.C / s.G), by_filters_(padded_filters<kVec>(s)),
        aligned_(filters_are_aligned<Tile>(s)) {}
  __device__ void select_group(int group) { w_ += group * filters_; }
  /// Rows past the last channel read its weights again; they are not stored.
  __device__ RowState row_state(int row) const { return std::int64_t{simt::min(row, channels_ - 1)} * taps_ * per_tap_; }
  __device__ __forceinline__ KStep k_step(int k) const {
    int filter;
    const int tap = by_filters_.split(k, filter);
    return {std::int64_t{tap} * per_tap_ + filter, filters_ - filter};
  }
  __device__ __forceinline__ LoadPlan<T> load_plan(RowState row, const KStep& step) const {
    return {w_ + row + step.offset, step.left, aligned_ && step.left >= kVec};
  }
  __device__ __forceinline__ int contiguous(const KStep& step) const { return step.left / kVec; }

 private:
  const T* w_;
  int per_tap_, taps_, filters_, channels_;
  simt::FastDiv by_filters_;
  bool aligned_;
};

/// Data gradient: B[(r, s, k)][input pixel, n], dy at the outputs that read this pixel through tap (r, s).
template <class T, int kVec>
class GradientPatches {
 public:
  using Element = T;
  static constexpr bool kContiguousAlongK = false, kAlwaysWhole = true;
  struct RowState {
    int row, column, image;
  };
  struct KStep {
    std::int64_t offset;
    int row, column;
  };

  GradientPatches(const T* dy, const ConvShape& s)
      : dy_(dy), per_filter_(std::int64_t{s.P} * s.Q * s.N), filters_(s.K / s.G), pixels_(s.H * s.W), rows_(s.P), columns_(s.Q),
        images_(s.N), stride_(s.stride), pad_(s.pad), by_images_(s.N), by_width_(s.W), by_filters_(padded_filters<kVec>(s)), by_s_(s.S),
        by_stride_(s.stride) {}

  __device__ void select_group(int group) { dy_ += group * filters_ * per_filter_; }
  __device__ RowState row_state(int column) const {
    int n, x;
    const int at = by_images_.split(column, n);
    const int y = by_width_.split(at, x);
    if (at >= pixels_) return {kOutOfBounds, 0, n};
    return {y + pad_, x + pad_, n};
  }
  __device__ __forceinline__ KStep k_step(int k) const {
    int filter, s;
    const int tap = by_filters_.split(k, filter);
    const int r = by_s_.split(tap, s);
    if (filter >= filters_) return {0, -kOutOfBounds, 0};
    return {filter * per_filter_, r, s};
  }
  __device__ __forceinline__ LoadPlan<T> load_plan(const RowState& row, const KStep& step) const {
    int p = row.row - step.row, q = row.column - step.column;
    bool inside = p >= 0 && q >= 0;
    if (inside && stride_ > 1) {
      int p_rest, q_rest;
      p = by_stride_.split(p, p_rest);
      q = by_stride_.split(q, q_rest);
      inside = p_rest == 0 && q_rest == 0;
    }
    inside = inside && p < rows_ && q < columns_;
    const std::int64_t at = inside ? (std::int64_t{p} * columns_ + q) * images_ + row.image : 0;
    return {dy_ + step.offset + at, 0, inside};
  }
  __device__ __forceinline__ int contiguous(const RowState& row) const { return (images_ - row.image) / kVec; }

 private:
  const T* dy_;
  std::int64_t per_filter_;
  int filters_, pixels_, rows_, columns_, images_, stride_, pad_;
  simt::FastDiv by_images_, by_width_, by_filters_, by_s_, by_stride_;
};

/// Weight gradient: B[pixel, n][k], dy in its own layout.
template <class T>
class GradientByFilter {
 public:
  using Element = T;
  static constexpr bool kContiguousAlongK = true, kAlwaysWhole = true;
  using RowState = std::int64_t;
  using KStep = int;

  GradientByFilter(const T* dy, const ConvShape& s) : dy_(dy), per_filter_(std::int64_t{s.P} * s.Q * s.N), filters_(s.K / s.G) {}
  __device__ void select_group(int group) { dy_ += group * filters_ * per_filter_; }
  /// Columns past the last filter read its gradient again; they are not stored.
  __device__ RowState row_state(int column) const { return simt::min(column, filters_ - 1) * per_filter_; }
  __device__ __forceinline__ KStep k_step(int k) const { return k; }
  __device__ __forceinline__ LoadPlan<T> load_plan(RowState row, KStep k) const { return {dy_ + row + k, 0, true}; }
  /// A filter's gradient is contiguous throughout.
  __device__ __forceinline__ int contiguous(KStep) const { return 1 << 20; }

 private:
  const T* dy_;
  std::int64_t per_filter_;
  int filters_;
};

}  // namespace pyalexnet
