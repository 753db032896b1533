// Epilogues: what the product does with each finished vector of C.
#pragma once

#include "ops/activate.cuh"

namespace pyalexnet {

/// Finishes sums of a row of the result: adds its bias, applies the activation. As {} it changes nothing.
struct AddBias {
  const float* bias = nullptr;  // one per row; may be null
  Activation activation = Activation::kNone;

  template <int W>
  __device__ __forceinline__ simt::Vec<W> finish(std::int64_t row, std::int64_t, simt::Vec<W> sums) const {
    if (bias != nullptr) sums = sums + simt::Vec<W>(bias[row]);
    return activate(activation, sums);
  }
};

/// Finishes sums that are a ReLU's output's gradient: 0 where the output `mask`, of the result's shape, is not above 0. As {} it changes
/// nothing.
template <class T>
struct MaskGradient {
  const T* mask = nullptr;  // may be null

  template <int W>
  __device__ __forceinline__ simt::Vec<W> finish(std::int64_t, std::int64_t i, simt::Vec<W> sums) const {
    return mask == nullptr ? sums : activation_gradient<Activation::kRelu>(sums, simt::load<W>(mask + i));
  }
};

/// Stores whole vectors: out[split][group][row][column] = sums, finished.
template <class T, class Finish>
struct StoreRows {
  T* out;
  Finish last;
  int rows, columns;       // of a group
  std::int64_t per_split;  // elements of a split

  template <int W>
  __device__ __forceinline__ void store(int group, int split, int row, int column, simt::Vec<W> sums) const {
    if (row >= rows || column >= columns) return;
    const std::int64_t at = std::int64_t{group} * rows + row, i = at * columns + column;
    simt::store<W>(out + split * per_split + i, last.finish(at, i, sums));
  }
};

/// Stores one split of a reduction: out[split][row][group][column]. Rows may end in a partial vector.
struct StoreSplit {
  float* out;
  std::int64_t per_split;
  int rows, columns, groups;
  bool aligned;

  template <int W>
  __device__ __forceinline__ void store(int group, int split, int row, int column, simt::Vec<W> sums) const {
    if (row >= rows || column >= columns) return;
    float* to = out + split * per_split + (std::int64_t{row} * groups + group) * columns + column;
    if (aligned && column + W <= columns) {
      simt::store<W>(to, sums);
    } else {
      for (int i = 0; i < W; ++i)
        if (column + i < columns) to[i] = sums[i];
    }
  }
};

}  // namespace pyalexnet
