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
  std::uint64_t sectors[2 * kLanes];
  int n = 0;
  std::uint64_t distinct_bytes = 0, last_begin = ~0ull;
  for_lanes(mask, [&](int i) {
    if (a[i] != last_begin) distinct_bytes += static_cast<std::uint64_t>(bytes);
    last_begin = a[i];
    for (std::uint64_t s = a[i] / 32; s <= (a[i] + static_cast<std::uint64_t>(bytes) - 1) / 32; ++s) {
      if (n && sectors[n - 1] == s) continue;
      if (std::find(sectors, sectors + n, s) == sectors + n) sectors[n++] = s;
    }
  });
  c.bytes += static_cast<std::uint64_t>(__builtin_popcount(mask) * bytes);
  c.units += static_cast<std::uint64_t>(n);
  c.ideal += (distinct_bytes + 31) / 32;
}

void count_wavefronts(OpCount& c, Mask mask, const std::uint64_t* a, int bytes) {
  int actual = 0, ideal = 0;
  if (bytes <= 4) {
    actual = wavefronts(a, mask, bytes), ideal = 1;
  } else {
    const int lanes = bytes == 8 ? 16 : 8;  // of a part
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
