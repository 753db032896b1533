// The tiled matrix product that convolutions and fully connected layers share:
//
//   C[row][column] = sum over k of A[k][row] * B[k][column]
//
// A block computes one tile of C. It walks through k in phases: all threads stage a slice of A and of B in shared memory, k-major, wait
// for each other, and multiply; meanwhile the next slice is on its way into the other buffer. What A, B and C are is left to two
// operand loaders and an epilogue, so a convolution's patches are gathered on the way and never written out (implicit GEMM).
//
// An operand says where its elements are:
//   kTransposed   false: kVec consecutive *outer* indices (A's rows, B's columns) are contiguous in memory
//                 true:  kVec consecutive k are contiguous in memory; they are transposed on the way into shared memory
//   kAlwaysWhole  true: a vector is either all there or all zeros
//   Entry, entry(o)    what is to be known of outer index o; worked out once per block and kept in shared memory
//   Step, step(k)      what is to be known of reduction index k
//   source(entry, step)  where the vector is: Source
//   select(group)      moves on to a group of a grouped convolution
#pragma once

#include "gemm/gemm_tiles.cuh"
#include "simt/simt.cuh"

namespace pyalexnet {

/// A vector in memory: `whole` (all of it, aligned as the target needs), or its first `count` elements followed by zeros.
struct Source {
  const float* from;
  int count;
  bool whole;
};

/// The reduction's range [begin, end) of a block: `length` in all, cut in pieces of `chunk`.
struct Reduction {
  int length;
  int chunk;
  int splits;
};

/// Copies slices of one operand into shared memory. kOuter: the tile's extent along the operand's outer index; kEdge: what a thread
/// multiplies of it.
template <class Tile, class Operand, int kOuter, int kEdge>
class Stager {
 public:
  static constexpr int kVec = Tile::kVec;
  static constexpr int kStride = kOuter + Tile::kPad;  // floats from one k to the next
  static constexpr int kBufferFloats = kStride * Tile::kDepth;
  static constexpr int kEntries = Operand::kTransposed ? kOuter : kOuter / kVec;
  static constexpr int kTableBytes = simt::round_up<int>(kEntries * sizeof(typename Operand::Entry), 64);

  __device__ Stager(const Operand& operand, int origin, int extent, int k_end, void* table)
      : operand_(operand), table_(static_cast<typename Operand::Entry*>(table)), k_end_(k_end) {
    // Fat threads skip what lies outside the matrix, so there is no need to stage it.
    used_ = Tile::kSkipsEdges ? simt::least(kOuter, simt::round_up(extent - origin, kEdge)) : kOuter;
    constexpr int kOuterPerEntry = Operand::kTransposed ? 1 : kVec;
    for (int i = threadIdx.x; i < kEntries; i += Tile::kThreads) table_[i] = operand_.entry(origin + i * kOuterPerEntry);
  }

  /// Starts copying the slice at k0: into `buffer` where copies run in the background, else into registers.
  __device__ __forceinline__ void begin(float* buffer, int k0) {
    if constexpr (kThroughRegisters) {
      SIMT_UNROLL
      for (int i = 0; i < kItems; ++i) held_[i] = fetch(item_source(threadIdx.x + i * Tile::kThreads, k0));
    } else if constexpr (Operand::kTransposed) {
      stage_transposed(buffer, k0);
    } else {
      stage_straight(buffer, k0);
    }
  }

  /// After this, a barrier completes the slice.
  __device__ __forceinline__ void finish(float* buffer) {
    if constexpr (kThroughRegisters) {
      SIMT_UNROLL
      for (int i = 0; i < kItems; ++i) {
        const int item = threadIdx.x + i * Tile::kThreads;
        if constexpr (Operand::kTransposed) {
          const int k = item % kDepthVecs * kVec, outer = item / kDepthVecs;
          SIMT_UNROLL
          for (int j = 0; j < kVec; ++j) buffer[(k + j) * kStride + outer] = held_[i][j];
        } else {
          simt::store<kVec>(buffer + item / kEntries * kStride + item % kEntries * kVec, held_[i]);
        }
      }
    } else {
      simt::copy_async_wait();
    }
  }

