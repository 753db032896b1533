// What happens to a finished vector of the product on its way to memory.
#pragma once

#include "kernels.hpp"
#include "simt/simt.cuh"

namespace pyalexnet {

/// Stores rows of whole vectors: out[group][row][column] = activation(acc + bias[group][row]).
struct StoreRows {
  float* out;
  const float* bias;  // may be null
  Activation activation;
  int rows, columns;  // of a group

  template <int W>
  __device__ __forceinline__ void store(int group, int, int row, int column, simt::Vec<W> acc) const {
    if (row >= rows || column >= columns) return;
    const std::int64_t at = std::int64_t{group} * rows + row;
    if (bias != nullptr) acc = acc + simt::Vec<W>(bias[at]);
    if (activation == Activation::kRelu) {
      const simt::Vec<W> zero(0.0f);
      acc = simt::select(zero > acc, zero, acc);  // keeps a NaN
    } else if (activation == Activation::kTanh) {
      acc = simt::map(acc, [](float x) { return tanhf(x); });
    }
    simt::store<W>(out + at * columns + column, acc);
  }
};

/// Stores one piece of a split reduction: out[piece][row][group][column], whose rows need not be whole vectors.
struct StorePiece {
  float* out;
  std::int64_t per_piece;
  int rows, columns, groups;
  bool aligned;

  template <int W>
  __device__ __forceinline__ void store(int group, int piece, int row, int column, simt::Vec<W> acc) const {
    if (row >= rows || column >= columns) return;
    float* to = out + piece * per_piece + (std::int64_t{row} * groups + group) * columns + column;
    if (aligned && column + W <= columns) {
      simt::store<W>(to, acc);
    } else {
      for (int i = 0; i < W; ++i)
        if (column + i < columns) to[i] = acc[i];
    }
  }
};

}  // namespace pyalexnet
