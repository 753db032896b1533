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
    Vec taps[kVec][kWindow];
    for (int channel = 0; channel < pass_.channels; channel += kVec) {
      const int channels = simt::min(kVec, pass_.channels - channel);
      if (pass_.turned)
        load_turned(taps, filter, channel, channels);
      else
        load(taps, filter, channel, channels);
      for (int c = 0; c < channels; ++c) transform_and_store(taps[c], filter, channel + c);
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

  void transform_and_store(const Vec (&taps)[kWindow], int filter, int channel) const {
    Vec half[kPoints][kTaps];
    SIMT_UNROLL
    for (int j = 0; j < kTaps; ++j)
      transform<kPixels, kTaps, Matrix::kFilter, Vec>([&](int i) { return taps[i * kTaps + j]; }, [&](int i, Vec x) { half[i][j] = x; });
    SIMT_UNROLL
    for (int i = 0; i < kPoints; ++i)
      transform<kPixels, kTaps, Matrix::kFilter, Vec>([&](int j) { return half[i][j]; },
                                                      [&](int j, Vec x) { store(x, i * kPoints + j, filter, channel); });
  }

  void store(Vec x, int frequency, int filter, int channel) const {
    constexpr int kAtOnce = kVec < kPanel ? kVec : kPanel;  // that are adjacent
    static_assert(kVec % kAtOnce == 0 && kPanel % kAtOnce == 0, "vectors and panels divide each other");
    alignas(64) float values[kVec];
    simt::store<kVec>(values, x);
    for (int i = 0; i < kVec && filter + i < padded_; i += kAtOnce)
      std::memcpy(at(frequency, filter + i, channel), values + i, kAtOnce * sizeof(float));
  }

  float* at(int frequency, int filter, int channel) const {
    const int k0 = filter / blocking_.filters * blocking_.filters, c0 = channel / blocking_.channels * blocking_.channels;
    const int filters = simt::min(blocking_.filters, padded_ - k0), channels = simt::min(blocking_.channels, pass_.channels - c0);
    const int panel = (filter - k0) / kPanel;
    return u_ + kFrequencies * (std::int64_t{k0} * pass_.channels + std::int64_t{c0} * filters) +
           std::int64_t{frequency} * filters * channels + (std::int64_t{panel} * channels + channel - c0) * kPanel + filter % kPanel;
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
  const std::size_t points = pass.taps == 3 ? 6 : 7;
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