 private:
  static constexpr bool kThroughRegisters = Tile::kRegisters && (Operand::kTransposed || !Tile::kAsyncCopies);
  static constexpr int kDepthVecs = Tile::kDepth / kVec;
  static constexpr int kItems = kOuter / kVec * Tile::kDepth / Tile::kThreads;
  static_assert(!Tile::kRegisters || kItems * Tile::kThreads * kVec == kOuter * Tile::kDepth, "a thread holds whole vectors, all as many");
  static_assert(kOuter % kVec == 0 && Tile::kDepth % kVec == 0 && kStride % 4 == 0, "slices are made of vectors");

  __device__ __forceinline__ simt::Vec<kVec> fetch(Source s) const {
    if (s.whole) return simt::load<kVec>(s.from);
    simt::Vec<kVec> r(0.0f);
    if constexpr (!Operand::kAlwaysWhole)
      for (int i = 0; i < kVec; ++i)
        if (i < s.count) r.set(i, s.from[i]);
    return r;
  }

  __device__ __forceinline__ Source item_source(int item, int k0) const {
    const int k = k0 + (Operand::kTransposed ? item % kDepthVecs * kVec : item / kEntries);
    if (k >= k_end_) return {nullptr, 0, false};
    return operand_.source(table_[Operand::kTransposed ? item / kDepthVecs : item % kEntries], operand_.step(k));
  }

  /// Vectors lie in memory as they will in shared memory. A thread takes whole rows of them (CPU) or one column (GPU).
  __device__ __forceinline__ void stage_straight(float* buffer, int k0) {
    constexpr int kAcross = Tile::kSkipsEdges ? 1 : kEntries;
    constexpr int kDown = Tile::kThreads / kAcross;
    static_assert(Tile::kThreads % kAcross == 0, "threads form whole rows");
    for (int d = threadIdx.x / kAcross; d < Tile::kDepth; d += kDown) {
      const int k = k0 + d;
      if (k >= k_end_ && Tile::kSkipsEdges) return;
      const typename Operand::Step step = operand_.step(k);
      for (int v = threadIdx.x % kAcross; v * kVec < used_; v += kAcross) {
        const Source s = k < k_end_ ? operand_.source(table_[v], step) : Source{nullptr, 0, false};
        float* to = buffer + d * kStride + v * kVec;
        if (s.whole)
          simt::copy_async<kVec>(to, s.from);
        else
          simt::store<kVec>(to, fetch(s));
      }
    }
  }

  /// CPU: blocks of kVec outer indices by kVec k are transposed in registers.
  __device__ __forceinline__ void stage_transposed(float* buffer, int k0) {
    const int blocks = used_ / kVec + (used_ % kVec != 0);
    const int depth = simt::least(Tile::kDepth, k_end_ - k0);
    for (int item = threadIdx.x; item < blocks * kDepthVecs; item += Tile::kThreads) {
      const int k = item % kDepthVecs * kVec, outer = item / kDepthVecs * kVec;
      if (k >= depth) continue;
      const typename Operand::Step step = operand_.step(k0 + k);
      simt::Vec<kVec> block[kVec];
      SIMT_UNROLL
      for (int i = 0; i < kVec; ++i) block[i] = fetch(operand_.source(table_[outer + i], step));
      simt::transpose(block);
      SIMT_UNROLL
      for (int i = 0; i < kVec; ++i) simt::store<kVec>(buffer + (k + i) * kStride + outer, block[i]);
    }
  }

  const Operand& operand_;
  typename Operand::Entry* table_;
  int k_end_;
  int used_;
  simt::Vec<kVec> held_[kThroughRegisters ? kItems : 1];
};

template <class Tile, class A>
using StagerOfRows = Stager<Tile, A, Tile::kRows, Tile::kThreadRows>;
template <class Tile, class B>
using StagerOfColumns = Stager<Tile, B, Tile::kCols, Tile::kThreadVecs * Tile::kVec>;

/// Which part of the tile a thread owns: groups of kRowGroup rows, kThreadsDown groups apart, and groups of kVecGroup vectors,
/// kThreadsAcross groups apart. On a GPU the groups spread a warp's loads over all banks; on a CPU a thread has one of each.
template <class Tile>
struct ThreadPlace {
  int ty, tx;

