// Divergence, warp instructions, memory instructions, atomics.
#include "framework.cuh"

namespace {

__global__ void add_kernel(float* y, const float* a, const float* b, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a[i] + b[i];
}
void vector_add() {
  const int n = 1000;
  Buffer<float> y(n), a(filled<float>(n, [](auto i) { return i; })), b(filled<float>(n, [](auto i) { return 2 * i; }));
  add_kernel<<<4, 256>>>(y.p, a.p, b.p, n);
  synchronize();
  const auto out = y.get();
  for (int i = 0; i < n; ++i) EXPECT(out[i] == 3.0f * i);
}
const Add vector_adds("vector_add", vector_add);

__global__ void shuffle_kernel(int* out) {
  const int lane = threadIdx.x;
  int sum = lane;
  for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
  int scan = lane;
  for (int by = 1; by < 32; by *= 2) {
    const int other = __shfl_up_sync(~0u, scan, by);
    if (lane >= by) scan += other;
  }
  out[lane] = sum;
  out[32 + lane] = scan;
  out[64 + lane] = __shfl_sync(~0u, lane, (lane + 5) % 8, 8);
  out[96 + lane] = __shfl_down_sync(~0u, lane, 3);
  out[128 + lane] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
  out[160 + lane] = __any_sync(~0u, lane == 7) + 2 * __all_sync(~0u, lane < 32) + 4 * __all_sync(~0u, lane < 31);
}
void shuffles() {
  Buffer<int> out(192);
  shuffle_kernel<<<1, 32>>>(out.p);
  synchronize();
  const auto v = out.get();
  for (int i = 0; i < 32; ++i) {
    EXPECT(v[i] == 496);
    EXPECT(v[32 + i] == i * (i + 1) / 2);
    EXPECT(v[64 + i] == i / 8 * 8 + (i + 5) % 8);
    EXPECT(v[96 + i] == (i + 3 < 32 ? i + 3 : i));
    EXPECT(v[128 + i] == 0x49249249);
    EXPECT(v[160 + i] == 3);
  }
}
const Add all_shuffles("shuffles", shuffles);

// --- match, redux, elect ---

__global__ void exchange_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __match_any_sync(~0u, lane % 5);
  unsigned sum = 0, least = 0, leader = 0;
  asm volatile("redux.sync.add.u32 %0, %1, 0xffffffff;" : "=r"(sum) : "r"(lane));
  asm volatile("redux.sync.min.s32 %0, %1, 0xffffffff;" : "=r"(least) : "r"(lane - 7));
  if (lane >= 4) asm volatile("{.reg .pred p; elect.sync _|p, 0xfffffff0; selp.u32 %0, 1, 0, p;}" : "=r"(leader));
  out[32 + lane] = sum;
  out[64 + lane] = least;
  out[96 + lane] = leader;
}
const Add exchanges("sm90_exchanges", [] {
  Buffer<unsigned> out(128);
  exchange_kernel<<<1, 32>>>(out.p);
  synchronize();
  const auto v = out.get();
  for (unsigned lane = 0; lane < 32; ++lane) {
    unsigned same = 0;
    for (unsigned i = lane % 5; i < 32; i += 5) same |= 1u << i;
    EXPECT(v[lane] == same);
    EXPECT(v[32 + lane] == 496 && v[64 + lane] == static_cast<unsigned>(-7));
    EXPECT(v[96 + lane] == (lane == 4));
  }
});

__device__ int collatz(int n) {
  int steps = 0;
  while (n != 1) {
    n = n % 2 ? 3 * n + 1 : n / 2;
    ++steps;
  }
  return steps;
}
__global__ void diverge_kernel(int* out) {
  __shared__ int together[64];
  const int t = threadIdx.x;
  int value;
  if (t % 4 == 0)
    value = collatz(t + 1);
  else if (t % 4 == 1) {
    value = 0;
    for (int i = 0; i < t; ++i) {
      if (i % 5 == 3) continue;
      if (i == 40) break;
      value += i;
    }
  } else {
    switch (t % 7) {
      case 0:
        value = 100;
        break;
      case 1:
        value = 200;  // falls through
      case 2:
        value = 300;
        break;
      default:
        value = -t;
    }
  }
  together[t] = value;
  __syncthreads();  // all lanes have reconverged
  out[t] = together[t] + __popc(__ballot_sync(~0u, 1));
  if (t < 5) return;  // exited threads do not count at a barrier
  __syncthreads();
  out[64 + t] = together[63 - t];
}
int diverge_expected(int t) {
  if (t % 4 == 0) {
    int n = t + 1, steps = 0;
    for (; n != 1; ++steps) n = n % 2 ? 3 * n + 1 : n / 2;
    return steps;
  }
  if (t % 4 == 1) {
    int v = 0;
    for (int i = 0; i < t; ++i) {
      if (i % 5 == 3) continue;
      if (i == 40) break;
      v += i;
    }
    return v;
  }
  return t % 7 == 0 ? 100 : t % 7 <= 2 ? 300 : -t;
}
void divergence() {
  Buffer<int> out(128);
  diverge_kernel<<<1, 64>>>(out.p);
  synchronize();
  const auto v = out.get();
  for (int t = 0; t < 64; ++t) {
    EXPECT(v[t] == diverge_expected(t) + 32);
    if (t >= 5) EXPECT(v[64 + t] == diverge_expected(63 - t));
  }
}
const Add all_divergence("divergence", divergence);

