// The rules of a convolution's sizes, for whoever calls the launchers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels.hpp"

namespace pyalexnet {

/// Rows and columns, of windows and their borders too, are fewer than this; and a row or column so far outside that no tap of a filter
/// brings it back in.
constexpr int kMostRows = 1 << 28;
constexpr int kOutOfBounds = -2 * kMostRows;

/// Throws std::invalid_argument, naming the rule, for a shape that no convolution has or that the kernels cannot count in 32 bits.
/// Everything is worked out in 64 bits, of factors below 2^31.
inline void check_conv_shape(const ConvShape& s) {
  using Size = std::int64_t;
  const auto text = [](Size v) { return std::to_string(v); };
  const auto require = [](bool ok, const std::string& what) {
    if (!ok) throw std::invalid_argument(what);
  };
  for (int extent : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.P, s.Q})
    require(extent >= 1, "a convolution's extent is " + text(extent) + "; it must be at least 1");
  require(s.stride >= 1, "stride is " + text(s.stride) + "; it must be at least 1");
  require(s.pad >= 0, "pad is " + text(s.pad) + "; it must be at least 0");
  require(s.G >= 1 && s.C % s.G == 0 && s.K % s.G == 0,
          "groups is " + text(s.G) + "; it must divide the channels (" + text(s.C) + ") and the filters (" + text(s.K) + ")");
  // The last window must still touch the padded image, or the size was worked out for another convolution.
  const auto touches = [&](Size out, Size in) { return (out - 1) * s.stride < in + 2 * Size{s.pad}; };
  require(touches(s.P, s.H) && touches(s.Q, s.W), "y has " + text(s.P) + " x " + text(s.Q) + " pixels; with stride " + text(s.stride) +
                                                      " and pad " + text(s.pad) + " its last window lies outside x, " + text(s.H) + " x " +
                                                      text(s.W));
  // A matrix's rows, columns and steps are counted in 32 bits; a tile may reach over the edge.
  const auto countable = [&](const char* what, Size a, Size b, Size c) {
    constexpr Size kLimit = 0x7fffffff - 4096;
    require(a * b <= kLimit && a * b * c <= kLimit, std::string("a convolution's ") + what + " is " + text(a) + " x " + text(b) + " x " +
                                                        text(c) + "; it must be at most " + text(kLimit));
  };
  countable("P Q N", s.P, s.Q, s.N);
  countable("H W N", s.H, s.W, s.N);
  countable("R S C", s.R, s.S, s.C);
  constexpr Size kWidestVector = 16;  // to which the data gradient rounds up a tap's filters
  countable("R S K", s.R, s.S, s.K + kWidestVector);
  for (Size rows : {Size{s.H}, Size{s.W}, Size{s.R}, Size{s.S}, Size{s.P} * s.stride, Size{s.Q} * s.stride, Size{s.pad}})
    require(rows < kMostRows, "a convolution has " + text(rows) + " rows or columns; they must be fewer than " + text(kMostRows));
}

}  // namespace pyalexnet
