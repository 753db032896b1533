// Staging on a CPU: copies parts of A and B into panels, which stay in the caches, and lists the memory that comes next.
#pragma once

#include "gemm/multiply_cpu.cuh"
#include "gemm/operand.cuh"
#include "gemm/tiles.cuh"

namespace pyalexnet {

/// Collects memory to prefetch during a multiplication.
template <int kLines>
class PrefetchList {
 public:
  void clear() { next_ = count_ = 0; }
  /// Adds `elements` from `from` on, as far as there is room.
  template <class T>
  void add(const T* from, int elements) {
    constexpr int kStep = kLines * kLineBytes / static_cast<int>(sizeof(T));
    for (int i = 0; i < elements && count_ < kMost; i += kStep) pieces_[count_++] = from + i;
  }
  /// Takes as many pieces off the list as fit into `steps` steps.
  Pieces<kLines> take(int steps) {
    const int first = next_;
    next_ = simt::min(count_, first + steps / Pieces<kLines>::kSteps);
    return {pieces_ + first, next_ - first};
  }

 private:
  static constexpr int kMost = 64;
  const void* pieces_[kMost];
  int count_ = 0, next_ = 0;
};

/// A block's part of an operand: kRows rows. Panels have kPanel rows; successive k are adjacent, so a panel is read sequentially, and there
/// is nothing in it but what a register tile reads.
template <class Tile, class Operand, int kRows, int kPanel>
class CpuOperand {
 public:
  using T = typename Operand::Element;
  using RowState = typename Operand::RowState;
  using KStep = typename Operand::KStep;
  static constexpr int kVec = Tile::kVec;
  static constexpr bool kContiguousAlongK = Operand::kContiguousAlongK;
  static_assert(kRows % kPanel == 0 && kRows % kVec == 0 && Tile::kDepth % kVec == 0, "k tiles consist of whole panels and vectors");

  /// Address states: of all rows, and of the steps of the current k tile where vectors are along the rows.
  struct States {
    RowState rows[kContiguousAlongK ? kRows : kRows / kVec];
    KStep steps[kContiguousAlongK ? 1 : Tile::kDepth];
  };

  /// The part starts at row0, from where the matrix has `rows` rows, and ends at k_end.
  CpuOperand(const Operand& operand, int row0, int rows, int k_end, States& states)
      : operand_(operand), states_(states), rows_(simt::min(kRows, rows)), k_end_(k_end) {
    constexpr int kRowsPerState = kContiguousAlongK ? 1 : kVec;
    for (int i = 0; i < kRows / kRowsPerState; ++i) states_.rows[i] = operand_.row_state(row0 + i * kRowsPerState);
  }

  /// Makes the k tile at k the current one.
  void select(int k) {
    k_ = k;
    depth_ = depth(k);
    if constexpr (!kContiguousAlongK)
      for (int d = 0; d < depth_; ++d) states_.steps[d] = operand_.k_step(k + d);
  }

  /// Copies the current k tile's panel from `row` on.
  void copy_panel(T* panel, int row) const {
    const int vectors = simt::ceil_div(simt::min(kPanel, rows_ - row), kVec);
    if constexpr (kContiguousAlongK)
      copy_transposed(panel, row, vectors);
    else
      copy_rows(panel, row / kVec, vectors);
  }

  /// Sets from[d] to where step d of the current k tile has the panel from `row` on. Returns false if there is no such place.
  bool find_panel(const T** from, int row) const {
    if constexpr (!kContiguousAlongK) {
      static constexpr T kZeros[kPanel] = {};
      const RowState& state = states_.rows[row / kVec];
      if (row + kPanel > rows_ || operand_.contiguous(state) * kVec < kPanel) return false;
      for (int d = 0; d < depth_; ++d) {
        const LoadPlan<T> plan = operand_.load_plan(state, states_.steps[d]);
        if (!plan.whole && plan.count > 0) return false;
        from[d] = plan.whole ? plan.from : kZeros;
      }
    }
    return !kContiguousAlongK;
  }

  /// Copies one of `parts` parts of the k tile at k into panels that are `per_panel` elements apart. A panel's step is copied by one access
  /// of more elements: the next step overwrites those that are too many, so there is padding after a panel.
  void copy_panels(T* panels, int per_panel, int k, int part, int parts) const {
    constexpr int kWide = kPanel <= 4 ? 4 : 8;
    static_assert(kPanel <= kWide && kWide - kPanel <= Tile::kPad && !kContiguousAlongK, "an access has a panel's step");
    const int end = simt::round_up(rows_, kPanel), depth = this->depth(k);
    for (int d = depth * part / parts; d < depth * (part + 1) / parts; ++d) {
      const KStep step = operand_.k_step(k + d);
      const LoadPlan<T> plan = operand_.load_plan(states_.rows[0], step);
      const int whole = plan.whole ? operand_.contiguous(states_.rows[0]) * kVec : 0;  // rows in one place
      const T* from = plan.from;
      T* panel = panels + d * kPanel;
      int row = 0;
      for (; row < end && row + kWide <= whole; row += kPanel, panel += per_panel, from += kPanel)
        simt::store<kWide>(panel, simt::load<kWide>(from));
      for (; row < end; row += kPanel, panel += per_panel, from += kPanel)
        for (int i = 0; i < kPanel; ++i) panel[i] = row + i < whole ? from[i] : element(row + i, step);
    }
  }

