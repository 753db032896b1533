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
//   run(entry)         not transposed: how many vectors from this one on follow each other in memory and are whole, or zeros, alike
//   run(step)          transposed: the same along k, for all entries; 0: the vector is not whole
//   select(group)      moves on to a group of a grouped convolution
#pragma once

#include <numeric>

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

/// How a slice of an operand lies in shared memory: k-major, as one panel as wide as the tile's extent kOuter (GPU), or in panels, each
/// with all of its k together, which are read from end to end (CPU). kEdge: what a thread multiplies of the slice.
template <class Tile, int kOuter, int kEdge>
struct Slice {
  static constexpr int kPanel = Tile::kPanels ? std::lcm(kEdge, Tile::kVec) : kOuter;
  static constexpr int kStride = kPanel + (Tile::kPanels ? 0 : Tile::kPad);  // floats from one k to the next
  static constexpr int kPanelFloats = kStride * Tile::kDepth + (Tile::kPanels ? Tile::kPad : 0);
  static constexpr int kFloats = kOuter / kPanel * kPanelFloats;
  static_assert(kOuter % kPanel == 0, "panels tile the slice");

  /// Where element (k, outer) is.
  __device__ __forceinline__ static constexpr int at(int k, int outer) {
    if constexpr (Tile::kPanels)
      return outer / kPanel * kPanelFloats + k * kStride + outer % kPanel;
    else
      return k * kStride + outer;
  }
};

template <class Tile>
using SliceOfRows = Slice<Tile, Tile::kRows, Tile::kThreadRows>;
template <class Tile>
using SliceOfColumns = Slice<Tile, Tile::kCols, Tile::kThreadVecs * Tile::kVec>;

/// Copies slices of one operand into shared memory. kOuter, kEdge: as in Slice.
template <class Tile, class Operand, int kOuter, int kEdge>
class Stager {
 public:
  using Slice = pyalexnet::Slice<Tile, kOuter, kEdge>;
  static constexpr int kVec = Tile::kVec;
  static constexpr int kEntries = Operand::kTransposed ? kOuter : kOuter / kVec;
  static constexpr int kTableBytes = simt::round_up<int>(kEntries * sizeof(typename Operand::Entry), 64);

