// Errors in kernels and launches, which the emulator must report.
#include "framework.cuh"

namespace {

// --- shared memory ---

__global__ void race_kernel(int* out) {
  __shared__ int s[64];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[63 - threadIdx.x];  // no barrier
}
__global__ void warp_race_kernel(int* out) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[31 - threadIdx.x];  // no __syncwarp
}
__global__ void shared_bounds_kernel(float* y, int at) {
  __shared__ float s[32];
  s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x + at];
}
__global__ void unwritten_kernel(float* y) {
  __shared__ float s[32];
  if (threadIdx.x < 31) s[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
template <class K>
void run(K kernel, int threads) {
  Buffer<int> y(64);
  kernel<<<1, threads>>>(y.p);
  synchronize();
}
const Add barrier("bad_missing_barrier", "race in shared memory|uninitialised shared memory", [] { run(race_kernel, 64); });
const Add syncwarp("bad_missing_syncwarp", "race in shared memory", [] { run(warp_race_kernel, 32); });
const Add shared_bounds("bad_shared_out_of_bounds", "out of bounds", [] {
  Buffer<float> y(32);
  shared_bounds_kernel<<<1, 32>>>(y.p, 1);
  synchronize();
});
const Add unwritten_shared("bad_uninitialised_shared", "uninitialised shared memory", [] {
  Buffer<float> y(32);
  unwritten_kernel<<<1, 32>>>(y.p);
  synchronize();
});

// --- global memory ---

__global__ void write_kernel(float* x, int n) { x[n + threadIdx.x] = 1.0f; }
__global__ void read_kernel(float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }
__global__ void vector_kernel(float* y, int at) { *reinterpret_cast<float4*>(y + at) = make_float4(1, 2, 3, 4); }
const Add bounds("bad_out_of_bounds", "out of bounds", [] {
  Buffer<float> x(100);
  write_kernel<<<1, 32>>>(x.p, 90);
  synchronize();
});
const Add freed("bad_use_after_free", "use after free", [] {
  Buffer<float> y(32);
  float* p;
  {
    Buffer<float> x(std::vector<float>(32));
    p = x.p;
  }
  read_kernel<<<1, 32>>>(y.p, p);
  synchronize();
});
const Add unwritten("bad_uninitialised", "uninitialised memory", [] {
  Buffer<float> y(32), x(32);
  read_kernel<<<1, 32>>>(y.p, x.p);
  synchronize();
});
const Add misaligned("bad_misaligned", "misaligned address", [] {
  Buffer<float> y(32);
  vector_kernel<<<1, 1>>>(y.p, 2);
  synchronize();
});

// --- blocks ---

__global__ void blocks_kernel(int* x) { x[threadIdx.x] = blockIdx.x; }
__global__ void blocks_read_kernel(int* y, int* x) {
  x[blockIdx.x * 32 + threadIdx.x] = 1;
  y[blockIdx.x * 32 + threadIdx.x] = x[(blockIdx.x + 1) % gridDim.x * 32 + threadIdx.x];
}
const Add blocks_write("bad_blocks_write", "race between blocks", [] {
  Buffer<int> x(32);
  blocks_kernel<<<2, 32>>>(x.p);
  synchronize();
});
const Add blocks_read("bad_blocks_read", "race between blocks", [] {
  Buffer<int> x(std::vector<int>(128)), y(128);
  blocks_read_kernel<<<4, 32>>>(y.p, x.p);
  synchronize();
});

// --- barriers ---

__global__ void divergent_barrier_kernel(int* y) {
  int v = threadIdx.x;
  if (v % 2)
    __syncthreads();
  else
    v = -1;
  y[threadIdx.x] = v + __shfl_xor_sync(~0u, v, 1);  // all lanes reconverge here
}
__global__ void lonely_barrier_kernel(int* y) {
  if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;" ::: "memory");
  y[threadIdx.x] = 1;
}
__global__ void absent_lane_kernel(int* y) {
  int v = threadIdx.x;
  if (v < 16) v = __shfl_xor_sync(0xffffu, v, 16);
  y[threadIdx.x] = v;
}
const Add divergent("bad_divergent_barrier", "barrier divergence", [] { run(divergent_barrier_kernel, 32); });
const Add lonely("bad_lonely_barrier", "barrier divergence", [] { run(lonely_barrier_kernel, 64); });
const Add absent("bad_absent_lane", "warp divergence", [] { run(absent_lane_kernel, 32); });

// --- hangs ---

__global__ void endless_kernel(int* y) {
  y[threadIdx.x] = 0;
  while (static_cast<volatile int*>(y)[threadIdx.x] == 0) {
  }
}
const Add endless("bad_endless", "hang", [] { run(endless_kernel, 32); });  // tester.py sets EMU_WATCHDOG

// --- launches ---

__global__ void __launch_bounds__(64) bounded_kernel(int*) {}
const Add limits("refused_launches", [] {
  Buffer<int> y(64);
  const auto refused = [&](auto kernel, dim3 grid, dim3 block, int shared, cudaError_t error) {
    kernel<<<grid, block, shared>>>(y.p);
    EXPECT_ERROR(cudaGetLastError(), error);
    EXPECT_ERROR(cudaGetLastError(), cudaSuccess);
  };
  refused(blocks_kernel, 1, 1025, 0, cudaErrorInvalidConfiguration);
  refused(blocks_kernel, 1, dim3(1, 1, 65), 0, cudaErrorInvalidConfiguration);
  refused(blocks_kernel, dim3(1, 65536), 1, 0, cudaErrorInvalidConfiguration);
  refused(blocks_kernel, 0, 1, 0, cudaErrorInvalidConfiguration);
  refused(blocks_kernel, 1, 1, 49 * 1024, cudaErrorInvalidValue);
  refused(bounded_kernel, 1, 65, 0, cudaErrorInvalidValue);
  EXPECT_ERROR(cudaFuncSetAttribute(blocks_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20), cudaErrorInvalidValue);
  EXPECT_ERROR(cudaGetLastError(), cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(bounded_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 50 * 1024));
  bounded_kernel<<<1, 64, 50 * 1024>>>(y.p);
  synchronize();
  CHECK(cudaSetDevice(1));
  cudaStream_t other;
  CHECK(cudaStreamCreate(&other));
  CHECK(cudaSetDevice(0));
  blocks_kernel<<<1, 1, 0, other>>>(y.p);
  EXPECT_ERROR(cudaGetLastError(), cudaErrorInvalidResourceHandle);
});

}  // namespace
