// Types that the parts of the tiled product share: where an operand's vector is, and which part of the product a block computes.
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// How to load a vector. `whole`: all of it, aligned as the target requires; otherwise its first `count` elements, then zeros.
template <class T>
struct LoadPlan {
  const T* from;
  int count;
  bool whole;
};

/// Loads the vector that a plan describes.
template <int kVec, bool kAlwaysWhole, class T>
__device__ __forceinline__ simt::Vec<kVec> load(const LoadPlan<T>& plan) {
  if (plan.whole) return simt::load<kVec>(plan.from);
  simt::Vec<kVec> r(0.0f);
  if constexpr (!kAlwaysWhole)
    for (int i = 0; i < kVec; ++i)
      if (i < plan.count) r.set(i, simt::to_float(plan.from[i]));
  return r;
}

/// Split-K: `length` steps in all, divided among `splits` blocks of `chunk` steps each.
struct SplitK {
  int length;
  int chunk;
  int splits;
};

/// No split: one block does the whole reduction.
inline SplitK unsplit(int length) { return {length, length, 1}; }

/// A block's part of the product: its group and split; its tile's first row and column, and how many rows and columns of C remain from
/// there on; its range of k.
struct BlockTile {
  int group, split;
  int row0, column0, rows, columns;
  int k_begin, k_end;
};

template <class Tile>
__device__ __forceinline__ BlockTile block_tile(int rows, int columns, const SplitK& split_k) {
  const int group = blockIdx.z / split_k.splits, split = blockIdx.z % split_k.splits;
  const int row_tiles = simt::ceil_div(rows, Tile::kRows);
  const int row0 = blockIdx.x % row_tiles * Tile::kRows, column0 = blockIdx.x / row_tiles * Tile::kCols;
  const int k_begin = split * split_k.chunk;
  return {group, split, row0, column0, rows - row0, columns - column0, k_begin, simt::min(split_k.length, k_begin + split_k.chunk)};
}

/// The staged k tiles of A and B, both k-major.
template <class TA, class TB>
struct Staged {
  const TA* a;
  const TB* b;
};

}  // namespace pyalexnet