  __device__ Stager(const Operand& operand, int origin, int extent, int k_end, void* table)
      : operand_(operand), table_(static_cast<typename Operand::Entry*>(table)), k_end_(k_end) {
    // Fat threads skip what lies outside the matrix, so there is no need to stage it.
    used_ = Tile::kSkipsEdges ? simt::min(kOuter, simt::round_up(extent - origin, kEdge)) : kOuter;
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
          for (int j = 0; j < kVec; ++j) buffer[Slice::at(k + j, outer)] = held_[i][j];
        } else {
          simt::store<kVec>(buffer + Slice::at(item / kEntries, item % kEntries * kVec), held_[i]);
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
  static_assert(kOuter % kVec == 0 && Tile::kDepth % kVec == 0 && Slice::kStride % 4 == 0, "slices are made of vectors");

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

  /// Vectors lie in memory as they will in shared memory.
  __device__ __forceinline__ void stage_straight(float* buffer, int k0) {
    if constexpr (Tile::kSkipsEdges)
      stage_runs(buffer, k0);
    else
      stage_columns(buffer, k0);
  }

  /// GPU: a thread takes one column of vectors.
  __device__ __forceinline__ void stage_columns(float* buffer, int k0) {
    constexpr int kDown = Tile::kThreads / kEntries;
    static_assert(Tile::kSkipsEdges || Tile::kThreads % kEntries == 0, "threads form whole rows");
    const int v = threadIdx.x % kEntries;
    for (int d = threadIdx.x / kEntries; d < Tile::kDepth; d += kDown) {
      const int k = k0 + d;
      const Source s = k < k_end_ ? operand_.source(table_[v], operand_.step(k)) : Source{nullptr, 0, false};
      float* to = buffer + Slice::at(d, v * kVec);
      if (s.whole)
        simt::copy_async<kVec>(to, s.from);
      else
        simt::store<kVec>(to, fetch(s));
    }
  }

  /// CPU: a thread takes whole rows, in runs of vectors that share one test and follow each other in memory.
  __device__ __forceinline__ void stage_runs(float* buffer, int k0) {
    const int depth = simt::min(Tile::kDepth, k_end_ - k0), vectors = simt::ceil_div(used_, kVec);
    for (int d = threadIdx.x; d < depth; d += Tile::kThreads) {
      const typename Operand::Step step = operand_.step(k0 + d);
      for (int v = 0; v < vectors;) {
        const Source s = operand_.source(table_[v], step);
        const int end = simt::min(vectors, v + operand_.run(table_[v]));
        if (s.whole) {
          for (const float* from = s.from; v < end; ++v, from += kVec) simt::copy_async<kVec>(buffer + Slice::at(d, v * kVec), from);
        } else if (s.count > 0) {
          simt::store<kVec>(buffer + Slice::at(d, v++ * kVec), fetch(s));
        } else {
          for (; v < end; ++v) simt::store<kVec>(buffer + Slice::at(d, v * kVec), simt::Vec<kVec>(0.0f));
        }
      }
    }
  }

  /// CPU: blocks of kVec outer indices by kVec k are transposed in registers, in runs along k that share their tests.
  __device__ __forceinline__ void stage_transposed(float* buffer, int k0) {
    static constexpr float kZeros[kVec] = {};
    const int blocks = simt::ceil_div(used_, kVec), depth = simt::min(Tile::kDepth, k_end_ - k0);
    for (int b = threadIdx.x; b < blocks; b += Tile::kThreads) {
      const int outer = b * kVec;
      for (int k = 0; k < depth;) {
        const typename Operand::Step step = operand_.step(k0 + k);
        const int run = operand_.run(step);
        simt::Vec<kVec> block[kVec];
        if (run == 0) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) block[i] = fetch(operand_.source(table_[outer + i], step));
          store_transposed(buffer, k, outer, block);
          k += kVec;
          continue;
        }
        const float* from[kVec];
        int stride[kVec];  // 0 where there are only zeros
        SIMT_UNROLL
        for (int i = 0; i < kVec; ++i) {
          const Source s = operand_.source(table_[outer + i], step);
          from[i] = s.whole ? s.from : kZeros;
          stride[i] = s.whole ? kVec : 0;
        }
        for (const int end = simt::min(depth, k + run * kVec); k < end; k += kVec) {
          SIMT_UNROLL
          for (int i = 0; i < kVec; ++i) {
            block[i] = simt::load<kVec>(from[i]);
            from[i] += stride[i];
          }
          store_transposed(buffer, k, outer, block);
        }
      }
    }
  }

  __device__ __forceinline__ void store_transposed(float* buffer, int k, int outer, simt::Vec<kVec> (&block)[kVec]) const {
    simt::transpose(block);
    SIMT_UNROLL
    for (int i = 0; i < kVec; ++i) simt::store<kVec>(buffer + Slice::at(k + i, outer), block[i]);
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

/// Which part of the tile a thread owns: register tiles, one below the other, each made of groups of kRowGroup rows, kThreadsDown groups
/// apart, and groups of kVecGroup vectors, kThreadsAcross groups apart. On a GPU the groups spread a warp's loads over all banks; on a
/// CPU a register tile is one of each.
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
  /// Row i of the thread's register tile t.
  __device__ __forceinline__ int row(int t, int i) const {
    return t * Tile::kThreadsDown * Tile::kThreadRows + ty * Tile::kRowGroup + row_step(i);
  }
  __device__ __forceinline__ int column(int j) const { return tx * Tile::kVecGroup * Tile::kVec + column_step(j); }
};

