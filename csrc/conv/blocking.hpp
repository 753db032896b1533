// How Winograd's convolution is divided: into blocks of columns, and so that what a block keeps stays in the L2 cache.
#pragma once

#include <algorithm>

#include "conv/winograd.cuh"
#include "conv/winograd.hpp"

namespace pyalexnet::winograd {

/// A block multiplies `filters` filters by `channels` channels at a time. Results do not depend on it.
struct Blocking {
  int filters;  // a multiple of a panel
  int channels;
  int column_blocks;
  int parts;      // blocks that share the filters of a group, where blocks of columns are few
  Tiling tiling;  // of the output

  static Blocking of(const Pass& pass) {
    const int pixels = tile_pixels(pass.taps), points = pixels + pass.taps - 1;
    constexpr int kPanel = RegisterTile::kRows;
    const int padded = simt::round_up(pass.filters, kPanel);
    const Tiling tiling = Tiling::of(pass.rows, pass.columns, pixels, pass.taps);
    const std::int64_t blocks = TileGroup<RegisterTile::kVecs>::count(tiling, pass.images / RegisterTile::kVec);
    Blocking b{padded, pass.channels, static_cast<int>(blocks), 1, tiling};
    // All channels, or else all filters, are kept; of the others, a few at a time.
    constexpr int kFew = 16, kMany = 64;
    const auto fit = static_cast<int>(simt::l2_bytes() * 19 / 20 / (std::int64_t{points} * points * RegisterTile::kColumns * 4));
    const auto rest = [&](int kept) { return std::min(std::max(fit - kept, kFew), kMany); };
    const bool channels_fit = pass.channels + kFew <= fit, filters_fit = padded + kFew <= fit;
    if (channels_fit && (pass.channels <= padded || !filters_fit)) {
      b.filters = std::min(padded, rest(pass.channels) / kPanel * kPanel);
    } else if (filters_fit) {
      b.channels = std::min(pass.channels, rest(padded));
    } else {
      b.channels = std::min(pass.channels, kMany / 2);
      const int most = std::max(fit - b.channels, kPanel);
      b.filters = simt::round_up(simt::ceil_div(padded, simt::ceil_div(padded, most)), kPanel);
    }
    constexpr int kTasks = 16;
    const std::int64_t wanted = simt::ceil_div<std::int64_t>(kTasks, blocks * pass.groups);
    b.parts = static_cast<int>(std::min<std::int64_t>(wanted, padded / kPanel));
    b.filters = std::min(b.filters, simt::round_up(simt::ceil_div(padded, b.parts), kPanel));
    b.parts = std::min(b.parts, simt::ceil_div(padded, b.filters));
    return b;
  }
};

}  // namespace pyalexnet::winograd
