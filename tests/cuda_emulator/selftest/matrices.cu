// mma, ldmatrix, stmatrix and movmatrix on small integers, whose sums are exact.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "framework.cuh"

namespace {

/// C (16 x 8) = A (16 x 16) B (16 x 8) in half precision. A is loaded by ldmatrix, B (stored k-major) by ldmatrix.trans.
template <class H>
__global__ void half_kernel(float* c, const H* a, const H* b) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  __shared__ __align__(16) H sa[16][24], sb[16][24];  // rows of 48 bytes: the rows of a matrix are in different banks
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) sb[i / 8][i % 8] = b[i];
  __syncwarp();
  unsigned ra[4], rb[2];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3])
               : "r"(shared_address(&sa[lane % 16][lane / 16 * 8])));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(rb[0]), "=r"(rb[1])
               : "r"(shared_address(&sb[lane % 16][0])));
  float d[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  if constexpr (sizeof(H) == 2 && std::is_same<H, __half>::value)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i] - (i + 1);
#endif
}
template <class H>
void halves() {
  const auto na = filled<float>(256, [](auto i) { return static_cast<int>(i * 7 % 11) - 5; }),
             nb = filled<float>(128, [](auto i) { return static_cast<int>(i * 5 % 13) - 6; });
  Buffer<H> a(filled<H>(256, [&](auto i) { return H(na[i]); })), b(filled<H>(128, [&](auto i) { return H(nb[i]); }));
  Buffer<float> c(128);
  half_kernel<H><<<1, 32>>>(c.p, a.p, b.p);
  synchronize();
  const auto v = c.get();
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 8; ++n) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += na[m * 16 + k] * nb[k * 8 + n];
      EXPECT(v[m * 8 + n] == sum);
    }
}

template <int kDepth>
__global__ void tf32_kernel(float* c, const float* a, const float* b) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto round = [](float x) {
    unsigned r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
  };
  float d[4] = {};
  if constexpr (kDepth == 8) {
    const unsigned ra[4] = {round(a[g * 8 + t]), round(a[(g + 8) * 8 + t]), round(a[g * 8 + t + 4]), round(a[(g + 8) * 8 + t + 4])};
    const unsigned rb[2] = {round(b[t * 8 + g]), round(b[(t + 4) * 8 + g])};
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  } else {
    const unsigned ra[2] = {round(a[g * 4 + t]), round(a[(g + 8) * 4 + t])}, rb[1] = {round(b[t * 8 + g])};
    asm volatile("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(ra[0]), "r"(ra[1]), "r"(rb[0]));
  }
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
#endif
}
template <int kDepth>
void tf32() {
  const auto na = filled<float>(16 * kDepth, [](auto i) { return static_cast<int>(i * 7 % 1001) - 500; });
  const auto nb = filled<float>(8 * kDepth, [](auto i) { return static_cast<int>(i * 13 % 29) - 14; });
  Buffer<float> a(na), b(nb), c(128);
  tf32_kernel<kDepth><<<1, 32>>>(c.p, a.p, b.p);
  synchronize();
  const auto v = c.get();
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 8; ++n) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += na[m * kDepth + k] * nb[k * 8 + n];
      EXPECT(v[m * 8 + n] == sum);
    }
}

const Add f16("sm80_mma_f16", halves<__half>);
const Add bf16("sm80_mma_bf16", halves<__nv_bfloat16>);
const Add tf32_k8("sm80_mma_tf32_k8", tf32<8>);
const Add tf32_k4("sm80_mma_tf32_k4", tf32<4>);

/// The sum over k of a(m, k) b(k, n).
template <class A, class B>
int product(int depth, int m, int n, A a, B b) {
  int sum = 0;
  for (int k = 0; k < depth; ++k) sum += a(m, k) * b(k, n);
  return sum;
}