  __device__ ThreadPlace() {
    constexpr int kLanes = Tile::kLanesDown * Tile::kLanesAcross;
    constexpr int kWarpsDown = Tile::kThreadsDown / Tile::kLanesDown;
    const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
    ty = lane % Tile::kLanesDown + warp % kWarpsDown * Tile::kLanesDown;
    tx = lane / Tile::kLanesDown + warp / kWarpsDown * Tile::kLanesAcross;
  }
  /// From a thread's first row to its row i, and from its first column to its vector j.
  __device__ static constexpr int row_step(int i) {
    return i / Tile::kRowGroup * Tile::kThreadsDown * Tile::kRowGroup + i % Tile::kRowGroup;
  }
  __device__ static constexpr int column_step(int j) {
    return (j / Tile::kVecGroup * Tile::kThreadsAcross * Tile::kVecGroup + j % Tile::kVecGroup) * Tile::kVec;
  }
  __device__ __forceinline__ int row(int i) const { return ty * Tile::kRowGroup + row_step(i); }
  __device__ __forceinline__ int column(int j) const { return tx * Tile::kVecGroup * Tile::kVec + column_step(j); }
};

/// acc += A^T B over `depth` of the staged slices: an outer product a step, kept in registers.
template <class Tile, int kStrideA, int kStrideB>
SIMT_HOT_LOOP void multiply(const float* a, const float* b, simt::Vec<Tile::kVec> (&acc)[Tile::kThreadRows][Tile::kThreadVecs],
                            ThreadPlace<Tile> place, int depth) {
  constexpr int kVec = Tile::kVec, kRows = Tile::kThreadRows, kVecs = Tile::kThreadVecs, kGroup = Tile::kRowGroup;
  a += place.row(0);
  b += place.column(0);
  simt::Vec<kVec> sums[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) sums[i][j] = acc[i][j];
  }
  SIMT_UNROLL_LOOP
  for (int k = 0; k < (Tile::kSkipsEdges ? depth : Tile::kDepth); ++k) {
    simt::Vec<kVec> bs[kVecs];
    float as[kRows];
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) bs[j] = simt::load<kVec>(b + k * kStrideB + ThreadPlace<Tile>::column_step(j));
    if constexpr (kGroup == 4) {
      SIMT_UNROLL
      for (int i = 0; i < kRows; i += kGroup) {
        const auto v = simt::load<kGroup>(a + k * kStrideA + ThreadPlace<Tile>::row_step(i));
        SIMT_UNROLL
        for (int g = 0; g < kGroup; ++g) as[i + g] = v[g];
      }
    } else {
      SIMT_UNROLL
      for (int i = 0; i < kRows; ++i) as[i] = a[k * kStrideA + ThreadPlace<Tile>::row_step(i)];
    }
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < kVecs; ++j) sums[i][j] = simt::fma(as[i], bs[j], sums[i][j]);
    }
  }
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) acc[i][j] = sums[i][j];
  }
}

