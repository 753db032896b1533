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
///   kStripVecs                vectors of a strip: columns whose part of B is staged at once, for the L1 cache
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

/// CPU tile: 192 x 384, by one thread, which processes register tiles one after another (see product_cpu.cuh). Other shapes for few rows or
/// few columns are no faster: what a block reads is prefetched while it multiplies.
///   kThreadRows, kThreadVecs  rows and vectors of a register tile; its sums fill the vector registers: 24 of 32, or 12 of 16
///   kPad                      elements between one panel of A and the next (see CpuOperand::copy_panels)
struct CpuTile {
  static constexpr int kVec = kCpuVec;
#if defined(PYALEXNET_GPU_VECTORS) || defined(__aarch64__)  // GPU vectors: aarch64's tile, for tests
  static constexpr int kThreadRows = 8, kThreadVecs = 3, kStripVecs = 12;
#elif defined(__AVX512F__)
  static constexpr int kThreadRows = 6, kThreadVecs = 4, kStripVecs = 4;
#elif defined(__AVX__)
  static constexpr int kThreadRows = 6, kThreadVecs = 2, kStripVecs = 8;
#else
  static constexpr int kThreadRows = 4, kThreadVecs = 3, kStripVecs = 12;
#endif
  static constexpr int kThreads = 1;
  static constexpr int kRows = 192, kCols = 384;
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
