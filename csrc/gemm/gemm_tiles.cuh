// The tiles of the matrix product for each target.
#pragma once

#include <type_traits>

#include "tiles.cuh"

namespace pyalexnet {

/// What the members mean is said here once; a tile that breaks a rule does not compile.
///   kVec                      width of a vector of columns
///   kThreadRows, kThreadVecs  rows, and vectors of columns, that a thread keeps in registers
///   kRowGroup, kVecGroup      consecutive rows and vectors of a thread; its next group is a whole round of threads further on
///   kThreadsDown, kThreadsAcross, kLanesDown, kLanesAcross   the block's threads, and a warp's, as a rectangle
///   kDepth                    reduction steps of a phase
///   kBuffers                  2: the next phase is staged while this one is multiplied
///   kPad                      floats between one k and the next in shared memory, against bank (GPU) and cache set (CPU) conflicts
///   kRegisters                plain copies are held in registers during the multiplication (GPU)
///   kAsyncCopies              contiguous operands are copied in the background (sm_80 and newer)
///   kNeedsAlignment           vectors are read and written at multiples of their size (GPU)
///   kSkipsEdges               threads outside the matrix do nothing (CPU: a thread's time is saved; GPU: its warp waits anyway)
///   kBlocksPerSm              what registers and shared memory are budgeted for
///   kSplitTarget              blocks that a split reduction aims at
template <int kThreadRows_, int kThreadsDown_>
struct GpuGemmTile {
  static constexpr int kVec = 4;
  static constexpr int kThreadRows = kThreadRows_, kThreadVecs = 2, kRowGroup = 4, kVecGroup = 1;
  static constexpr int kThreadsDown = kThreadsDown_, kThreadsAcross = 256 / kThreadsDown_;
  static constexpr int kLanesDown = 4, kLanesAcross = 8;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kRows = kThreadRows * kThreadsDown, kCols = kThreadVecs * kVec * kThreadsAcross;
  static constexpr int kDepth = 8, kBuffers = 2, kPad = 4;
  static constexpr bool kRegisters = true, kNeedsAlignment = true, kSkipsEdges = false;
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800)
  static constexpr bool kAsyncCopies = false;
#else
  static constexpr bool kAsyncCopies = true;
#endif
  static constexpr int kBlocksPerSm = 2;
  static constexpr int kSplitTarget = 512;
};

/// 128 x 128, 8 x 8 a thread.
struct GpuTile : GpuGemmTile<8, 16> {};

#if !defined(__CUDACC__)
/// sm_75's instantiation, for tests on the host.
struct GpuPlainTile : GpuTile {
  static constexpr bool kAsyncCopies = false;
};

/// Few, fat threads: each has a register tile as large as the vector registers hold and works long between barriers.
template <int kThreadRows_, int kThreadsDown_, int kCols_>
struct HostGemmTile {
  static constexpr int kVec = kHostVec;
  static constexpr int kThreadRows = kThreadRows_, kThreadVecs = 2;
  static constexpr int kRowGroup = kThreadRows, kVecGroup = kThreadVecs;
  static constexpr int kThreadsDown = kThreadsDown_, kThreadsAcross = kCols_ / (kThreadVecs * kVec);
  // Consecutive threads share the columns, whose slice then stays in the first-level cache.
  static constexpr int kLanesDown = kThreadsDown, kLanesAcross = kThreadsAcross;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kRows = kThreadRows * kThreadsDown, kCols = kCols_;
  static constexpr int kDepth = 128, kBuffers = 2, kPad = 16;
  static constexpr bool kRegisters = false, kAsyncCopies = true, kNeedsAlignment = false, kSkipsEdges = true;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSplitTarget = 16;
};

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kHostThreadRows = 12;  // 32 vector registers: 24 accumulators
#else
constexpr int kHostThreadRows = 6;  // 16 vector registers: 12 accumulators
#endif

/// A block's shape on the host: square; flat for few rows, tall for few columns, where most threads of a square would have nothing to
/// do but wait for each other.
template <int kThreadRows>
using HostSquare = HostGemmTile<kThreadRows, 16, 128>;
template <int kThreadRows>
using HostFlat = HostGemmTile<kThreadRows, 4, 256>;
template <int kThreadRows>
using HostTall = HostGemmTile<kThreadRows, 16, 32>;

/// Calls f with the host's tile for a product of this size.
template <class F>
void with_host_tile(int rows, int columns, F f) {
  const auto with_rows = [&](auto constant) {
    constexpr int kThreadRows = decltype(constant)::value;
    if (columns <= HostTall<kThreadRows>::kCols) return f(HostTall<kThreadRows>{});
    if (rows <= HostFlat<kThreadRows>::kRows) return f(HostFlat<kThreadRows>{});
    f(HostSquare<kThreadRows>{});
  };
  constexpr int kLarge = kHostThreadRows, kSmall = kLarge * 2 / 3;
  // The larger register tile is faster by a twentieth, unless its last threads have little to do.
  if (simt::round_up(rows, kLarge) * 19 <= simt::round_up(rows, kSmall) * 20)
    with_rows(std::integral_constant<int, kLarge>{});
  else
    with_rows(std::integral_constant<int, kSmall>{});
}
#endif

/// Calls f with every tile that a product of this size may be computed with, whatever the Execution.
template <class F>
void for_each_gemm_tile(int rows, int columns, F f) {
  f(GpuTile{});
#if defined(__CUDACC__)
  static_cast<void>(rows), static_cast<void>(columns);
#else
  with_host_tile(rows, columns, f);
#endif
}

/// Calls f with the tile to use for a product of this size.
template <class F>
void with_gemm_tile(int rows, int columns, F f) {
#if defined(__CUDACC__)
  static_cast<void>(rows), static_cast<void>(columns);
  f(GpuTile{});
#else
  switch (simt::execution().tiles) {
    case simt::Tiles::kGpu:
      return f(GpuTile{});
    case simt::Tiles::kGpuPlainLoads:
      return f(GpuPlainTile{});
    case simt::Tiles::kHost:
      return with_host_tile(rows, columns, f);
  }
#endif
}

}  // namespace pyalexnet