__global__ void atomic_kernel(int* counters, float* sum, unsigned long long* wide, int* order) {
  __shared__ int local;
  if (threadIdx.x == 0) local = 0;
  __syncthreads();
  atomicAdd(&local, 1);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&counters[0], local);
  atomicMax(&counters[1], static_cast<int>(threadIdx.x + blockIdx.x));
  atomicMin(&counters[2], -static_cast<int>(threadIdx.x));
  atomicAdd(sum, 0.5f);
  atomicAdd(wide, 1ull << 33);
  order[atomicAdd(&counters[3], 1)] = 1;
  int old = counters[4] * 0, assumed;
  do {
    assumed = old;
    old = atomicCAS(&counters[5], assumed, assumed + 2);
  } while (old != assumed);
}
void atomics() {
  Buffer<int> counters(std::vector<int>(6, 0)), order(std::vector<int>(4 * 96, 0));
  Buffer<float> sum(std::vector<float>{0.0f});
  Buffer<unsigned long long> wide(std::vector<unsigned long long>{0});
  atomic_kernel<<<4, 96>>>(counters.p, sum.p, wide.p, order.p);
  synchronize();
  const auto v = counters.get();
  EXPECT(v[0] == 384 && v[1] == 98 && v[2] == -95 && v[3] == 384 && v[5] == 768);
  EXPECT(sum.get()[0] == 192.0f && wide.get()[0] == 384ull << 33);
  for (int x : order.get()) EXPECT(x == 1);
}
const Add all_atomics("atomics", atomics);

__global__ void more_atomics_kernel(unsigned* out) {
  atomicAnd(&out[0], ~(1u << threadIdx.x));
  atomicOr(&out[1], 1u << threadIdx.x);
  atomicXor(&out[2], threadIdx.x);
  atomicInc(&out[3], 9);
  atomicDec(&out[4], 9);
  atomicMin(&out[5], threadIdx.x + 3);
  if (threadIdx.x == 0) out[7] = atomicExch(&out[6], 5);
}
const Add more_atomics("more_atomics", [] {
  Buffer<unsigned> out(std::vector<unsigned>{~0u, 0, 0, 0, 0, 100, 8, 0});
  more_atomics_kernel<<<1, 32>>>(out.p);
  synchronize();
  // 32 increments modulo 10; 32 decrements modulo 10
  EXPECT((out.get() == std::vector<unsigned>{0, ~0u, 0, 2, 8, 3, 5, 8}));
});

// --- loads and stores of every width, through shared and local memory ---

template <class T>
__global__ void move_kernel(T* y, const T* x) {
  __shared__ T s[32];
  T mine[4];
  const unsigned t = threadIdx.x;
  s[t] = x[t];
  __syncwarp();
  for (unsigned i = 0; i < 4; ++i) mine[(i + t) % 4] = s[(t + i) % 32];
  y[t] = mine[(t + 1) % 4];
}
template <class T>
void move() {
  const auto bytes = filled<unsigned char>(32 * sizeof(T), [](auto i) { return 7 * i + 1; });
  Buffer<unsigned char> x(bytes), y(32 * sizeof(T));
  move_kernel<T><<<1, 32>>>(reinterpret_cast<T*>(y.p), reinterpret_cast<const T*>(x.p));
  synchronize();
  const auto v = y.get();
  for (std::size_t i = 0; i < v.size(); ++i) EXPECT(v[i] == bytes[(i + sizeof(T)) % v.size()]);
}
const Add loads("loads_and_stores", [] {
  move<char>(), move<short>(), move<int>(), move<long long>(), move<char2>(), move<char4>(), move<short2>(), move<short4>();
  move<float2>(), move<float4>(), move<longlong2>();
});

__global__ void extend_kernel(int* out, const signed char* bytes, const short* halves) {
  out[0] = bytes[0];
  out[1] = static_cast<const unsigned char*>(static_cast<const void*>(bytes))[0];
  out[2] = halves[0];
  out[3] = static_cast<const unsigned short*>(static_cast<const void*>(halves))[0];
}
const Add extensions("extensions", [] {
  Buffer<int> out(4);
  Buffer<signed char> bytes(std::vector<signed char>{-3});
  Buffer<short> halves(std::vector<short>{-300});
  extend_kernel<<<1, 1>>>(out.p, bytes.p, halves.p);
  synchronize();
  EXPECT((out.get() == std::vector<int>{-3, 253, -300, 65236}));
});

__constant__ float table[4] = {1.0f, 2.0f, 4.0f, 8.0f};
__device__ int counter = 5;
__global__ void variable_kernel(float* y) {
  float mine[8];
  for (int i = 0; i < 8; ++i) mine[(i * 3 + threadIdx.x) % 8] = table[i % 4] + i;
  y[threadIdx.x] = mine[threadIdx.x % 8] + counter;
}
const Add variables("variables", [] {
  Buffer<float> y(32);
  variable_kernel<<<1, 32>>>(y.p);
  synchronize();
  const auto v = y.get();
  for (int t = 0; t < 32; ++t)
    for (int i = 0; i < 8; ++i)
      if ((i * 3 + t) % 8 == t % 8) EXPECT(v[t] == (1 << i % 4) + i + 5);
  const int other = 40;
  int read;
  CHECK(cudaMemcpyToSymbol(counter, &other, sizeof other));
  CHECK(cudaMemcpyFromSymbol(&read, counter, sizeof read));
  EXPECT(read == 40);
});

}  // namespace
