// Activation functions, and their gradients computed from their outputs.
#pragma once

#include "kernels.hpp"
#include "simt/simt.cuh"

namespace pyalexnet {

/// ReLU: max(x, 0), where a NaN stays NaN; or tanh.
template <Activation kKind, int W>
__device__ __forceinline__ simt::Vec<W> activate(simt::Vec<W> x) {
  if constexpr (kKind == Activation::kRelu) {
    const simt::Vec<W> zero(0.0f);
    return select(zero > x, zero, x);
  } else if constexpr (kKind == Activation::kTanh) {
    return map(x, [](float f) { return tanhf(f); });
  } else {
    return x;
  }
}

/// The same of a kind that is known at run time.
template <int W>
__device__ __forceinline__ simt::Vec<W> activate(Activation kind, simt::Vec<W> x) {
  if (kind == Activation::kRelu) return activate<Activation::kRelu>(x);
  if (kind == Activation::kTanh) return activate<Activation::kTanh>(x);
  return x;
}

/// Gradient of the input, from dy and the output y.
template <Activation kKind, int W>
__device__ __forceinline__ simt::Vec<W> activation_gradient(simt::Vec<W> dy, simt::Vec<W> y) {
  if constexpr (kKind == Activation::kRelu) {
    const simt::Vec<W> zero(0.0f);
    return select(y > zero, dy, zero);
  } else {
    return dy * (simt::Vec<W>(1.0f) - y * y);
  }
}

}  // namespace pyalexnet
