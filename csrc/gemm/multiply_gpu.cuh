// A GPU thread's part of a block tile: one outer product per step, accumulated in registers.
#pragma once

#include "gemm/staging_gpu.cuh"

namespace pyalexnet {

/// A thread's kThreadRows x kThreadVecs vectors of C. Rows come in groups of kRowGroup; successive groups are kThreadsDown groups apart,
/// successive vectors kThreadsAcross vectors, so that a warp's reads of shared memory cover all banks.
template <class Tile>
class GpuThreadTile {
 public:
  static constexpr int kVec = Tile::kVec;

  __device__ GpuThreadTile() {
    constexpr int kWarpsDown = Tile::kThreadsDown / Tile::kLanesDown;
    const int lane = threadIdx.x % simt::kWarp, warp = threadIdx.x / simt::kWarp;
    row_ = (lane % Tile::kLanesDown + warp % kWarpsDown * Tile::kLanesDown) * Tile::kRowGroup;
    column_ = (lane / Tile::kLanesDown + warp / kWarpsDown * Tile::kLanesAcross) * kVec;
    SIMT_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < Tile::kThreadVecs; ++j) sums_[i][j] = simt::Vec<kVec>(0.0f);
    }
  }

  /// C += A^T B over a staged k tile; steps past the block's last k are zeros.
  template <class TA, class TB>
  __device__ __forceinline__ void multiply(const TA* a, const TB* b) {
    a += row_;
    b += column_;
    SIMT_UNROLL_LOOP
    for (int k = 0; k < Tile::kDepth; ++k) {
      simt::Vec<kVec> bs[Tile::kThreadVecs];
      SIMT_UNROLL
      for (int j = 0; j < Tile::kThreadVecs; ++j) bs[j] = simt::load<kVec>(b + k * kStrideB + column_step(j));
      SIMT_UNROLL
      for (int i = 0; i < Tile::kThreadRows; i += Tile::kRowGroup) {
        const auto as = simt::load<Tile::kRowGroup>(a + k * kStrideA + row_step(i));
        SIMT_UNROLL
        for (int g = 0; g < Tile::kRowGroup; ++g) {
          SIMT_UNROLL
          for (int j = 0; j < Tile::kThreadVecs; ++j) sums_[i + g][j] = simt::fma(as[g], bs[j], sums_[i + g][j]);
        }
      }
    }
  }

  /// Calls f(row, first column, vector) for each vector of C; rows and columns are relative to the block's tile.
  template <class F>
  __device__ __forceinline__ void for_each(F f) const {
    SIMT_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < Tile::kThreadVecs; ++j) f(row_ + row_step(i), column_ + column_step(j), sums_[i][j]);
    }
  }

 private:
  static constexpr int kStrideA = GpuKTile<Tile, Tile::kRows>::kStride, kStrideB = GpuKTile<Tile, Tile::kCols>::kStride;

  /// Offsets of row i from the thread's first row, and of vector j from its first column.
  __device__ static constexpr int row_step(int i) {
    return i / Tile::kRowGroup * Tile::kThreadsDown * Tile::kRowGroup + i % Tile::kRowGroup;
  }
  __device__ static constexpr int column_step(int j) { return j * Tile::kThreadsAcross * kVec; }

  int row_, column_;
  simt::Vec<kVec> sums_[Tile::kThreadRows][Tile::kThreadVecs];
};

}  // namespace pyalexnet
