// The sum of two arrays: a gradient that comes in two parts.
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

// Computes  y = a + b
// Layout    y, a, b: count floats in any order; y may be a or b
// Mapping   a thread has T::kVecsPerThread vectors, a block's side by side; the last one of the array may be partial
// Cost      1 FLOP, 12 bytes an element: bound by memory
template <class T>
__global__ void __launch_bounds__(T::kThreads) add_kernel(float* y, const float* a, const float* b, std::int64_t count) {
  constexpr int W = T::kVec;
  for_own_vectors<T>(count, [=](std::int64_t i) {
    if (count - i >= W) {
      simt::store<W>(y + i, simt::load<W>(a + i) + simt::load<W>(b + i));
    } else {
      const int rest = static_cast<int>(count - i);
      simt::store_first<W>(y + i, rest, simt::load_first<W>(a + i, rest) + simt::load_first<W>(b + i, rest));
    }
  });
}

}  // namespace

void add(float* y, const float* a, const float* b, std::int64_t count, StreamHandle stream) {
  if (count == 0) return;
  with_target([&](auto target) {
    using T = decltype(target);
    simt::launch(add_kernel<T>, vectors_grid<T>(count), T::kThreads, 0, stream_of(stream), y, a, b, count);
  });
}

}  // namespace pyalexnet
