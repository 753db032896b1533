#include "execution/access_counters.hpp"

#include <algorithm>

namespace emu {
namespace {

/// Wavefronts of a group of lanes: the largest number of distinct words in one bank.
int wavefronts(const std::uint64_t* a, Mask lanes, int bytes) {
  std::uint64_t words[kLanes * 4];
  int n = 0;
  std::uint8_t banks[32] = {};
  int most = 0;
  for_lanes(lanes, [&](int i) {
    for (std::uint64_t word = a[i] / 4; word <= (a[i] + static_cast<std::uint64_t>(bytes) - 1) / 4; ++word) {
      if (std::find(words, words + n, word) != words + n) continue;
      words[n++] = word;
      most = std::max<int>(most, ++banks[word % 32]);
    }
  });
  return most;
}

/// Whether every lane of the part has the address of lane ^ 1, or every lane that of lane ^ 2.
bool shares_wavefront(const std::uint64_t* a, Mask mask, Mask part) {
  for (int by : {1, 2}) {
    bool all = true;
    for_lanes(mask & part, [&](int i) { all = all && (mask >> (i ^ by) & 1) && a[i] == a[i ^ by]; });
    if (all) return true;
  }
  return false;
}

}  // namespace

void count_sectors(OpCount& c, Mask mask, const std::uint64_t* a, int bytes) {
  // Aligned accesses of equal size either coincide or are disjoint, and none crosses a sector boundary.
  std::uint64_t distinct[kLanes];
  int n = 0;
  for_lanes(mask, [&](int i) { distinct[n++] = a[i]; });
  std::sort(distinct, distinct + n);
  n = static_cast<int>(std::unique(distinct, distinct + n) - distinct);
  int sectors = 0;
  for (int i = 0; i < n; ++i) sectors += i == 0 || distinct[i] / 32 != distinct[i - 1] / 32;
  c.bytes += static_cast<std::uint64_t>(__builtin_popcount(mask) * bytes);
  c.units += static_cast<std::uint64_t>(sectors);
  c.ideal += static_cast<std::uint64_t>((n * bytes + 31) / 32);
}

void count_wavefronts(OpCount& c, Mask mask, const std::uint64_t* a, int bytes) {
  int actual = 0, ideal = 0;
  if (bytes <= 4) {
    actual = wavefronts(a, mask, bytes), ideal = 1;
  } else {
    const int lanes = bytes == 8 ? 16 : 8;  // per part
    for (int at = 0; at < kLanes; at += 2 * lanes) {
      const Mask part = ((1u << lanes) - 1) << at, both = part | part << lanes;
      if (!(mask & both)) continue;
      if (shares_wavefront(a, mask, both)) {
        actual += std::max(1, wavefronts(a, mask & both, bytes)), ideal += 1;
      } else {
        for (Mask p : {part, both & ~part})
          if (mask & p) actual += wavefronts(a, mask & p, bytes), ideal += 1;
      }
    }
  }
  c.bytes += static_cast<std::uint64_t>(__builtin_popcount(mask) * bytes);
  c.units += static_cast<std::uint64_t>(actual);
  c.ideal += static_cast<std::uint64_t>(ideal);
}

}  // namespace emu
