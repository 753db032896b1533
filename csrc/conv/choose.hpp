// Which algorithm computes a convolution.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.hpp"
#include "simt/simt.cuh"

namespace pyalexnet {

/// Whether Winograd's kernels can compute it: on a CPU, stride 1, filters of 3 x 3 or 5 x 5.
inline bool winograd_can(const ConvShape& s) {
#if defined(__CUDACC__)
  static_cast<void>(s);
  return false;
#else
  return simt::execution().tiles == simt::Tiles::kHost && s.stride == 1 && s.R == s.S && (s.R == 3 || s.R == 5);
#endif
}

/// Winograd's kernels are chosen from so many channels and filters of a group, rows and columns on. They are faster from half as many
/// channels on, but then their errors are more than 4 times (5 x 5: 8 times) the direct ones.
constexpr int kWinogradChannels = 16, kWinogradPixels = 3;

/// The algorithm that a convolution uses, kDirect or kWinograd: the one that is asked for, else the one that PYALEXNET_CONV names, where
/// it can be done, else the faster one by the convolution's sizes. Throws std::invalid_argument where kWinograd is asked for and cannot be
/// done, and where PYALEXNET_CONV names neither.
inline ConvAlgorithm choose_conv(const ConvShape& s, ConvAlgorithm wanted) {
  const bool can = winograd_can(s);
  if (wanted == ConvAlgorithm::kWinograd && !can)
    throw std::invalid_argument("algorithm is 'winograd'; expected 'direct' or '' for filters of " + std::to_string(s.R) + " x " +
                                std::to_string(s.S) + " at stride " + std::to_string(s.stride) +
                                " (on a CPU, winograd does 3 x 3 and 5 x 5 at stride 1)");
  if (wanted != ConvAlgorithm::kAuto) return wanted;
  const char* named = std::getenv("PYALEXNET_CONV");
  const std::string name = named != nullptr ? named : "";
  if (name == "direct") return ConvAlgorithm::kDirect;
  if (name == "winograd") return can ? ConvAlgorithm::kWinograd : ConvAlgorithm::kDirect;
  if (!name.empty()) throw std::invalid_argument("PYALEXNET_CONV is '" + name + "'; expected 'direct' or 'winograd'");
  const bool faster = s.C / s.G >= kWinogradChannels && s.K / s.G >= kWinogradChannels && s.P >= kWinogradPixels && s.Q >= kWinogradPixels;
  return can && faster ? ConvAlgorithm::kWinograd : ConvAlgorithm::kDirect;
}

}  // namespace pyalexnet
