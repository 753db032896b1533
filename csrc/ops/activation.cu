// ReLU and tanh, where they are not fused into a convolution.
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

template <Activation kKind, int W>
__device__ __forceinline__ simt::Vec<W> activate(simt::Vec<W> x) {
  const simt::Vec<W> zero(0.0f);
  if constexpr (kKind == Activation::kRelu) {
    return select(zero > x, zero, x);  // keeps a NaN
  } else {
    return map(x, [](float f) { return tanhf(f); });
  }
}

/// The gradient of the input, from that of the output and the output itself.
template <Activation kKind, int W>
__device__ __forceinline__ simt::Vec<W> slope(simt::Vec<W> dy, simt::Vec<W> y) {
  if constexpr (kKind == Activation::kRelu) {
    const simt::Vec<W> zero(0.0f);
    return select(y > zero, dy, zero);
  } else {
    return dy * (simt::Vec<W>(1.0f) - y * y);
  }
}

// Computes  y = max(x, 0) (paper, 3.1) or tanh(x)
// Layout    x, y: count floats in any order; y may be x
// Mapping   a thread has T::kVecsPerThread vectors, a block's side by side; the last one of the array may be partial
// Cost      1 FLOP (ReLU), 8 bytes an element: bound by memory (tanh on a CPU: by the C library's tanhf)
template <class T, Activation kKind>
__global__ void __launch_bounds__(T::kThreads) activation_forward_kernel(float* y, const float* x, std::int64_t count) {
  constexpr int W = T::kVec;
  for_own_vectors<T>(count, [=](std::int64_t i) {
    if (count - i >= W) {
      simt::store<W>(y + i, activate<kKind>(simt::load<W>(x + i)));
    } else {
      const int rest = static_cast<int>(count - i);
      simt::store_first<W>(y + i, rest, activate<kKind>(simt::load_first<W>(x + i, rest)));
    }
  });
}

// Computes  dx = dy * (y > 0) (ReLU) or dy * (1 - y^2) (tanh)
// Layout    dx, dy, y: count floats in any order; dx may be dy
// Mapping   as forward
// Cost      1 or 3 FLOP, 12 bytes an element: bound by memory
template <class T, Activation kKind>
__global__ void __launch_bounds__(T::kThreads) activation_backward_kernel(float* dx, const float* dy, const float* y, std::int64_t count) {
  constexpr int W = T::kVec;
  for_own_vectors<T>(count, [=](std::int64_t i) {
    if (count - i >= W) {
      simt::store<W>(dx + i, slope<kKind>(simt::load<W>(dy + i), simt::load<W>(y + i)));
    } else {
      const int rest = static_cast<int>(count - i);
      simt::store_first<W>(dx + i, rest, slope<kKind>(simt::load_first<W>(dy + i, rest), simt::load_first<W>(y + i, rest)));
    }
  });
}

/// Calls f with the target and the kind as types.
template <class F>
void with_kind(Activation kind, F f) {
  with_target([&](auto target) {
    if (kind == Activation::kRelu) f(target, std::integral_constant<Activation, Activation::kRelu>{});
    if (kind == Activation::kTanh) f(target, std::integral_constant<Activation, Activation::kTanh>{});
  });
}

void check_kind(Activation kind) {
  if (kind == Activation::kNone) throw std::invalid_argument("kind is none; it must be ReLU or tanh");
}

}  // namespace

void activation_forward(float* y, const float* x, std::int64_t count, Activation kind, StreamHandle stream) {
  check_kind(kind);
  if (count == 0) return;
  with_kind(kind, [&](auto target, auto constant) {
    using T = decltype(target);
    simt::launch(activation_forward_kernel<T, constant.value>, vectors_grid<T>(count), T::kThreads, 0, stream_of(stream), y, x, count);
  });
}

void activation_backward(float* dx, const float* dy, const float* y, std::int64_t count, Activation kind, StreamHandle stream) {
  check_kind(kind);
  if (count == 0) return;
  with_kind(kind, [&](auto target, auto constant) {
    using T = decltype(target);
    simt::launch(activation_backward_kernel<T, constant.value>, vectors_grid<T>(count), T::kThreads, 0, stream_of(stream), dx, dy, y,
                 count);
  });
}

}  // namespace pyalexnet
