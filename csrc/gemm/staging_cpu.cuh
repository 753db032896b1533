// Staging on a CPU: copies k tiles of A and B into the worker's buffer, which stays in the L2 cache.
#pragma once

#include <numeric>

#include "gemm/operand.cuh"
#include "gemm/tiles.cuh"

namespace pyalexnet {

/// Layout of a k tile of `kRows` rows: panels of kPanel rows. kPanel is `kEdge`, the rows that a register tile reads per step, or the
/// smallest multiple of it that is whole vectors. Within a panel successive k are adjacent, so it is read sequentially; rows as wide as the
/// block's tile would touch a new cache line, and often a new page, for each k.
template <class Tile, int kRows, int kEdge>
struct CpuKTile {
  static constexpr int kPanel = std::lcm(kEdge, Tile::kVec);
  static constexpr int kPanelElements = kPanel * Tile::kDepth + Tile::kPad;
  static constexpr int kElements = kRows / kPanel * kPanelElements;
  static_assert(kRows % kPanel == 0, "panels tile the k tile");

  /// Index of element (k, row).
  static constexpr int at(int k, int row) { return row / kPanel * kPanelElements + k * kPanel + row % kPanel; }
};

template <class Tile>
using CpuKTileA = CpuKTile<Tile, Tile::kRows, Tile::kThreadRows>;
template <class Tile>
using CpuKTileB = CpuKTile<Tile, Tile::kCols, Tile::kThreadVecs * Tile::kVec>;

/// Stages one operand; copies only what is inside the matrix.
template <class Tile, class Operand, int kRows, int kEdge>
class CpuOperandStaging {
 public:
  using T = typename Operand::Element;
  using RowState = typename Operand::RowState;
  using KTile = CpuKTile<Tile, kRows, kEdge>;
  static constexpr int kVec = Tile::kVec;
  static constexpr int kStates = Operand::kContiguousAlongK ? kRows : kRows / kVec;
  static constexpr int kStateBytes = simt::round_up<int>(kStates * sizeof(RowState), 64);

  /// Computes the address states of the rows from row0 on; the matrix has `rows` of them. `states` is complete after a barrier.
  CpuOperandStaging(const Operand& operand, int row0, int rows, int k_end, char* states)
      : operand_(operand), states_(reinterpret_cast<RowState*>(states)), k_end_(k_end),
        vectors_(simt::ceil_div(simt::min(kRows, simt::round_up(rows, kEdge)), kVec)) {
    constexpr int kRowsPerState = Operand::kContiguousAlongK ? 1 : kVec;
    for (int i = threadIdx.x; i < kStates; i += Tile::kThreads) states_[i] = operand_.row_state(row0 + i * kRowsPerState);
  }

  /// Copies this thread's part of the k tile at k0.
  void copy(T* buffer, int k0) {
    if constexpr (Operand::kContiguousAlongK)
      copy_transposed(buffer, k0);
    else
      copy_rows(buffer, k0);
  }

 private:
  static_assert(kRows % kVec == 0 && Tile::kDepth % kVec == 0, "k tiles consist of whole vectors");

  /// A thread copies whole steps, in runs of vectors that are adjacent in memory and share a bounds check.
  void copy_rows(T* buffer, int k0) {
    const int depth = simt::min(Tile::kDepth, k_end_ - k0);
    for (int d = threadIdx.x; d < depth; d += Tile::kThreads) {
      const typename Operand::KStep step = operand_.k_step(k0 + d);
      for (int v = 0; v < vectors_;) {
        const LoadPlan<T> plan = operand_.load_plan(states_[v], step);
        const int end = simt::min(vectors_, v + operand_.contiguous(states_[v]));
        if (plan.whole) {
          for (const T* from = plan.from; v < end; ++v, from += kVec)
            simt::store<kVec>(buffer + KTile::at(d, v * kVec), simt::load<kVec>(from));
        } else if (plan.count > 0) {
          simt::store<kVec>(buffer + KTile::at(d, v++ * kVec), load<kVec, Operand::kAlwaysWhole>(plan));
        } else {
          do {  // at least once: past the last row, contiguous() is 0 or less
            simt::store<kVec>(buffer + KTile::at(d, v * kVec), simt::Vec<kVec>(0.0f));
          } while (++v < end);
        }
      }
    }
  }

