// Counters, ranges and dumps of correct kernels. options.py runs these tests and reads their output.
#include "framework.cuh"
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define NVTX(call) call
#else
#define NVTX(call)
#endif

namespace {

// --- counters: kernels of one warp ---

template <class T, int kStride>
__global__ void global_kernel(T* y, const T* x) {
  y[threadIdx.x] = x[kStride * threadIdx.x];
}
/// Every kPeriod-th thread reads the same address.
template <int kPeriod>
__global__ void repeated_kernel(float* y, const float* x) {
  y[threadIdx.x] = x[threadIdx.x % kPeriod];
}
template <class T, int kStride>
__global__ void shared_kernel(T* y, const T* x) {
  __shared__ T s[32 * kStride];
  for (int i = 0; i < kStride; ++i) s[32 * i + threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = s[kStride * threadIdx.x];
}
__global__ void divergent_kernel(float* y) {
  if (threadIdx.x < 8) y[threadIdx.x] = 1.0f;
}

template <class T>
void launch(void (*kernel)(T*, const T*)) {
  Buffer<T> y(32), x(std::vector<T>(1024));
  kernel<<<1, 32>>>(y.p, x.p);
  synchronize();
}
const Add traffic("traffic", [] {
  launch(global_kernel<float, 1>), launch(global_kernel<float, 8>), launch(global_kernel<short, 1>), launch(global_kernel<float4, 1>);
  launch(repeated_kernel<1>), launch(repeated_kernel<16>);
  launch(shared_kernel<float, 1>), launch(shared_kernel<float, 2>), launch(shared_kernel<float, 32>);
  launch(shared_kernel<double, 1>), launch(shared_kernel<float4, 1>), launch(shared_kernel<float4, 2>);
  Buffer<float> y(32);
  divergent_kernel<<<1, 32>>>(y.p);
  synchronize();
});

// --- ranges ---

const Add ranges("ranges", [] {
  launch(global_kernel<float, 1>);
  NVTX(nvtxRangePushA("outer"));
  launch(global_kernel<float, 1>);
  NVTX(nvtxRangePushA("inner"));
  launch(global_kernel<float, 1>);
  NVTX(nvtxRangePop());
  launch(global_kernel<float, 1>);
  NVTX(nvtxRangePop());
});
const Add wrong("bad_in_a_range", "out of bounds", [] {
  NVTX(nvtxRangePushA("outer"));
  launch(global_kernel<float, 64>);
});

// --- dumps ---

__global__ void scale_kernel(float* y, const float* x, float by) { y[threadIdx.x] = by * x[threadIdx.x]; }
const Add dump("dump", [] {
  Buffer<float> y(32), x(filled<float>(32, [](auto i) { return i; }));
  scale_kernel<<<1, 32>>>(y.p, x.p, 1.0f);
  scale_kernel<<<1, 32, 1024>>>(y.p, x.p, 3.0f);
  synchronize();
});

}  // namespace
