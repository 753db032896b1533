// The product of a block on a GPU.
#pragma once

#include "gemm/multiply_gpu.cuh"
#include "gemm/staging_gpu.cuh"

namespace pyalexnet {

/// Computes a block's tile of C: for each k tile, all threads stage it, synchronise, and multiply.
template <class Tile, class A, class B>
class GpuProduct {
 public:
  static constexpr std::size_t kSharedBytes = GpuStaging<Tile, A, B>::kSharedBytes;

  __device__ GpuProduct(const A& a, const B& b, const BlockTile& block, char* shared) : block_(block), staging_(a, b, block, shared) {}

  template <class Epilogue>
  __device__ __forceinline__ void compute(const Epilogue& epilogue) {
    GpuThreadTile<Tile> c;
    for (int k = block_.k_begin; k < block_.k_end; k += Tile::kDepth) {
      const auto staged = staging_.next(k);
      c.multiply(staged.a, staged.b);
    }
    c.for_each([&](int row, int column, simt::Vec<Tile::kVec> sums) {
      epilogue.store(block_.group, block_.split, block_.row0 + row, block_.column0 + column, sums);
    });
  }

 private:
  const BlockTile& block_;
  GpuStaging<Tile, A, B> staging_;
};

}  // namespace pyalexnet
