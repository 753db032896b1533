// The product of a block on a CPU, by one thread.
#pragma once

#include "gemm/staging_cpu.cuh"

namespace pyalexnet {

/// Computes a block's tile of C. For each k tile it goes from strip to strip, a register tile or a few wide, and multiplies the strip's
/// register tiles from top to bottom. A strip's panel of B is copied when its turn comes and stays in the L1 cache. All panels of A are
/// copied, a few steps between one register tile and the next, while the previous k tile is multiplied; but an A that is contiguous along k
/// is read where it is. Each multiplication prefetches what the next ones need.
template <class Tile, class A, class B>
class CpuProduct {
  static constexpr int kVec = Tile::kVec, kRows = Tile::kThreadRows, kVecs = Tile::kThreadVecs, kStrip = Tile::kStripVecs * kVec;
  static constexpr int kTiles = Tile::kRows / kRows, kStrips = Tile::kCols / kStrip;  // register tiles in a strip, strips
  static constexpr bool kCopiesA = !A::kContiguousAlongK;
  static constexpr int kPanelA = kRows * Tile::kDepth + Tile::kPad;
  using OperandA = CpuOperand<Tile, A, Tile::kRows, kRows>;
  using OperandB = CpuOperand<Tile, B, Tile::kCols, kStrip>;
  using TA = typename A::Element;
  using TB = typename B::Element;
  using Vec = simt::Vec<kVec>;

  struct Shared {
    alignas(kLineBytes) Vec sums[kStrips][kTiles][kRows * Tile::kStripVecs];
    Vec finished[kRows * kVecs];
    alignas(kLineBytes) TB b[kStrip * Tile::kDepth];
    alignas(kLineBytes) TA a[2][kCopiesA ? kTiles * kPanelA : 1];
    typename OperandA::States states_a;
    typename OperandB::States states_b;
  };

 public:
  static constexpr std::size_t kSharedBytes = sizeof(Shared);

  CpuProduct(const A& a, const B& b, const BlockTile& block, void* shared)
      : block_(block), shared_(*static_cast<Shared*>(shared)), a_(a, block.row0, block.rows, block.k_end, shared_.states_a),
        b_(b, block.column0, block.columns, block.k_end, shared_.states_b), columns_(simt::min(Tile::kCols, block.columns)),
        tiles_(simt::ceil_div(simt::min(Tile::kRows, block.rows), kRows)), strips_(simt::ceil_div(columns_, kStrip)) {}

  template <class Epilogue>
  void compute(const Epilogue& epilogue) {
    if constexpr (kCopiesA) a_.copy_panels(shared_.a[0], kPanelA, block_.k_begin, 0, 1);
    for (k_ = block_.k_begin; k_ < block_.k_end; k_ += Tile::kDepth) {
      if constexpr (!kCopiesA) a_.select(k_);
      b_.select(k_);
      for (strip_ = 0; strip_ < strips_; ++strip_) {
        copies_b_ = b_.find_panel(found_b_, strip_ * kStrip);
        if (!copies_b_) b_.copy_panel(shared_.b, strip_ * kStrip);
        const int vecs = simt::min(Tile::kStripVecs, simt::ceil_div(columns_, kVec) - strip_ * Tile::kStripVecs);
        for (int tile = 0; tile < tiles_; ++tile) {
          prepare_next(tile, epilogue);
          for (int vec = 0; vec < vecs; vec += kVecs) multiply_tile<kVecs>(tile, vec, simt::min(kVecs, vecs - vec), epilogue);
          copies_b_ = false;  // the first register tiles have
        }
      }
      odd_ = !odd_;
    }
  }

