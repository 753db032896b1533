// The tiles of the matrix product for each target.
#pragma once

#include <type_traits>

#include "tiles.cuh"

namespace pyalexnet {

/// What the members mean is said here once; a tile that breaks a rule does not compile.
///   kVec                      width of a vector of columns
///   kThreadRows, kThreadVecs  rows, and vectors of columns, that a thread keeps in registers: its register tile
///   kThreadTiles              register tiles that a thread works through in each phase, one below the other
///   kRowGroup, kVecGroup      consecutive rows and vectors of a thread; its next group is a whole round of threads further on
///   kThreadsDown, kThreadsAcross, kLanesDown, kLanesAcross   the block's threads, and a warp's, as a rectangle
///   kDepth                    reduction steps of a phase
///   kBuffers                  2: the next phase is staged while this one is multiplied
///   kPanels                   a staged slice lies in panels as wide as a register tile, each with all its k together (see Slice)
///   kPad                      floats between one k and the next (GPU), or one panel and the next (CPU), against conflicts of banks
///                             and cache sets
///   kRegisters                plain copies are held in registers during the multiplication (GPU)
///   kAsyncCopies              contiguous operands are copied in the background (sm_80 and newer)
///   kNeedsAlignment           vectors are read and written at multiples of their size (GPU)
///   kSkipsEdges               threads outside the matrix do nothing (CPU: a thread's time is saved; GPU: its warp waits anyway)
///   kBlocksPerSm              what registers and shared memory are budgeted for
///   kSplitTarget              blocks that a split reduction aims at
/// 128 x 128, 8 x 8 a thread.
struct GpuTile {
  static constexpr int kVec = 4;
  static constexpr int kThreadTiles = 1, kThreadRows = 8, kThreadVecs = 2, kRowGroup = 4, kVecGroup = 1;
  static constexpr int kThreadsDown = 16, kThreadsAcross = 16;
  static constexpr int kLanesDown = 4, kLanesAcross = 8;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kRows = kThreadRows * kThreadsDown, kCols = kThreadVecs * kVec * kThreadsAcross;
  static constexpr int kDepth = 8, kBuffers = 2, kPad = 4;
  static constexpr bool kPanels = false, kRegisters = true, kNeedsAlignment = true, kSkipsEdges = false;
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800)
  static constexpr bool kAsyncCopies = false;
#else
  static constexpr bool kAsyncCopies = true;
#endif
  static constexpr int kBlocksPerSm = 2;
  static constexpr int kSplitTarget = 512;
};

#if !defined(__CUDACC__)
/// sm_75's instantiation, for tests on the host.
struct GpuPlainTile : GpuTile {
  static constexpr bool kAsyncCopies = false;
};

/// 192 x 384 in few, fat threads: each has a strip of columns as wide as a register tile, whose slice stays in the first-level cache
/// while the thread works through its rows. The sums of a register tile fill the vector registers, 24 of 32 or 12 of 16.
struct HostTile {
  static constexpr int kVec = kHostVec;
#if defined(__AVX512F__) || defined(__aarch64__)
  static constexpr int kThreadRows = 8;
#else
  static constexpr int kThreadRows = 4;
#endif
  static constexpr int kThreadTiles = 192 / kThreadRows, kThreadVecs = 3;
  static constexpr int kRowGroup = kThreadRows, kVecGroup = kThreadVecs;
  static constexpr int kThreadsDown = 1, kThreadsAcross = 384 / (kThreadVecs * kVec);
  static constexpr int kLanesDown = kThreadsDown, kLanesAcross = kThreadsAcross;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kRows = kThreadTiles * kThreadRows * kThreadsDown, kCols = kThreadVecs * kVec * kThreadsAcross;
  static constexpr int kDepth = 128, kBuffers = 1, kPad = 16;
  static constexpr bool kPanels = true, kRegisters = false, kAsyncCopies = true, kNeedsAlignment = false, kSkipsEdges = true;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSplitTarget = 16;
};
#endif

/// Calls f with every tile that a product may be computed with, whatever the Execution.
template <class F>
void for_each_gemm_tile(F f) {
  f(GpuTile{});
#if !defined(__CUDACC__)
  f(HostTile{});
#endif
}

/// Calls f with the tile to use.
template <class F>
void with_gemm_tile(F f) {
#if defined(__CUDACC__)
  f(GpuTile{});
#else
  switch (simt::execution().tiles) {
    case simt::Tiles::kGpu:
      return f(GpuTile{});
    case simt::Tiles::kGpuPlainLoads:
      return f(GpuPlainTile{});
    case simt::Tiles::kHost:
      return f(HostTile{});
  }
#endif
}

}  // namespace pyalexnet