  /// A thread transposes blocks of kVec rows by kVec k in registers, in runs along k that share their bounds checks.
  void copy_transposed(T* buffer, int k0) {
    static constexpr T kZeros[kVec] = {};
    const int depth = simt::min(Tile::kDepth, k_end_ - k0);
    for (int b = threadIdx.x; b < vectors_; b += Tile::kThreads) {
      const int row = b * kVec;
      for (int k = 0; k < depth;) {
        const typename Operand::KStep step = operand_.k_step(k0 + k);
        const int run = operand_.contiguous(step);
        simt::Vec<kVec> block[kVec];
        if (run == 0) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) block[i] = load<kVec, Operand::kAlwaysWhole>(operand_.load_plan(states_[row + i], step));
          store_transposed(buffer, k, row, block);
          k += kVec;
          continue;
        }
        const T* from[kVec];
        int stride[kVec];  // 0 for a row of zeros
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) {
          const LoadPlan<T> plan = operand_.load_plan(states_[row + i], step);
          from[i] = plan.whole ? plan.from : kZeros;
          stride[i] = plan.whole ? kVec : 0;
        }
        for (const int end = simt::min(depth, k + run * kVec); k < end; k += kVec) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) {
            block[i] = simt::load<kVec>(from[i]);
            from[i] += stride[i];
          }
          store_transposed(buffer, k, row, block);
        }
      }
    }
  }

  static void store_transposed(T* buffer, int k, int row, simt::Vec<kVec> (&block)[kVec]) {
    simt::transpose(block);
    SIMT_UNROLL
    for (int i = 0; i < kVec; ++i) simt::store<kVec>(buffer + KTile::at(k + i, row), block[i]);
  }

  const Operand& operand_;
  RowState* states_;
  int k_end_;
  int vectors_;  // vectors of rows inside the matrix
};

/// Stages both operands in a single buffer: a CPU prefetches in hardware.
template <class Tile, class A, class B>
class CpuStaging {
  using StagingA = CpuOperandStaging<Tile, A, Tile::kRows, Tile::kThreadRows>;
  using StagingB = CpuOperandStaging<Tile, B, Tile::kCols, Tile::kThreadVecs * Tile::kVec>;
  using TA = typename A::Element;
  using TB = typename B::Element;
  static constexpr int kBytesA = StagingA::KTile::kElements * sizeof(TA);
  static constexpr int kBytesB = StagingB::KTile::kElements * sizeof(TB);

 public:
  static constexpr std::size_t kSharedBytes = kBytesA + kBytesB + StagingA::kStateBytes + StagingB::kStateBytes;

  CpuStaging(const A& a, const B& b, const BlockTile& block, char* shared)
      : shared_a_(reinterpret_cast<TA*>(shared)), shared_b_(reinterpret_cast<TB*>(shared + kBytesA)),
        a_(a, block.row0, block.rows, block.k_end, shared + kBytesA + kBytesB),
        b_(b, block.column0, block.columns, block.k_end, shared + kBytesA + kBytesB + StagingA::kStateBytes) {}

  /// Returns the k tile at k, valid until the next call.
  Staged<TA, TB> next(int k) {
    __syncthreads();  // the row states are complete; no thread reads the previous k tile
    a_.copy(shared_a_, k);
    b_.copy(shared_b_, k);
    __syncthreads();  // this k tile is complete
    return {shared_a_, shared_b_};
  }

 private:
  TA* shared_a_;
  TB* shared_b_;
  StagingA a_;
  StagingB b_;
};

}  // namespace pyalexnet
