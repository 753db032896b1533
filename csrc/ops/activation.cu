// ReLU and tanh as kernels of their own, where a convolution does not fuse them.
#include "ops/activate.cuh"
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

// Computes  y = max(x, 0) (paper, 3.1) or tanh(x)
// Layout    x, y: count elements in any order; y may be x
// Mapping   a thread processes Target::kVecsPerThread vectors, adjacent threads adjacent ones; the array's last vector may be partial
// Cost      1 FLOP (ReLU), 8 bytes an element: bound by memory (tanh on a CPU: by the C library's tanhf)
template <class Target, class T, Activation kKind>
__global__ void __launch_bounds__(Target::kThreads) activation_forward_kernel(T* y, const T* x, std::int64_t count) {
  map_arrays<Target>(count, [](auto v) { return activate<kKind>(v); }, y, x);
}

// Computes  dx = dy * (y > 0) (ReLU) or dy * (1 - y^2) (tanh)
// Layout    dx, dy, y: count elements in any order; dx may be dy
// Mapping   as forward
// Cost      1 or 3 FLOP, 12 bytes an element: bound by memory
template <class Target, class T, Activation kKind>
__global__ void __launch_bounds__(Target::kThreads) activation_backward_kernel(T* dx, const T* dy, const T* y, std::int64_t count) {
  map_arrays<Target>(count, [](auto d, auto v) { return activation_gradient<kKind>(d, v); }, dx, dy, y);
}

/// Calls f with the target and the activation as types.
template <class F>
void with_kind(Activation kind, F f) {
  if (kind == Activation::kNone) throw std::invalid_argument("kind is none; expected ReLU or tanh");
  with_target([&](auto target) {
    if (kind == Activation::kRelu) f(target, std::integral_constant<Activation, Activation::kRelu>{});
    if (kind == Activation::kTanh) f(target, std::integral_constant<Activation, Activation::kTanh>{});
  });
}

}  // namespace

template <class T>
void activation_forward(T* y, const T* x, std::int64_t count, Activation kind, StreamHandle stream) {
  const simt::Range range(__func__);
  if (count == 0) return;
  with_kind(kind, [&](auto target, auto constant) {
    using Target = decltype(target);
    simt::launch(activation_forward_kernel<Target, T, constant.value>, vectors_grid<Target>(count), Target::kThreads, 0, stream, y, x,
                 count);
  });
}

template <class T>
void activation_backward(T* dx, const T* dy, const T* y, std::int64_t count, Activation kind, StreamHandle stream) {
  const simt::Range range(__func__);
  if (count == 0) return;
  with_kind(kind, [&](auto target, auto constant) {
    using Target = decltype(target);
    simt::launch(activation_backward_kernel<Target, T, constant.value>, vectors_grid<Target>(count), Target::kThreads, 0, stream, dx, dy, y,
                 count);
  });
}

template void activation_forward(float*, const float*, std::int64_t, Activation, StreamHandle);
template void activation_backward(float*, const float*, const float*, std::int64_t, Activation, StreamHandle);

}  // namespace pyalexnet