 private:
  /// Multiplies the register tile `tile` down the strip and `vec` vectors across, which has `vecs` vectors, at most kCount.
  template <int kCount, class Epilogue>
  void multiply_tile(int tile, int vec, int vecs, const Epilogue& epilogue) {
    if constexpr (kCount > 1)
      if (vecs < kCount) return multiply_tile<kCount - 1>(tile, vec, vecs, epilogue);
    const bool first = k_ == block_.k_begin, last = next_k() >= block_.k_end;
    const int row = block_.row0 + tile * kRows, column = block_.column0 + strip_ * kStrip + vec * kVec;
    Vec* const sums = &shared_.sums[strip_][tile][vec * kRows];
    multiply_runs<kCount>(tile, vec * kVec, first ? nullptr : sums, last ? shared_.finished : sums);
    if (!last) return;
    for (int i = 0; i < kRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kCount; ++j)
        epilogue.store(block_.group, block_.split, row + i, column + j * kVec, shared_.finished[i * kCount + j]);
    }
  }

  template <int kCount>
  void multiply_runs(int tile, int column, const Vec* from, Vec* to) {
    if constexpr (kCopiesA) {
      const PanelRows<TA> rows{shared_.a[odd_] + tile * kPanelA, kRows};
      multiply<kCount>(rows, column, 0, simt::min(Tile::kDepth, block_.k_end - k_), from, to);
    } else {
      a_.for_each_run(tile * kRows, [&](int k, int length, const TA* const(&at)[kRows]) {
        SeparateRows<TA, kRows> rows;
        for (int i = 0; i < kRows; ++i) rows.at[i] = at[i];
        multiply<kCount>(rows, column, k, length, from, to);
        from = to;
      });
    }
  }

  /// Multiplies `length` steps, from step k of the k tile on.
  template <int kCount, class Rows>
  void multiply(const Rows& rows, int column, int k, int length, const Vec* from, Vec* to) {
    const auto ahead = list_.take(length);
    TB* const panel = shared_.b + k * kStrip + column;
    if (copies_b_)
      multiply_register_tile<kVec, kRows, kCount>(rows, CopiedColumns<kVec, TB>{found_b_ + k, column, panel, kStrip}, length, from, to,
                                                  ahead);
    else
      multiply_register_tile<kVec, kRows, kCount>(rows, PanelColumns<kVec, TB>{panel, kStrip}, length, from, to, ahead);
  }

  /// Does a register tile's share of the preparations: copies a part of A's next k tile, and lists the memory that is stored, copied or
  /// read soon. Where a multiplication is too short for all, what is listed last is left out: A's next rows, which other strips may have
  /// read.
  template <class Epilogue>
  void prepare_next(int tile, const Epilogue& epilogue) {
    list_.clear();
    const bool last = next_k() >= block_.k_end;
    if (last && !epilogue.streams())
      for (int i = 0; i < kRows; ++i)
        list_.add(epilogue.at(block_.group, block_.split, block_.row0 + tile * kRows + i, block_.column0 + strip_ * kStrip), kStrip);
    if (strip_ + 1 < strips_)
      b_.list(list_, k_, (strip_ + 1) * kStrip, kStrip, tile, tiles_);
    else if (!last)
      b_.list(list_, next_k(), 0, kStrip, tile, tiles_);
    if constexpr (kCopiesA) {
      if (last) return;
      const int part = strip_ * tiles_ + tile, parts = strips_ * tiles_;
      a_.copy_panels(shared_.a[!odd_], kPanelA, next_k(), part, parts);
      if (part + 1 < parts) a_.list(list_, next_k(), 0, Tile::kRows, part + 1, parts);
    } else if (tile + 1 < tiles_) {
      a_.list(list_, k_, (tile + 1) * kRows, kRows, 0, 1);
    }
  }

  int next_k() const { return k_ + Tile::kDepth; }

  const BlockTile& block_;
  Shared& shared_;
  OperandA a_;
  OperandB b_;
  int columns_, tiles_, strips_;  // inside C
  int k_ = 0, strip_ = 0;
  bool odd_ = false;       // which of A's buffers the k tile is in
  bool copies_b_ = false;  // whether a multiplication copies B's panel from found_b_
  const TB* found_b_[Tile::kDepth];
  PrefetchList<simt::max<int>(1, kStrip * sizeof(TB) / kLineBytes)> list_;
};

}  // namespace pyalexnet