/// A (16 x 32) and B (32 x 8) of signed bytes; B is column-major.
__global__ void bytes_kernel(int* c, const unsigned* a, const unsigned* b) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const unsigned ra[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]};
  const unsigned rb[2] = {b[g * 8 + t], b[g * 8 + t + 4]};
  int d[4] = {1, 1, 1, 1};
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}
const Add s8("sm80_mma_s8", [] {
  const auto a = [](int m, int k) { return (m * 32 + k) * 7 % 255 - 127; };
  const auto b = [](int k, int n) { return (n * 32 + k) * 5 % 255 - 127; };
  Buffer<signed char> da(filled<signed char>(512, [&](auto i) { return a(static_cast<int>(i / 32), static_cast<int>(i % 32)); }));
  Buffer<signed char> db(filled<signed char>(256, [&](auto i) { return b(static_cast<int>(i % 32), static_cast<int>(i / 32)); }));
  Buffer<int> c(128);
  bytes_kernel<<<1, 32>>>(c.p, reinterpret_cast<const unsigned*>(da.p), reinterpret_cast<const unsigned*>(db.p));
  synchronize();
  const auto v = c.get();
  for (int i = 0; i < 128; ++i) EXPECT(v[i] == product(32, i / 8, i % 8, a, b) + 1);
});

/// Half-precision accumulators, m16n8k8: A (16 x 8), B (8 x 8).
__global__ void half_sum_kernel(__half* c, const __half* a, const __half* b) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const auto pair = [](__half low, __half high) { return __half_as_ushort(low) | static_cast<unsigned>(__half_as_ushort(high)) << 16; };
  const unsigned ra[2] = {pair(a[g * 8 + 2 * t], a[g * 8 + 2 * t + 1]), pair(a[(g + 8) * 8 + 2 * t], a[(g + 8) * 8 + 2 * t + 1])};
  const unsigned rb = pair(b[2 * t * 8 + g], b[(2 * t + 1) * 8 + g]);
  unsigned d[2] = {0x3c003c00, 0x3c003c00};  // ones
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%0,%1};"
               : "+r"(d[0]), "+r"(d[1])
               : "r"(ra[0]), "r"(ra[1]), "r"(rb));
  for (int i = 0; i < 4; ++i)
    c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = __ushort_as_half(static_cast<unsigned short>(d[i / 2] >> (16 * (i % 2))));
}
const Add half_sums("mma_f16_accumulators", [] {
  const auto a = [](int m, int k) { return (m * 8 + k) * 7 % 11 - 5; };
  const auto b = [](int k, int n) { return (k * 8 + n) * 5 % 13 - 6; };
  Buffer<__half> da(filled<__half>(128, [&](auto i) { return __float2half(a(static_cast<int>(i / 8), static_cast<int>(i % 8))); }));
  Buffer<__half> db(filled<__half>(64, [&](auto i) { return __float2half(b(static_cast<int>(i / 8), static_cast<int>(i % 8))); }));
  Buffer<__half> c(128);
  half_sum_kernel<<<1, 32>>>(c.p, da.p, db.p);
  synchronize();
  const auto v = c.get();
  for (int i = 0; i < 128; ++i) EXPECT(__half2float(v[i]) == product(8, i / 8, i % 8, a, b) + 1);
});

/// Loads a matrix, transposes it within the warp, and stores it.
__global__ void transpose_kernel(unsigned short* y, const unsigned short* x) {
  __shared__ __align__(16) unsigned short s[8][8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 64; i += 32) s[i / 8][i % 8] = x[i];
  __syncwarp();
  unsigned r = 0;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r) : "r"(shared_address(&s[lane % 8][0])));
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(r));
  __syncwarp();
  asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(shared_address(&s[lane % 8][0])), "r"(r) : "memory");
  __syncwarp();
  for (int i = lane; i < 64; i += 32) y[i] = s[i / 8][i % 8];
}
const Add transposes("sm90_matrices", [] {
  Buffer<unsigned short> y(64), x(filled<unsigned short>(64, [](auto i) { return 1000 + i; }));
  transpose_kernel<<<1, 32>>>(y.p, x.p);
  synchronize();
  const auto v = y.get();
  for (int i = 0; i < 64; ++i) EXPECT(v[i] == 1000 + i % 8 * 8 + i / 8);
});

}  // namespace
