// Philox4x32-10: random numbers from a key and a counter alone (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// Turns W counters of four words, words[0..3][lane], into four random words each, under one key.
template <int W>
__device__ __forceinline__ void philox(std::uint32_t (&words)[4][W], std::uint64_t key) {
  constexpr std::uint32_t kMultiply0 = 0xD2511F53u, kMultiply1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    SIMT_UNROLL
    for (int lane = 0; lane < W; ++lane) {
      const std::uint64_t product0 = std::uint64_t{kMultiply0} * words[0][lane], product1 = std::uint64_t{kMultiply1} * words[2][lane];
      words[0][lane] = static_cast<std::uint32_t>(product1 >> 32) ^ words[1][lane] ^ key0;
      words[1][lane] = static_cast<std::uint32_t>(product1);
      words[2][lane] = static_cast<std::uint32_t>(product0 >> 32) ^ words[3][lane] ^ key1;
      words[3][lane] = static_cast<std::uint32_t>(product0);
    }
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

}  // namespace pyalexnet
