// Sum of two arrays, for a gradient that has two parts.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

// Computes  y = a + b
// Layout    y, a, b: count elements in any order; y may be a or b
// Mapping   a thread processes Target::kVecsPerThread vectors, adjacent threads adjacent ones; the array's last vector may be partial
// Cost      1 FLOP, 12 bytes an element: bound by memory
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads) add_kernel(T* y, const T* a, const T* b, std::int64_t count) {
  map_arrays<Target>(count, [](auto u, auto v) { return u + v; }, y, a, b);
}

}  // namespace

template <class T>
void add(T* y, const T* a, const T* b, std::int64_t count, StreamHandle stream) {
  const simt::Range range(__func__);
  if (count == 0) return;
  with_target([&](auto target) {
    using Target = decltype(target);
    simt::launch(add_kernel<Target, T>, vectors_grid<Target>(count), Target::kThreads, 0, stream, y, a, b, count);
  });
}

template void add(float*, const float*, const float*, std::int64_t, StreamHandle);

}  // namespace pyalexnet