  /// Calls f(k, length, from) for runs of the current k tile in which each of kPanel rows is contiguous; row i of a run is at from[i].
  template <class F>
  void for_each_run(int row, F f) const {
    static constexpr T kZeros[Tile::kDepth] = {};
    for (int k = 0; k < depth_;) {
      const KStep step = operand_.k_step(k_ + k);
      const int run = operand_.contiguous(step) * kVec;
      // Beyond the elements of a vector that is not whole, both operands are zeros.
      const int length = simt::min(run > 0 ? run : operand_.load_plan(states_.rows[row], step).count, depth_ - k);
      const T* from[kPanel];
      SIMT_UNROLL
      for (int i = 0; i < kPanel; ++i) {
        const LoadPlan<T> plan = operand_.load_plan(states_.rows[row + i], step);
        from[i] = plan.whole || plan.count > 0 ? plan.from : kZeros;
      }
      f(k, length, from);
      k += run > 0 ? length : kVec;
    }
  }

  /// Lists one of `parts` parts of what `count` rows from `row` on need of the k tile at k.
  template <class List>
  void list(List& list, int k, int row, int count, int part, int parts) const {
    const int depth = this->depth(k);
    count = simt::min(count, rows_ - row);
    if constexpr (kContiguousAlongK) {
      for (int i = count * part / parts; i < count * (part + 1) / parts; ++i) {
        for (int d = 0; d < depth;) {
          const KStep step = operand_.k_step(k + d);
          const int length = simt::min(depth - d, simt::max(1, operand_.contiguous(step)) * kVec);
          const LoadPlan<T> plan = operand_.load_plan(states_.rows[row + i], step);
          if (plan.whole) list.add(plan.from, length);
          d += length;
        }
      }
    } else {
      const int first = row / kVec, end = simt::ceil_div(row + count, kVec);
      for (int d = depth * part / parts; d < depth * (part + 1) / parts; ++d) {
        const KStep step = k == k_ ? states_.steps[d] : operand_.k_step(k + d);
        for (int v = first; v < end;) {
          const RowState& state = states_.rows[v];
          const int vectors = simt::max(1, operand_.contiguous(state));
          const LoadPlan<T> plan = operand_.load_plan(state, step);
          if (plan.whole) list.add(plan.from, simt::min(end - v, vectors) * kVec);
          v += vectors;
        }
      }
    }
  }

 private:
  int depth(int k) const { return simt::min(Tile::kDepth, k_end_ - k); }

  T element(int row, const KStep& step) const {
    const LoadPlan<T> plan = operand_.load_plan(states_.rows[row / kVec], step);
    return plan.whole || row % kVec < plan.count ? plan.from[row % kVec] : T{};
  }

  /// Copies vectors of rows, in runs that are adjacent in memory and share a bounds check.
  void copy_rows(T* panel, int first, int vectors) const {
    for (int d = 0; d < depth_; ++d, panel += kPanel) {
      const KStep& step = states_.steps[d];
      for (int v = 0; v < vectors;) {
        const RowState& row = states_.rows[first + v];
        const LoadPlan<T> plan = operand_.load_plan(row, step);
        const int end = simt::min(vectors, v + operand_.contiguous(row));
        if (plan.whole) {
          for (const T* from = plan.from; v < end; ++v, from += kVec) simt::store<kVec>(panel + v * kVec, simt::load<kVec>(from));
        } else if (plan.count > 0) {
          simt::store<kVec>(panel + v++ * kVec, load<kVec, Operand::kAlwaysWhole>(plan));
        } else {
          do {  // at least once: past the last row, contiguous() is 0 or less
            simt::store<kVec>(panel + v * kVec, simt::Vec<kVec>(0.0f));
          } while (++v < end);
        }
      }
    }
  }

  /// Transposes blocks of kVec rows by kVec k in registers, in runs along k that share their bounds checks.
  void copy_transposed(T* panel, int first_row, int vectors) const {
    static constexpr T kZeros[kVec] = {};
    for (int row = first_row; row < first_row + vectors * kVec; row += kVec, panel += kVec) {
      for (int k = 0; k < depth_;) {
        const KStep step = operand_.k_step(k_ + k);
        const int run = operand_.contiguous(step);
        simt::Vec<kVec> block[kVec];
        if (run == 0) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) block[i] = load<kVec, Operand::kAlwaysWhole>(operand_.load_plan(states_.rows[row + i], step));
          store_transposed(panel + k * kPanel, block);
          k += kVec;
          continue;
        }
        const T* from[kVec];
        int stride[kVec];  // 0 for a row of zeros
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) {
          const LoadPlan<T> plan = operand_.load_plan(states_.rows[row + i], step);
          from[i] = plan.whole ? plan.from : kZeros;
          stride[i] = plan.whole ? kVec : 0;
        }
        for (const int end = simt::min(depth_, k + run * kVec); k < end; k += kVec) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) {
            block[i] = simt::load<kVec>(from[i]);
            from[i] += stride[i];
          }
          store_transposed(panel + k * kPanel, block);
        }
      }
    }
  }

  static void store_transposed(T* panel, simt::Vec<kVec> (&block)[kVec]) {
    simt::transpose(block);
    SIMT_UNROLL
    for (int i = 0; i < kVec; ++i) simt::store<kVec>(panel + i * kPanel, block[i]);
  }

  const Operand& operand_;
  States& states_;
  int rows_;  // inside the matrix
  int k_end_;
  int k_ = -1, depth_ = 0;  // of the current k tile
};

}  // namespace pyalexnet
