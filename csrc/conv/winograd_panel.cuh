// The products of Winograd's convolutions: a panel of rows times up to three vectors of columns.
#pragma once

#include "conv/winograd.cuh"

namespace pyalexnet::winograd {

/// c = A^T B, or c += A^T B, over `depth` steps: RegisterTile::kRows rows, kVecs vectors of columns. rows(i) is A's row i, of which
/// rows.next(k) leaves step k for the next one. Rows of b and c are a register tile's columns. Not inlined: within a larger function GCC
/// spills the sums.
template <int kVecs, bool kAdd, class Rows>
__attribute__((noinline)) void multiply_panel(const Rows& rows, const float* b, float* c, int depth) {
  constexpr int kVec = RegisterTile::kVec, kRows = RegisterTile::kRows, kColumns = RegisterTile::kColumns;
  using Vec = simt::Vec<kVec>;
  Rows a = rows;
  Vec sums[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) sums[i][j] = kAdd ? simt::load<kVec>(c + i * kColumns + j * kVec) : Vec(0.0f);
  }
  for (int k = 0; k < depth; ++k, b += kColumns) {
    Vec bs[kVecs];
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) bs[j] = simt::load<kVec>(b + j * kVec);
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const float x = a(i);
      SIMT_UNROLL
      for (int j = 0; j < kVecs; ++j) sums[i][j] = simt::fma(x, bs[j], sums[i][j]);
    }
    a.next(k);
  }
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) simt::store<kVec>(c + i * kColumns + j * kVec, sums[i][j]);
  }
}

/// The same of a number of vectors that is known at run time; more than a register tile's count as its own.
template <bool kAdd, class Rows>
void multiply_panel(int vectors, const Rows& rows, const float* b, float* c, int depth) {
  static_assert(RegisterTile::kVecs == 3, "there is a case for each number of vectors");
  if (vectors >= 3) return multiply_panel<3, kAdd>(rows, b, c, depth);
  if (vectors == 2) return multiply_panel<2, kAdd>(rows, b, c, depth);
  multiply_panel<1, kAdd>(rows, b, c, depth);
}

}  // namespace pyalexnet::winograd
