// Winograd's transform of the filters.
#if !defined(__CUDACC__)
#include "conv/blocking.hpp"

namespace pyalexnet::winograd {
namespace {

constexpr int kVec = RegisterTile::kVec, kPanel = RegisterTile::kRows;
using Vec = simt::Vec<kVec>;

/// Loads the first `count` elements, from none to all.
Vec load_some(const float* from, int count) {
  if (count >= kVec) return simt::load<kVec>(from);
  return count > 0 ? simt::load_first<kVec>(from, count) : Vec(0.0f);
}

// Computes  U = G w G^T for every channel and filter, filters past the last one being zeros
// Layout    w (C/G, R, R, K); U [group][block of filters][block of channels][frequency][panel][channel][filter of the panel], where
//           "filter" and "channel" are the pass's: those of the data gradient are the layer's channels and filters
// Mapping   blockIdx.x is a vector of filters, blockIdx.y the group. One thread
// Cost      4 (R^2 + points^2) bytes a channel and filter: bound by memory
template <int kPixels, int kTaps>
class FilterTransform {
  static constexpr int kPoints = kPixels + kTaps - 1, kFrequencies = kPoints * kPoints, kWindow = kTaps * kTaps;

 public:
  FilterTransform(float* u, const float* w, const Pass& pass, const Blocking& blocking, int group)
      : pass_(pass), blocking_(blocking), padded_(simt::round_up(pass.filters, kPanel)),
        u_(u + std::int64_t{group} * kFrequencies * padded_ * pass.channels), group_(group), w_(w) {}

  void run(int filter) {
    Vec taps[kVec][kWindow], transformed[kFrequencies][kVec];
    for (int channel = 0; channel < pass_.channels; channel += kVec) {
      const int channels = simt::min(kVec, pass_.channels - channel);
      if (pass_.turned)
        load_turned(taps, filter, channel, channels);
      else
        load(taps, filter, channel, channels);
      for (int c = 0; c < channels; ++c) transform(taps[c], [&](int frequency, Vec x) { transformed[frequency][c] = x; });
      store(transformed, filter, channel, channels);
    }
  }

 private:
  /// The layer's filters are the pass's.
  void load(Vec (&taps)[kVec][kWindow], int filter, int channel, int channels) const {
    const int per_tap = pass_.groups * pass_.filters;
    for (int c = 0; c < channels; ++c) {
      const float* from = w_ + std::int64_t{channel + c} * kWindow * per_tap + group_ * pass_.filters + filter;
      for (int t = 0; t < kWindow; ++t) taps[c][t] = load_some(from + std::int64_t{t} * per_tap, pass_.filters - filter);
    }
  }

  /// The layer's channels are the pass's filters, which are turned by 180 degrees.
  void load_turned(Vec (&taps)[kVec][kWindow], int filter, int channel, int channels) const {
    const int per_tap = pass_.groups * pass_.channels;
    for (int t = 0; t < kWindow; ++t) {
      Vec block[kVec];
      for (int f = 0; f < kVec; ++f) {
        const float* from = w_ + (std::int64_t{filter + f} * kWindow + kWindow - 1 - t) * per_tap + group_ * pass_.channels + channel;
        block[f] = load_some(from, filter + f < pass_.filters ? channels : 0);
      }
      simt::transpose(block);
      for (int c = 0; c < channels; ++c) taps[c][t] = block[c];
    }
  }

  template <class Out>
  static void transform(const Vec (&taps)[kWindow], const Out& out) {
    Vec half[kPoints][kTaps];
    SIMT_UNROLL
    for (int j = 0; j < kTaps; ++j)
      winograd::transform<kPixels, kTaps, Matrix::kFilter, Vec>([&](int i) { return taps[i * kTaps + j]; },
                                                                [&](int i, Vec x) { half[i][j] = x; });
    SIMT_UNROLL
    for (int i = 0; i < kPoints; ++i)
      winograd::transform<kPixels, kTaps, Matrix::kFilter, Vec>([&](int j) { return half[i][j]; },
                                                                [&](int j, Vec x) { out(i * kPoints + j, x); });
  }

  /// Stores frequency by frequency: those of one channel lie pages apart, in one set of the cache.
  void store(const Vec (&transformed)[kFrequencies][kVec], int filter, int channel, int channels) const {
    constexpr int kAtOnce = kVec < kPanel ? kVec : kPanel;  // filters that are adjacent
    static_assert(kVec % kAtOnce == 0 && kPanel % kAtOnce == 0, "vectors and panels divide each other");
    for (int i = 0; i < kVec && filter + i < padded_; i += kAtOnce) {
      Place to[kVec];
      for (int c = 0; c < channels; ++c) to[c] = place(filter + i, channel + c);
      for (int frequency = 0; frequency < kFrequencies; ++frequency) {
        for (int c = 0; c < channels; ++c) {
          alignas(64) float values[kVec];
          simt::store<kVec>(values, transformed[frequency][c]);
          std::memcpy(to[c].first + frequency * to[c].stride, values + i, kAtOnce * sizeof(float));
        }
      }
    }
  }

  /// Where a channel's frequency 0 of some filters is, and how far apart its frequencies are.
  struct Place {
    float* first;
    std::int64_t stride;
  };
  Place place(int filter, int channel) const {
    const int k0 = filter / blocking_.filters * blocking_.filters, c0 = channel / blocking_.channels * blocking_.channels;
    const int filters = simt::min(blocking_.filters, padded_ - k0), channels = simt::min(blocking_.channels, pass_.channels - c0);
    const int panel = (filter - k0) / kPanel;
    float* block = u_ + kFrequencies * (std::int64_t{k0} * pass_.channels + std::int64_t{c0} * filters);
    return {block + (std::int64_t{panel} * channels + channel - c0) * kPanel + filter % kPanel, std::int64_t{filters} * channels};
  }

  const Pass& pass_;
  const Blocking& blocking_;
  const int padded_;
  float* const u_;
  const int group_;
  const float* const w_;
};

template <int kPixels, int kTaps>
__global__ void filter_kernel(float* u, const float* w, Pass pass, Blocking blocking) {
  FilterTransform<kPixels, kTaps>(u, w, pass, blocking, static_cast<int>(blockIdx.y)).run(static_cast<int>(blockIdx.x) * kVec);
}

}  // namespace

std::size_t filter_floats(const Pass& pass) {
  const std::size_t points = tile_pixels(pass.taps) + pass.taps - 1;
  return points * points * pass.groups * simt::round_up(pass.filters, kPanel) * pass.channels;
}

void transform_filters(float* u, const float* w, const Pass& pass, StreamHandle stream) {
  with_taps(pass.taps, [&](auto pixels, auto taps) {
    simt::launch(
        filter_kernel<pixels, taps>,
        dim3(static_cast<unsigned>(simt::ceil_div(simt::round_up(pass.filters, kPanel), kVec)), static_cast<unsigned>(pass.groups)), 1, 0,
        stream, u, w, pass, Blocking::of(pass));
  });
}

}  // namespace pyalexnet::winograd
#endif
