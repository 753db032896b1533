// Checks of a convolution's sizes, for the launchers and the bindings.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels.hpp"

namespace pyalexnet {

/// Rows and columns, including padding, are fewer than kMaxRows. kOutOfBounds is a row or column so far outside that no tap of a filter
/// reaches back in.
constexpr int kMaxRows = 1 << 28;
constexpr int kOutOfBounds = -2 * kMaxRows;
/// Groups are the grid's third axis, together with splits where groups are few.
constexpr int kMaxGroups = 65535;

/// Throws std::invalid_argument, naming the rule, for a shape that no convolution has or whose indices exceed 32 bits. Computes in 64 bits;
/// all factors are below 2^31.
inline void check_conv_shape(const ConvShape& s) {
  using Size = std::int64_t;
  const auto text = [](Size v) { return std::to_string(v); };
  const auto require = [](bool ok, const std::string& what) {
    if (!ok) throw std::invalid_argument(what);
  };
  for (int extent : {s.N, s.C, s.H, s.W, s.K, s.R, s.S, s.P, s.Q})
    require(extent >= 1, "conv: an extent is " + text(extent) + "; expected at least 1");
  require(s.stride >= 1, "stride is " + text(s.stride) + "; expected at least 1");
  require(s.pad >= 0, "pad is " + text(s.pad) + "; expected at least 0");
  require(s.G >= 1 && s.C % s.G == 0 && s.K % s.G == 0,
          "groups is " + text(s.G) + "; expected a divisor of the channels (" + text(s.C) + ") and the filters (" + text(s.K) + ")");
  require(s.G <= kMaxGroups, "groups is " + text(s.G) + "; expected at most " + text(kMaxGroups));
  // The last window must touch the padded image; otherwise the size is another convolution's.
  const auto touches = [&](Size out, Size in) { return (out - 1) * s.stride < in + 2 * Size{s.pad}; };
  require(touches(s.P, s.H) && touches(s.Q, s.W), "y has " + text(s.P) + " x " + text(s.Q) + " pixels; expected a last window (stride " +
                                                      text(s.stride) + ", pad " + text(s.pad) + ") that touches the padded x (" +
                                                      text(s.H) + " x " + text(s.W) + ")");
  // Rows, columns and steps of the matrices are 32-bit.
  const auto countable = [&](const char* what, Size a, Size b, Size c) {
    require(a * b <= kMaxIndex && a * b * c <= kMaxIndex,
            std::string("conv: ") + what + " is " + text(a) + " x " + text(b) + " x " + text(c) + "; expected at most " + text(kMaxIndex));
  };
  countable("P Q N", s.P, s.Q, s.N);
  countable("H W N", s.H, s.W, s.N);
  countable("R S C", s.R, s.S, s.C);
  constexpr Size kWidestVector = 16;  // the data gradient rounds a tap's filters up to vectors
  countable("R S (K + 16)", s.R, s.S, s.K + kWidestVector);
  for (Size rows : {Size{s.H}, Size{s.W}, Size{s.R}, Size{s.S}, Size{s.P} * s.stride, Size{s.Q} * s.stride, Size{s.pad}})
    require(rows < kMaxRows, "conv: rows or columns are " + text(rows) + "; expected fewer than " + text(kMaxRows));
}

}  // namespace pyalexnet
