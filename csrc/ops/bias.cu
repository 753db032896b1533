// Gradient of a layer's biases.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// Longest chain of additions into one float: in a single chain, conv1's 387,200 gradients would lose half their digits.
constexpr int kChain = 64;

/// Sum of the row's vectors first, first + step, ...: sums of short chains, which are then added.
template <int W, class T>
__device__ __forceinline__ simt::Vec<W> sum_of_vectors(const T* row, std::int64_t first, std::int64_t step, std::int64_t end) {
  constexpr int kParallel = 4;  // independent chains, to hide the latency of additions
  simt::Vec<W> total(0.0f);
  std::int64_t i = first;
  while (i < end) {
    simt::Vec<W> chains[kParallel];
    SIMT_UNROLL
    for (int k = 0; k < kParallel; ++k) chains[k] = simt::Vec<W>(0.0f);
    int length = 0;
    for (; length < kChain && i + (kParallel - 1) * step < end; ++length) {
      SIMT_UNROLL
      for (int k = 0; k < kParallel; ++k) chains[k] = chains[k] + simt::load<W>(row + i + k * step);
      i += kParallel * step;
    }
    if (length < kChain)
      for (; i < end; i += step) chains[0] = chains[0] + simt::load<W>(row + i);
    total = total + ((chains[0] + chains[1]) + (chains[2] + chains[3]));
  }
  return total;
}

// Computes  db[k] = sum of dy[k, ...], in an order that depends only on the sizes and the target
// Layout    db (K), dy (K, M): M = P Q N, a multiple of the vector
// Mapping   a block has the filters blockIdx.x, blockIdx.x + gridDim.x, ...; its threads take vectors in turn, then reduce in a tree
// Cost      1 FLOP, 4 bytes a term: bound by memory
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads) bias_backward_kernel(float* db, const T* dy, int K, std::int64_t M) {
  constexpr int W = Target::kVec;
  float* partial = simt::shared_memory<float>();  // one per thread
  const int t = static_cast<int>(threadIdx.x);
  for (int k = static_cast<int>(blockIdx.x); k < K; k += static_cast<int>(gridDim.x)) {
    const simt::Vec<W> v = sum_of_vectors<W>(dy + k * M, std::int64_t{t} * W, Target::kThreads * W, M);
    float sum = 0.0f;
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) sum += v[i];
    partial[t] = sum;
    for (int half = Target::kThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (t < half) partial[t] += partial[t + half];
    }
    if (t == 0) db[k] = partial[0];
    __syncthreads();  // before the next filter's partial sums
  }
}

}  // namespace

template <class T>
void bias_backward(float* db, const T* dy, int K, std::int64_t M, StreamHandle stream) {
  const simt::Range range(__func__);
  constexpr int kMaxBlocks = 1024;
  if (K == 0) return;
  with_target([&](auto target) {
    using Target = decltype(target);
    simt::launch(bias_backward_kernel<Target, T>, K < kMaxBlocks ? K : kMaxBlocks, Target::kThreads, Target::kThreads * sizeof(float),
                 stream, db, dy, K, M);
  });
}

template void bias_backward(float*, const float*, int, std::int64_t, StreamHandle);

}  // namespace pyalexnet
