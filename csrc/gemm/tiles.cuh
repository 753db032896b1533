// Tile sizes of the matrix product: what a block and a thread compute of C, and how much of A and B a block stages at once.
#pragma once

#include "target.cuh"

namespace pyalexnet {

// Constants that the kernel and the operands require of a tile:
//   kVec               width of a vector of columns, in elements
//   kRows, kCols       a block's tile of C
//   kDepth             steps of the reduction staged at once: a k tile of A is kDepth x kRows, one of B kDepth x kCols
//   kThreads           threads per block
//   kBlocksPerSm       blocks per SM that registers and shared memory are budgeted for
//   kNeedsAlignment    vectors are read and written only at multiples of their size
//   kOnGpu             whether it is a GPU's; a CPU's tile also has kSplitTarget, the number of blocks that split-K aims for

/// GPU tile: 128 x 128 per block, 8 x 8 per thread.
///   kThreadRows, kThreadVecs      rows, and vectors of columns, that a thread keeps in registers
///   kRowGroup                     consecutive rows in a group of a thread's rows; successive groups are kThreadsDown groups apart,
///                                 successive vectors kThreadsAcross vectors, so that a warp's reads of shared memory cover all banks
///   kThreadsDown, kThreadsAcross  the block's threads as a rectangle; kLanesDown, kLanesAcross: a warp's
///   kStages                       buffers in shared memory: one k tile is multiplied while the next is loaded
///   kPad                          elements between one k and the next in shared memory, against bank conflicts
///   kAsyncCopies                  vectors of rows are copied asynchronously (sm_80 and newer)
struct GpuTile {
  static constexpr int kVec = 4;
  static constexpr int kThreadRows = 8, kThreadVecs = 2, kRowGroup = 4;
  static constexpr int kThreadsDown = 16, kThreadsAcross = 16;
  static constexpr int kLanesDown = 4, kLanesAcross = 8;
  static constexpr int kThreads = kThreadsDown * kThreadsAcross;
  static constexpr int kRows = kThreadRows * kThreadsDown, kCols = kThreadVecs * kVec * kThreadsAcross;
  static constexpr int kDepth = 8, kStages = 2, kPad = 4;
  static constexpr bool kOnGpu = true, kNeedsAlignment = true;
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800)
  static constexpr bool kAsyncCopies = false;
#else
  static constexpr bool kAsyncCopies = true;
#endif
  static constexpr int kBlocksPerSm = 2;

  static_assert(kLanesDown * kLanesAcross == simt::kWarp && kThreadsDown % kLanesDown == 0 && kThreadsAcross % kLanesAcross == 0,
                "warps tile the block's threads");
  static_assert(kThreadRows % kRowGroup == 0 && kDepth % kVec == 0 && kPad % kVec == 0, "staged rows are whole vectors");
};

#if !defined(__CUDACC__)
/// GpuTile as sm_75 has it, without asynchronous copies; for tests on the host.
struct GpuPlainTile : GpuTile {
  static constexpr bool kAsyncCopies = false;
};

/// CPU tile: 192 x 384, by few threads with much work each. A thread has a strip of columns as wide as a register tile and processes its
/// register tiles one after another, while the strip's part of B stays in the L1 cache.
///   kThreadRows, kThreadVecs  rows and vectors of a register tile; its sums fill the vector registers: 24 of 32, or 12 of 16
///   kThreadTiles              register tiles per thread, one below the other
///   kPad                      elements between one panel and the next (see staging_cpu.cuh), against cache-set conflicts
struct CpuTile {
  static constexpr int kVec = kCpuVec;
#if defined(__AVX512F__) || defined(__aarch64__) || defined(PYALEXNET_GPU_VECTORS)  // GPU vectors: aarch64's tile, for tests
  static constexpr int kThreadRows = 8;
#else
  static constexpr int kThreadRows = 4;
#endif
  static constexpr int kThreadVecs = 3, kThreadTiles = 192 / kThreadRows;
  static constexpr int kThreads = 384 / (kThreadVecs * kVec);
  static constexpr int kRows = kThreadTiles * kThreadRows, kCols = kThreads * kThreadVecs * kVec;
  static constexpr int kDepth = 128, kPad = 16;
  static constexpr bool kOnGpu = false, kNeedsAlignment = false;
  static constexpr int kBlocksPerSm = 1;
  static constexpr int kSplitTarget = 16;
};
#endif

/// Calls f with the tile that the Execution selects; on a GPU, GpuTile.
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
      return f(CpuTile{});
  }
#endif
}

}  // namespace pyalexnet
