// A CPU thread's part of a block tile: a column of register tiles, each held in vector registers while one k tile is multiplied.
#pragma once

#include "gemm/staging_cpu.cuh"

namespace pyalexnet {

/// acc += A^T B over `depth` steps of a staged k tile; a and b point to the register tile's first row and column. Not inlined: within a
/// larger function GCC spills the two dozen accumulators.
template <class Tile, class TA, class TB>
__attribute__((noinline)) void multiply_register_tile(const TA* a, const TB* b,
                                                      simt::Vec<Tile::kVec> (&acc)[Tile::kThreadRows][Tile::kThreadVecs], int depth) {
  constexpr int kVec = Tile::kVec, kRows = Tile::kThreadRows, kVecs = Tile::kThreadVecs;
  simt::Vec<kVec> sums[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) sums[i][j] = acc[i][j];
  }
  SIMT_UNROLL_LOOP
  for (int k = 0; k < depth; ++k) {
    simt::Vec<kVec> bs[kVecs];
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) bs[j] = simt::load<kVec>(b + k * CpuKTileB<Tile>::kPanel + j * kVec);
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const float x = simt::to_float(a[k * CpuKTileA<Tile>::kPanel + i]);
      SIMT_UNROLL
      for (int j = 0; j < kVecs; ++j) sums[i][j] = simt::fma(x, bs[j], sums[i][j]);
    }
  }
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) acc[i][j] = sums[i][j];
  }
}

/// A thread's strip of C, kThreadVecs vectors wide. Its register tiles are loaded into registers one after another, once per k tile. Those
/// outside C are skipped.
template <class Tile>
class CpuThreadTile {
 public:
  static constexpr int kVec = Tile::kVec;

  explicit CpuThreadTile(const BlockTile& block) : column_(threadIdx.x * Tile::kThreadVecs * kVec) {
    tiles_ = column_ < block.columns ? simt::min(Tile::kThreadTiles, simt::ceil_div(block.rows, Tile::kThreadRows)) : 0;
    for (int t = 0; t < tiles_; ++t) {
      SIMT_UNROLL
      for (int i = 0; i < Tile::kThreadRows; ++i) {
        SIMT_UNROLL
        for (int j = 0; j < Tile::kThreadVecs; ++j) sums_[t][i][j] = simt::Vec<kVec>(0.0f);
      }
    }
  }

  /// C += A^T B over `depth` steps of a staged k tile.
  template <class TA, class TB>
  void multiply(const TA* a, const TB* b, int depth) {
    b += CpuKTileB<Tile>::at(0, column_);
    for (int t = 0; t < tiles_; ++t) multiply_register_tile<Tile>(a + CpuKTileA<Tile>::at(0, t * Tile::kThreadRows), b, sums_[t], depth);
  }

  /// Calls f(row, first column, vector) for each vector of C; rows and columns are relative to the block's tile.
  template <class F>
  void for_each(F f) const {
    for (int t = 0; t < tiles_; ++t) {
      for (int i = 0; i < Tile::kThreadRows; ++i) {
        SIMT_UNROLL
        for (int j = 0; j < Tile::kThreadVecs; ++j) f(t * Tile::kThreadRows + i, column_ + j * kVec, sums_[t][i][j]);
      }
    }
  }

 private:
  int column_;
  int tiles_;  // register tiles inside C
  simt::Vec<kVec> sums_[Tile::kThreadTiles][Tile::kThreadRows][Tile::kThreadVecs];
};

}  // namespace pyalexnet
