// What the parts of the tiled product tell each other: where a vector of an operand is, and which part of the product a block has.
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// How to load a vector: `whole` (all of it, aligned as the target needs), or its first `count` elements followed by zeros.
template <class T>
struct LoadPlan {
  const T* from;
  int count;
  bool whole;
};

/// Loads the vector of a plan.
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

/// A reduction that one block does alone.
inline SplitK unsplit(int length) { return {length, length, 1}; }

/// A block's part of the product: its group and its split, the first row and column of its tile and how many rows and columns of C there
/// are from there on, and its range of k.
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

/// What a block has staged: a k tile of A and one of B, each k-major.
template <class TA, class TB>
struct Staged {
  const TA* a;
  const TB* b;
};

}  // namespace pyalexnet
