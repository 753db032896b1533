// Arithmetic on single values, as functors for the handlers in operands.hpp.
#pragma once

#include <cmath>
#include <limits>

#include "instructions/operands.hpp"

namespace emu {

struct Add {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(Unsigned<T>(a) + Unsigned<T>(b));
    else
      return a + b;
  }
};
struct Sub {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(Unsigned<T>(a) - Unsigned<T>(b));
    else
      return a - b;
  }
};
struct Mul {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else
      return a * b;
  }
};
struct MulHigh {
  template <class T>
  static T apply(T a, T b) {
    using Twice = std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
                                     std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
    return static_cast<T>(static_cast<Twice>(a) * static_cast<Twice>(b) >> (8 * sizeof(T)));
  }
};
struct MadLow {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply(Mul::apply(a, b), c);
  }
};
struct MadHigh {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply(MulHigh::apply(a, b), c);
  }
};
struct Fma {
  template <class T>
  static T apply(T a, T b, T c) {
    if constexpr (sizeof(T) == 4)
      return __builtin_fmaf(a, b, c);
    else
      return __builtin_fma(a, b, c);
  }
};
struct Neg {
  template <class T>
  static T apply(T a) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(0 - Unsigned<T>(a));
    else
      return -a;
  }
};
struct Abs {
  template <class T>
  static T apply(T a) {
    if constexpr (std::is_integral_v<T>)
      return a < 0 ? Neg::apply(a) : a;
    else
      return std::fabs(a);
  }
};

// Floating-point min and max: if one operand is NaN, the result is the other; -0 is below +0.
struct Min {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return b < a ? b : a;
    } else {
      if (a != a) return b;
      if (b != b) return a;
      if (a == b) return std::signbit(a) ? a : b;
      return b < a ? b : a;
    }
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return a < b ? b : a;
    } else {
      if (a != a) return b;
      if (b != b) return a;
      if (a == b) return std::signbit(a) ? b : a;
      return a < b ? b : a;
    }
  }
};
/// min.NaN and max.NaN: the result is NaN if an operand is.
template <class F>
struct NanWins {
  template <class T>
  static T apply(T a, T b) {
    return a != a || b != b ? std::numeric_limits<T>::quiet_NaN() : F::apply(a, b);
  }
};

}  // namespace emu
