// Stochastic gradient descent with momentum and weight decay, over all parameters at once.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// The segment that contains element i: the last whose start is at most i.
__device__ __forceinline__ int segment_of(std::int64_t i, const std::int64_t* starts, int segments) {
  int low = 0, high = segments;
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    if (starts[middle] <= i)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Computes  v = momentum v - decay rate w - rate g, w = w + v, with each segment's rate and decay (paper, 5)
// Layout    weights, gradients, momenta: flat; segment s is [starts[s], starts[s+1]), starts are multiples of 64 floats
// Mapping   a thread processes Target::kVecsPerThread vectors, adjacent threads adjacent ones; it looks up each segment that it enters
// Cost      5 FLOP, 20 bytes an element: bound by memory
template <class Target>
__global__ void __launch_bounds__(Target::kThreads)
    sgd_kernel(float* weights, const float* gradients, float* momenta, const std::int64_t* starts, const float* rates, const float* decays,
               int segments, std::int64_t count, float momentum) {
  constexpr int W = Target::kVec;
  std::int64_t end = 0;
  float rate = 0.0f, decay = 0.0f;
  for_own_vectors<Target>(count, [&](std::int64_t i) {
    if (i >= end) {
      const int segment = segment_of(i, starts, segments);
      end = starts[segment + 1];
      rate = rates[segment];
      decay = decays[segment] * rate;
    }
    const simt::Vec<W> w = simt::load<W>(weights + i);
    simt::Vec<W> v = momentum * simt::load<W>(momenta + i);
    v = fma(-decay, w, v);
    v = fma(-rate, simt::load<W>(gradients + i), v);
    simt::store<W>(momenta + i, v);
    simt::store<W>(weights + i, w + v);
  });
}

}  // namespace

void sgd(float* weights, const float* gradients, float* momenta, const std::int64_t* starts, const float* rates, const float* decays,
         int segments, std::int64_t count, float momentum, StreamHandle stream) {
  const simt::Range range(__func__);
  if (count % 64 != 0) throw std::invalid_argument("weights has " + std::to_string(count) + " floats; expected a multiple of 64");
  if (count == 0) return;
  with_target([&](auto target) {
    using Target = decltype(target);
    simt::launch(sgd_kernel<Target>, vectors_grid<Target>(count), Target::kThreads, 0, stream, weights, gradients, momenta, starts, rates,
                 decays, segments, count, momentum);
  });
}

}  // namespace pyalexnet
