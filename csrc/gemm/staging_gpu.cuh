// Staging on a GPU: brings k tiles of A and B into shared memory, one ahead of the one being multiplied.
#pragma once

#include "gemm/operand.cuh"
#include "gemm/tiles.cuh"

namespace pyalexnet {

/// Layout of a k tile of `kRows` rows in shared memory: element (k, row) is at k * kStride + row.
template <class Tile, int kRows>
struct GpuKTile {
  static constexpr int kStride = kRows + Tile::kPad;
  static constexpr int kElements = kStride * Tile::kDepth;
};

/// Stages one operand. The threads divide the k tile's vectors among them; a thread's positions are the same in every k tile.
template <class Tile, class Operand, int kRows>
class GpuOperandStaging {
 public:
  using T = typename Operand::Element;
  using RowState = typename Operand::RowState;
  static constexpr int kVec = Tile::kVec;
  static constexpr int kStates = Operand::kContiguousAlongK ? kRows : kRows / kVec;
  static constexpr int kStateBytes = simt::round_up<int>(kStates * sizeof(RowState), 64);
  /// Whether vectors are loaded into registers and then stored, rather than copied asynchronously.
  static constexpr bool kThroughRegisters = Operand::kContiguousAlongK || !Tile::kAsyncCopies;

  /// Computes the address states of the rows from row0 on, divided among the threads. `states` is complete after a barrier.
  __device__ GpuOperandStaging(const Operand& operand, int row0, int k_end, char* states)
      : operand_(operand), states_(reinterpret_cast<RowState*>(states)), k_end_(k_end) {
    constexpr int kRowsPerState = Operand::kContiguousAlongK ? 1 : kVec;
    for (int i = threadIdx.x; i < kStates; i += Tile::kThreads) states_[i] = operand_.row_state(row0 + i * kRowsPerState);
  }

  /// Starts loading the k tile at k0, asynchronously into `buffer` or into registers.
  __device__ __forceinline__ void begin(T* buffer, int k0) {
    if constexpr (kThroughRegisters) {
      SIMT_UNROLL
      for (int i = 0; i < kItems; ++i) held_[i] = load<kVec, Operand::kAlwaysWhole>(plan_of_item(threadIdx.x + i * Tile::kThreads, k0));
    } else {
      copy_rows(buffer, k0);
    }
  }

  /// Stores what this thread holds in registers. Asynchronous copies stay pending: the caller waits once for both operands.
  __device__ __forceinline__ void finish(T* buffer) {
    if constexpr (kThroughRegisters) {
      SIMT_UNROLL
      for (int i = 0; i < kItems; ++i) store_item(buffer, threadIdx.x + i * Tile::kThreads, held_[i]);
    }
  }

 private:
  static constexpr int kStride = GpuKTile<Tile, kRows>::kStride;
  static constexpr int kDepthVecs = Tile::kDepth / kVec;
  static constexpr int kItems = kRows / kVec * Tile::kDepth / Tile::kThreads;  // vectors per thread
  static_assert(kItems * Tile::kThreads * kVec == kRows * Tile::kDepth, "all threads have the same number of whole vectors");
  static_assert(Tile::kThreads % (kRows / kVec) == 0, "threads cover whole rows");

  /// Plan of the item-th vector of the k tile, counted along the contiguous axis.
  __device__ __forceinline__ LoadPlan<T> plan_of_item(int item, int k0) const {
    const int k = k0 + (Operand::kContiguousAlongK ? item % kDepthVecs * kVec : item / kStates);
    if (k >= k_end_) return {nullptr, 0, false};
    return operand_.load_plan(states_[Operand::kContiguousAlongK ? item / kDepthVecs : item % kStates], operand_.k_step(k));
  }