/// Computes: C = A^T B for one tile of C, one group and one piece of the reduction; the epilogue stores it.
/// Layout:   the operands' and the epilogue's.
/// Mapping:  blockIdx.x: tile, rows first, so that neighbours share the gathered operand; blockIdx.z: group, then piece of the
///           reduction. A thread owns kThreadRows x kThreadVecs vectors of C in registers.
/// Cost:     2*rows*columns*k FLOP; bound by FMA. A phase reads kDepth*(kRows+kCols) floats for kDepth*kRows*kCols FMAs.
template <class Tile, class A, class B, class Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    tile_gemm_kernel(A a, B b, Epilogue epilogue, int rows, int columns, Reduction reduction) {
  using StagerA = StagerOfRows<Tile, A>;
  using StagerB = StagerOfColumns<Tile, B>;
  constexpr int kSlice = StagerA::kBufferFloats + StagerB::kBufferFloats;
  float* shared = simt::shared_memory<float>();
  char* tables = reinterpret_cast<char*>(shared + Tile::kBuffers * kSlice);

  const int group = blockIdx.z / reduction.splits, piece = blockIdx.z % reduction.splits;
  const int row_tiles = simt::ceil_div(rows, Tile::kRows);
  const int row0 = blockIdx.x % row_tiles * Tile::kRows, column0 = blockIdx.x / row_tiles * Tile::kCols;
  const int k_begin = piece * reduction.chunk, k_end = simt::least(reduction.length, k_begin + reduction.chunk);
  a.select(group);
  b.select(group);
  StagerA stage_a(a, row0, rows, k_end, tables);
  StagerB stage_b(b, column0, columns, k_end, tables + StagerA::kTableBytes);
  __syncthreads();  // the tables are complete

  const ThreadPlace<Tile> place;
  const bool inside = !Tile::kSkipsEdges || (row0 + place.row(0) < rows && column0 + place.column(0) < columns);
  simt::Vec<Tile::kVec> acc[Tile::kThreadRows][Tile::kThreadVecs];
  SIMT_UNROLL
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < Tile::kThreadVecs; ++j) acc[i][j] = simt::Vec<Tile::kVec>(0.0f);
  }

  const auto buffer_a = [&](int phase) { return shared + phase % Tile::kBuffers * kSlice; };
  const auto buffer_b = [&](int phase) { return buffer_a(phase) + StagerA::kBufferFloats; };
  const int phases = simt::ceil_div(k_end - k_begin, Tile::kDepth);
  stage_a.begin(buffer_a(0), k_begin);
  stage_b.begin(buffer_b(0), k_begin);
  stage_a.finish(buffer_a(0));
  stage_b.finish(buffer_b(0));
  for (int phase = 0; phase < phases; ++phase) {
    __syncthreads();  // this phase's slice is complete, and nobody reads the last one's any more
    const int k0 = k_begin + phase * Tile::kDepth;
    const bool more = phase + 1 < phases;
    if (Tile::kBuffers == 2 && more) {
      stage_a.begin(buffer_a(phase + 1), k0 + Tile::kDepth);
      stage_b.begin(buffer_b(phase + 1), k0 + Tile::kDepth);
    }
    if (inside)
      multiply<Tile, StagerA::kStride, StagerB::kStride>(buffer_a(phase), buffer_b(phase), acc, place,
                                                         simt::least(Tile::kDepth, k_end - k0));
    if (more) {
      if constexpr (Tile::kBuffers == 1) {
        __syncthreads();  // the only buffer has been read
        stage_a.begin(buffer_a(0), k0 + Tile::kDepth);
        stage_b.begin(buffer_b(0), k0 + Tile::kDepth);
      }
      stage_a.finish(buffer_a(phase + 1));
      stage_b.finish(buffer_b(phase + 1));
    }
  }
  if (!inside) return;
  SIMT_UNROLL
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < Tile::kThreadVecs; ++j) epilogue.store(group, piece, row0 + place.row(i), column0 + place.column(j), acc[i][j]);
  }
}

template <class Tile, class A, class B, class Epilogue>
void tile_gemm(const A& a, const B& b, const Epilogue& epilogue, int rows, int columns, int groups, Reduction reduction,
               simt::Stream stream) {
  using StagerA = StagerOfRows<Tile, A>;
  using StagerB = StagerOfColumns<Tile, B>;
  static_assert(
      Tile::kRows == Tile::kThreadRows * Tile::kThreadsDown && Tile::kCols == Tile::kThreadVecs * Tile::kVec * Tile::kThreadsAcross,
      "threads tile the block's tile");
  static_assert(Tile::kThreads == Tile::kThreadsDown * Tile::kThreadsAcross && Tile::kThreadRows % Tile::kRowGroup == 0,
                "rows come in groups");
  static_assert(Tile::kThreadsDown % Tile::kLanesDown == 0 && Tile::kThreadsAcross % Tile::kLanesAcross == 0, "warps tile the block");
  const std::size_t bytes =
      sizeof(float) * Tile::kBuffers * (StagerA::kBufferFloats + StagerB::kBufferFloats) + StagerA::kTableBytes + StagerB::kTableBytes;
  const std::int64_t tiles = std::int64_t{simt::ceil_div(rows, Tile::kRows)} * simt::ceil_div(columns, Tile::kCols);
  if (tiles > 0x7fffffff) throw std::invalid_argument("a matrix product of " + std::to_string(tiles) + " tiles; a grid has at most 2^31-1");
  simt::launch(tile_gemm_kernel<Tile, A, B, Epilogue>,
               dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(groups * reduction.splits)), Tile::kThreads, bytes, stream, a, b,
               epilogue, rows, columns, reduction);
}

}  // namespace pyalexnet
