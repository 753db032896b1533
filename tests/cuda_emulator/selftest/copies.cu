// cp.async: the copied data, and reports of missing waits.
#include "framework.cuh"

namespace {

/// kWait: 1 correct, 0 no wait, 2 a wait for too few groups, 3 no barrier before the buffer is reused.
template <int kWait>
__global__ void copy_kernel(float* y, const float* x, int pieces) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  __shared__ __align__(16) float buffer[2][256];
  const int t = threadIdx.x;
  const auto start = [&](int piece) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&buffer[piece % 2][4 * t])), "l"(x + 256 * piece + 4 * t)
                 : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  start(0);
  for (int piece = 0; piece < pieces; ++piece) {
    if (piece + 1 < pieces) start(piece + 1);
    if (kWait == 1) {
      if (piece + 1 < pieces)
        asm volatile("cp.async.wait_group 1;" ::: "memory");
      else
        asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    if (kWait == 2) asm volatile("cp.async.wait_group 2;" ::: "memory");  // allows one pending group too many
    __syncthreads();
    for (int i = t; i < 256; i += 64) y[256 * piece + i] = buffer[piece % 2][255 - i];
    if (kWait != 3) __syncthreads();
  }
#endif
}
template <int kWait>
void copies() {
  const int pieces = 5;
  Buffer<float> x(filled<float>(256 * pieces, [](auto i) { return i; })), y(256 * pieces);
  copy_kernel<kWait><<<1, 64>>>(y.p, x.p, pieces);
  synchronize();
  const auto v = y.get();
  for (int i = 0; i < 256 * pieces; ++i) EXPECT(v[i] == i / 256 * 256 + 255 - i % 256);
}

/// A copy that reads fewer bytes than it writes fills the rest with zeros; one that reads none does not access the source.
__global__ void ragged_copy_kernel(float* y, const float* x) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  __shared__ __align__(16) float buffer[128];
  const int t = threadIdx.x, bytes = 4 * (t % 5);
  const float* from = bytes ? x + 4 * t : nullptr;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(&buffer[4 * t])), "l"(from), "r"(bytes) : "memory");
  asm volatile("cp.async.wait_all;" ::: "memory");
  for (int i = 0; i < 4; ++i) y[4 * t + i] = buffer[4 * t + i];
#endif
}
void ragged_copies() {
  Buffer<float> x(filled<float>(128, [](auto i) { return i + 1; })), y(128);
  ragged_copy_kernel<<<1, 32>>>(y.p, x.p);
  synchronize();
  const auto v = y.get();
  for (int i = 0; i < 128; ++i) EXPECT(v[i] == (i % 4 < i / 4 % 5 ? i + 1 : 0));
}

const Add correct("sm80_copies", copies<1>);
const Add ragged("sm80_ragged_copies", ragged_copies);
const Add no_wait("sm80_bad_copies_without_wait", "copy in flight", copies<0>);
const Add too_few("sm80_bad_copies_wait_too_few", "copy in flight", copies<2>);
const Add no_barrier("sm80_bad_copies_without_barrier", "copy in flight", copies<3>);

}  // namespace