  __device__ __forceinline__ void store_item(T* buffer, int item, simt::Vec<kVec> v) const {
    if constexpr (Operand::kContiguousAlongK) {
      const int k = item % kDepthVecs * kVec, row = item / kDepthVecs;
      SIMT_UNROLL
      for (int j = 0; j < kVec; ++j) buffer[(k + j) * kStride + row] = simt::to_storage<T>(v[j]);
    } else {
      simt::store<kVec>(buffer + item / kStates * kStride + item % kStates * kVec, v);
    }
  }

  /// Vectors of rows have the same layout in global and shared memory, so they are copied. A thread copies one vector of rows, for every
  /// kDown-th k.
  __device__ __forceinline__ void copy_rows(T* buffer, int k0) {
    constexpr int kDown = Tile::kThreads / kStates;
    const int v = threadIdx.x % kStates;
    for (int d = threadIdx.x / kStates; d < Tile::kDepth; d += kDown) {
      const int k = k0 + d;
      const auto plan = k < k_end_ ? operand_.load_plan(states_[v], operand_.k_step(k)) : LoadPlan<T>{nullptr, 0, false};
      T* to = buffer + d * kStride + v * kVec;
      if (plan.whole)
        simt::copy_async<kVec>(to, plan.from);
      else
        simt::store<kVec>(to, load<kVec, Operand::kAlwaysWhole>(plan));
    }
  }

  const Operand& operand_;
  RowState* states_;
  int k_end_;
  simt::Vec<kVec> held_[kThroughRegisters ? kItems : 1];
};

/// Stages both operands in kStages buffers of shared memory.
template <class Tile, class A, class B>
class GpuStaging {
  using StagingA = GpuOperandStaging<Tile, A, Tile::kRows>;
  using StagingB = GpuOperandStaging<Tile, B, Tile::kCols>;
  using TA = typename A::Element;
  using TB = typename B::Element;
  static constexpr int kBytesA = GpuKTile<Tile, Tile::kRows>::kElements * sizeof(TA);
  static constexpr int kBytesB = GpuKTile<Tile, Tile::kCols>::kElements * sizeof(TB);
  static constexpr int kBufferBytes = Tile::kStages * (kBytesA + kBytesB);
  static_assert(Tile::kStages == 2, "double buffering: one k tile is multiplied while the next is loaded");

 public:
  static constexpr std::size_t kSharedBytes = kBufferBytes + StagingA::kStateBytes + StagingB::kStateBytes;

  /// Starts loading the block's first k tile.
  __device__ GpuStaging(const A& a, const B& b, const BlockTile& block, char* shared)
      : shared_(shared), k_end_(block.k_end), a_(a, block.row0, block.k_end, shared + kBufferBytes),
        b_(b, block.column0, block.k_end, shared + kBufferBytes + StagingA::kStateBytes) {
    __syncthreads();  // the row states are complete
    begin(block.k_begin);
  }

  /// Returns the k tile at k, valid until the next call, and starts loading the one after it.
  __device__ __forceinline__ Staged<TA, TB> next(int k) {
    const Staged<TA, TB> staged{buffer_a(), buffer_b()};
    a_.finish(buffer_a());
    b_.finish(buffer_b());
    if constexpr (!StagingA::kThroughRegisters || !StagingB::kThroughRegisters) simt::copy_async_wait();
    __syncthreads();  // this k tile is complete; no thread reads the previous one
    stage_ ^= 1;
    if (k + Tile::kDepth < k_end_) begin(k + Tile::kDepth);
    return staged;
  }

 private:
  __device__ __forceinline__ TA* buffer_a() const { return reinterpret_cast<TA*>(shared_ + stage_ * (kBytesA + kBytesB)); }
  __device__ __forceinline__ TB* buffer_b() const { return reinterpret_cast<TB*>(shared_ + stage_ * (kBytesA + kBytesB) + kBytesA); }
  __device__ __forceinline__ void begin(int k) {
    a_.begin(buffer_a(), k);
    b_.begin(buffer_b(), k);
  }

  char* shared_;
  int k_end_;
  int stage_ = 0;
  StagingA a_;
  StagingB b_;
};

}  // namespace pyalexnet
