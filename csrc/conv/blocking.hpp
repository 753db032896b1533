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
  int parts;          // blocks that share the filters of a group, where blocks of columns are few
  Cut rows, columns;  // of the output

  static Blocking of(const Pass& pass) {
    const int pixels = pass.taps == 3 ? 4 : 3, points = pixels + pass.taps - 1;
    constexpr int kPanel = RegisterTile::kRows;
    const int padded = simt::round_up(pass.filters, kPanel);
    Blocking b{padded, pass.channels, 0, 1, Cut::of(pass.rows, pixels, pass.taps), Cut::of(pass.columns, pixels, pass.taps)};
    for (int kind = 0; kind < 4; ++kind) {
      const int vectors = b.rows.count(kind & 2) * b.columns.count(kind & 1) * (pass.images / RegisterTile::kVec);
      b.column_blocks += simt::ceil_div(vectors, RegisterTile::kVecs);
    }
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
    const int wanted = simt::ceil_div(kTasks, b.column_blocks * pass.groups);
    b.parts = std::min(wanted, simt::ceil_div(padded, kPanel));
    b.filters = std::min(b.filters, simt::round_up(simt::ceil_div(padded, b.parts), kPanel));
    b.parts = std::min(b.parts, simt::ceil_div(padded, b.filters));
    return b;
  }
};

}  // namespace pyalexnet::winograd