/// acc += A^T B over `depth` of the staged slices: an outer product a step, kept in registers. a and b: the first row and column.
template <class Tile>
SIMT_INLINE_ON_GPU void multiply(const float* a, const float* b, simt::Vec<Tile::kVec> (&acc)[Tile::kThreadRows][Tile::kThreadVecs],
                                 int depth) {
  constexpr int kVec = Tile::kVec, kRows = Tile::kThreadRows, kVecs = Tile::kThreadVecs, kGroup = Tile::kRowGroup;
  constexpr int kStrideA = SliceOfRows<Tile>::kStride, kStrideB = SliceOfColumns<Tile>::kStride;
  simt::Vec<kVec> sums[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) sums[i][j] = acc[i][j];
  }
  SIMT_UNROLL_LOOP
  for (int k = 0; k < (Tile::kSkipsEdges ? depth : Tile::kDepth); ++k) {
    simt::Vec<kVec> bs[kVecs];
    SIMT_UNROLL
    for (int j = 0; j < kVecs; ++j) bs[j] = simt::load<kVec>(b + k * kStrideB + ThreadPlace<Tile>::column_step(j));
    if constexpr (Tile::kSkipsEdges) {
      SIMT_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const float x = a[k * kStrideA + ThreadPlace<Tile>::row_step(i)];
        SIMT_UNROLL
        for (int j = 0; j < kVecs; ++j) sums[i][j] = simt::fma(x, bs[j], sums[i][j]);
      }
    } else {
      SIMT_UNROLL
      for (int i = 0; i < kRows; i += kGroup) {
        const auto x = simt::load<kGroup>(a + k * kStrideA + ThreadPlace<Tile>::row_step(i));
        SIMT_UNROLL
        for (int g = 0; g < kGroup; ++g) {
          SIMT_UNROLL
          for (int j = 0; j < kVecs; ++j) sums[i + g][j] = simt::fma(x[g], bs[j], sums[i + g][j]);
        }
      }
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
///           reduction. A thread owns kThreadTiles register tiles of kThreadRows x kThreadVecs vectors of C; a GPU's one stays in
///           registers, a CPU's many come into them by turns, once a phase.
/// Cost:     2*rows*columns*k FLOP; bound by FMA. A phase reads kDepth*(kRows+kCols) floats for kDepth*kRows*kCols FMAs.
template <class Tile, class A, class B, class Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    tile_gemm_kernel(A a, B b, Epilogue epilogue, int rows, int columns, Reduction reduction) {
  using StagerA = StagerOfRows<Tile, A>;
  using StagerB = StagerOfColumns<Tile, B>;
  constexpr int kSlice = StagerA::Slice::kFloats + StagerB::Slice::kFloats;
  float* shared = simt::shared_memory<float>();
  char* tables = reinterpret_cast<char*>(shared + Tile::kBuffers * kSlice);

  const int group = blockIdx.z / reduction.splits, piece = blockIdx.z % reduction.splits;
  const int row_tiles = simt::ceil_div(rows, Tile::kRows);
  const int row0 = blockIdx.x % row_tiles * Tile::kRows, column0 = blockIdx.x / row_tiles * Tile::kCols;
  const int k_begin = piece * reduction.chunk, k_end = simt::min(reduction.length, k_begin + reduction.chunk);
  a.select(group);
  b.select(group);
  StagerA stage_a(a, row0, rows, k_end, tables);
  StagerB stage_b(b, column0, columns, k_end, tables + StagerA::kTableBytes);
  __syncthreads();  // the tables are complete

  const ThreadPlace<Tile> place;
  const auto inside = [&](int t) { return !Tile::kSkipsEdges || (row0 + place.row(t, 0) < rows && column0 + place.column(0) < columns); };
  simt::Vec<Tile::kVec> acc[Tile::kThreadTiles][Tile::kThreadRows][Tile::kThreadVecs];
  for (int t = 0; t < Tile::kThreadTiles; ++t) {
    SIMT_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < Tile::kThreadVecs; ++j) acc[t][i][j] = simt::Vec<Tile::kVec>(0.0f);
    }
  }

  const auto buffer_a = [&](int phase) { return shared + phase % Tile::kBuffers * kSlice; };
  const auto buffer_b = [&](int phase) { return buffer_a(phase) + StagerA::Slice::kFloats; };
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
    const float* const b_columns = buffer_b(phase) + SliceOfColumns<Tile>::at(0, place.column(0));
    for (int t = 0; t < Tile::kThreadTiles && inside(t); ++t)
      multiply<Tile>(buffer_a(phase) + SliceOfRows<Tile>::at(0, place.row(t, 0)), b_columns, acc[t], simt::min(Tile::kDepth, k_end - k0));
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
  for (int t = 0; t < Tile::kThreadTiles && inside(t); ++t) {
    SIMT_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      SIMT_UNROLL
      for (int j = 0; j < Tile::kThreadVecs; ++j)
        epilogue.store(group, piece, row0 + place.row(t, i), column0 + place.column(j), acc[t][i][j]);
    }
  }
}

template <class Tile, class A, class B, class Epilogue>
void tile_gemm(const A& a, const B& b, const Epilogue& epilogue, int rows, int columns, int groups, Reduction reduction,
               simt::Stream stream) {
  using StagerA = StagerOfRows<Tile, A>;
  using StagerB = StagerOfColumns<Tile, B>;
  static_assert(Tile::kRows == Tile::kThreadTiles * Tile::kThreadRows * Tile::kThreadsDown &&
                    Tile::kCols == Tile::kThreadVecs * Tile::kVec * Tile::kThreadsAcross,
                "threads tile the block's tile");
  static_assert(Tile::kThreads == Tile::kThreadsDown * Tile::kThreadsAcross && Tile::kThreadRows % Tile::kRowGroup == 0,
                "rows come in groups");
  static_assert(Tile::kThreadsDown % Tile::kLanesDown == 0 && Tile::kThreadsAcross % Tile::kLanesAcross == 0, "warps tile the block");
  const std::size_t bytes =
      sizeof(float) * Tile::kBuffers * (StagerA::Slice::kFloats + StagerB::Slice::kFloats) + StagerA::kTableBytes + StagerB::kTableBytes;
  const std::int64_t tiles = std::int64_t{simt::ceil_div(rows, Tile::kRows)} * simt::ceil_div(columns, Tile::kCols);
  if (tiles > 0x7fffffff) throw std::invalid_argument("a matrix product of " + std::to_string(tiles) + " tiles; a grid has at most 2^31-1");
  simt::launch(tile_gemm_kernel<Tile, A, B, Epilogue>,
               dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(groups * reduction.splits)), Tile::kThreads, bytes, stream, a, b,
               epilogue, rows, columns, reduction);
}

}  // namespace pyalexnet
