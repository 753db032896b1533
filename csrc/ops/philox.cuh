// Philox4x32-10: random numbers from a key and a counter (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
#pragma once

#include "simt/simt.cuh"

namespace pyalexnet {

/// Replaces W counters of four words each, words[0..3], by four random words each, under one key.
template <int W>
__device__ __forceinline__ void philox(simt::WordVec<W> (&words)[4], std::uint64_t key) {
  constexpr std::uint32_t kMultiply0 = 0xD2511F53u, kMultiply1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  using Words = simt::WordVec<W>;
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    Words low0, high0, low1, high1;
    multiply(kMultiply0, words[0], low0, high0);
    multiply(kMultiply1, words[2], low1, high1);
    words[0] = high1 ^ words[1] ^ Words(key0);
    words[1] = low1;
    words[2] = high0 ^ words[3] ^ Words(key1);
    words[3] = low0;
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

}  // namespace pyalexnet
