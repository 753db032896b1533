// Epilogues: what the product does with each finished vector of C.
#pragma once

#include "ops/activate.cuh"

namespace pyalexnet {

/// Stores whole vectors: out[split][group][row][column] = activation(sums + bias[group][row]).
template <class T>
struct StoreRows {
  T* out;
  const float* bias;  // may be null
  Activation activation;
  int rows, columns;       // of a group
  std::int64_t per_split;  // elements of a split

  template <int W>
  __device__ __forceinline__ void store(int group, int split, int row, int column, simt::Vec<W> sums) const {
    if (row >= rows || column >= columns) return;
    const std::int64_t at = std::int64_t{group} * rows + row;
    if (bias != nullptr) sums = sums + simt::Vec<W>(bias[at]);
    simt::store<W>(out + split * per_split + at * columns + column, activate(activation, sums));
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
