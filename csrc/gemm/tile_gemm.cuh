// The tiled matrix product behind convolutions and fully connected layers (docs/gemm.md has figures):
//
//   C[row][column] = sum over k of A[k][row] * B[k][column]
//
// A block computes one tile of C. It walks along k in k tiles, which it stages in shared memory, k-major, and multiplies: on a GPU as in
// product_gpu.cuh, on a CPU as in product_cpu.cuh. Two operands say where the elements of A and B are, and an epilogue stores C
// (epilogue.cuh). A convolution gathers its patches while staging and never writes them out (implicit GEMM).
//
// An operand is A or B; its rows are A's rows or B's columns. It defines
//   Element            element type of its array: float, or another storage type
//   kContiguousAlongK  true: kVec consecutive k of a row are adjacent in memory; staging transposes them.
//                      false: kVec consecutive rows of a k are
//   kAlwaysWhole       true: a vector is either entirely inside the array or all zeros
//   RowState, row_state(i)  address state of row i; computed once per block, kept in shared memory
//   KStep, k_step(k)        address state of reduction index k
//   load_plan(row_state, k_step)  how to load the vector: a LoadPlan
//   contiguous(state)  how many vectors, from this one on, are adjacent in memory and share its bounds check: along the rows from a
//                      RowState on, or along k from a KStep on, for all rows alike; 0 or less: this one is not whole (CPU)
//   select_group(g)    selects group g of a grouped convolution
#pragma once

#include <type_traits>

#include "gemm/product_gpu.cuh"
#if !defined(__CUDACC__)
#include "gemm/product_cpu.cuh"
#endif

namespace pyalexnet {

#if defined(__CUDACC__)
template <class Tile, class A, class B>
using BlockProduct = GpuProduct<Tile, A, B>;
#else
template <class Tile, class A, class B>
using BlockProduct = std::conditional_t<Tile::kOnGpu, GpuProduct<Tile, A, B>, CpuProduct<Tile, A, B>>;
#endif

// Computes  C = A^T B for one tile of C, one group and one split of the reduction; the epilogue stores it
// Layout    defined by the operands and the epilogue
// Mapping   blockIdx.x is the tile, rows first, so that adjacent blocks share the gathered operand; blockIdx.z is the group, then the
//           split. On a GPU a thread owns a GpuThreadTile of C, on a CPU a block has one thread
// Cost      2*rows*columns*k FLOP; a k tile reads kDepth*(kRows+kCols) elements for kDepth*kRows*kCols FMAs: bound by FMA
template <class Tile, class A, class B, class Epilogue>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerSm)
    tile_gemm_kernel(A a, B b, Epilogue epilogue, int rows, int columns, SplitK split_k) {
  const BlockTile block = block_tile<Tile>(rows, columns, split_k);
  a.select_group(block.group);
  b.select_group(block.group);
  BlockProduct<Tile, A, B>(a, b, block, simt::shared_memory<char>()).compute(epilogue);
  epilogue.finish();
}

/// Launches the product of `groups` pairs of matrices. Throws std::invalid_argument for more tiles than a grid has blocks.
template <class Tile, class A, class B, class Epilogue>
void tile_gemm(const A& a, const B& b, const Epilogue& epilogue, int rows, int columns, int groups, SplitK split_k, simt::Stream stream) {
  const std::int64_t tiles = std::int64_t{simt::ceil_div(rows, Tile::kRows)} * simt::ceil_div(columns, Tile::kCols);
  if (tiles > 0x7fffffff) throw std::invalid_argument("matrix product has " + std::to_string(tiles) + " tiles; expected at most 2^31-1");
  simt::launch(tile_gemm_kernel<Tile, A, B, Epilogue>,
               dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(groups * split_k.splits)), Tile::kThreads,
               BlockProduct<Tile, A, B>::kSharedBytes, stream, a, b, epilogue, rows, columns, split_k);
}

}  // namespace pyalexnet
