// Register tiles on a CPU: a few rows and vectors of columns of C, whose sums are in vector registers during a k tile.
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// Rows of A in a panel: row i of step k is at[k * stride + i].
template <class T>
struct PanelRows {
  const T* at;
  int stride;
  float operator()(int k, int i) const { return simt::to_float(at[k * stride + i]); }
};

/// Rows of A that are contiguous along k: row i of step k is at[i][k].
template <class T, int kRows>
struct SeparateRows {
  const T* at[kRows];
  float operator()(int k, int i) const { return simt::to_float(at[i][k]); }
};

/// Columns of B in a panel: vector j of step k is at[k * stride + j * kVec].
template <int kVec, class T>
struct PanelColumns {
  const T* at;
  int stride;
  simt::Vec<kVec> operator()(int k, int j) const { return simt::load<kVec>(at + k * stride + j * kVec); }
};

/// Columns of B outside a panel, step k at from[k] + column, which are copied into the panel as they are read.
template <int kVec, class T>
struct CopiedColumns {
  const T* const* from;
  int column;
  T* panel;
  int stride;
  simt::Vec<kVec> operator()(int k, int j) const {
    const simt::Vec<kVec> v = simt::load<kVec>(from[k] + column + j * kVec);
    simt::store<kVec>(panel + k * stride + j * kVec, v);
    return v;
  }
};

constexpr int kLineBytes = 64, kStepsPerLine = 2;

/// Memory to prefetch during a multiplication: pieces of kLines cache lines, a line every kStepsPerLine steps.
template <int kLines>
struct Pieces {
  static constexpr int kSteps = kLines * kStepsPerLine;
  const void* const* at = nullptr;
  int count = 0;
};

/// to = from + A^T B over `depth` steps, for kRows rows and kVecs vectors of columns; `rows(k, i)` and `columns(k, j)` are A's and B's
/// elements. `from` and `to` hold the vectors row by row and may be the same; `from` may be null, for zeros. `ahead` is brought into the L2
/// cache. Not inlined: within a larger function GCC spills the two dozen sums.
template <int kVec, int kRows, int kVecs, class Rows, class Columns, int kLines = 1>
__attribute__((noinline)) void multiply_register_tile(const Rows& rows, const Columns& columns, int depth, const simt::Vec<kVec>* from,
                                                      simt::Vec<kVec>* to, Pieces<kLines> ahead = {}) {
  const Rows a = rows;
  const Columns b = columns;
  simt::Vec<kVec> sums[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) sums[i][j] = from != nullptr ? from[i * kVecs + j] : simt::Vec<kVec>(0.0f);
  }
  const auto step = [&](int k) __attribute__((always_inline)) {
    simt::Vec<kVec> bs[kVecs];
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) bs[j] = b(k, j);
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const float x = a(k, i);
      SIMT_UNROLL
      for (int j = 0; j < kVecs; ++j) sums[i][j] = simt::fma(x, bs[j], sums[i][j]);
    }
  };
  int k = 0;
  for (int piece = 0; piece < ahead.count; ++piece) {
    for (int line = 0; line < kLines; ++line) {
      __builtin_prefetch(static_cast<const char*>(ahead.at[piece]) + line * kLineBytes, 0, 2);
      SIMT_UNROLL
      for (int i = 0; i < kStepsPerLine; ++i) step(k++);
    }
  }
  SIMT_UNROLL_LOOP
  for (; k < depth; ++k) step(k);
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) to[i * kVecs + j] = sums[i][j];
  }
}

}  // namespace pyalexnet
