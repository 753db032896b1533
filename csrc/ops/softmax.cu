// Softmax, cross-entropy loss, its gradient, and counts of correct predictions.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// The block's threads: threadIdx.x is one of kVecs vectors of images, threadIdx.y one of kShares shares of the classes.
template <class Target>
struct SoftmaxBlock {
  static constexpr int kVecs = Target::kOnGpu ? 2 : 1, kShares = Target::kOnGpu ? 128 : 1;
};

/// What one share of the classes stores in shared memory.
template <class Target>
using Values = float[SoftmaxBlock<Target>::kVecs][Target::kVec];

/// Reduces the shares' values with f, in a fixed order, and returns the result to every thread. Two calls in a row need different `values`:
/// a thread may be in the second while another reads the result of the first. A third may reuse the first one's, because of the second's
/// barriers.
template <class Target, class F>
__device__ __forceinline__ simt::Vec<Target::kVec> reduce_shares(Values<Target>* values, simt::Vec<Target::kVec> own, F f) {
  constexpr int W = Target::kVec;
  simt::store<W>(values[threadIdx.y][threadIdx.x], own);
  for (int half = SoftmaxBlock<Target>::kShares / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.y) < half) {
      float* to = values[threadIdx.y][threadIdx.x];
      simt::store<W>(to, f(simt::load<W>(to), simt::load<W>(values[threadIdx.y + half][threadIdx.x])));
    }
  }
  __syncthreads();
  return simt::load<W>(values[0][threadIdx.x]);
}

/// The arrays of softmax_kernel; results whose pointer is null are not written.
template <class T>
struct SoftmaxArrays {
  float* probabilities;
  T* dlogits;
  float* losses;
  std::int32_t* ranks;
  const T* logits;
  const std::int32_t* labels;
};

// Computes  p = softmax(logits); loss = -log p[label]; dlogits = scale (p - onehot(label)); rank = number of classes that beat the label:
//           greater, or equal and of smaller index. A label < 0 masks its image: loss and gradient 0, rank -1. A loss that is not finite,
//           as for a label >= K, has rank K
// Layout    logits, probabilities, dlogits (K, N); labels, losses, ranks (N)
// Mapping   a block has kVecs vectors of images; kShares threads share the classes of each and reduce maximum, sum and rank through shared
//           memory in a tree
// Cost      2 exp and 6 FLOP, 4 to 12 bytes a logit (later reads hit the caches): bound by latency
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads) softmax_kernel(SoftmaxArrays<T> a, int K, int N, float scale) {
  constexpr int W = Target::kVec, kShares = SoftmaxBlock<Target>::kShares;
  auto* values = simt::shared_memory<Values<Target>>();  // one per share, twice
  auto* others = values + kShares;
  const int share = static_cast<int>(threadIdx.y);
  const int n = (static_cast<int>(blockIdx.x) * SoftmaxBlock<Target>::kVecs + static_cast<int>(threadIdx.x)) * W;
  const bool inside = n < N;  // threads outside must still reach the barriers
  const int classes = inside ? K : 0;
  const T* logits = a.logits + n;
  simt::Vec<W> maximum(-INFINITY), own(0.0f), sum(0.0f), rank(0.0f);
  simt::IntVec<W> labels(-1);
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) {
    if (inside) labels.set(i, a.labels[n + i]);
    if (labels[i] >= 0) own.set(i, labels[i] < K ? simt::to_float(logits[std::int64_t{labels[i]} * N + i]) : NAN);
  }
  for (int k = share; k < classes; k += kShares) {
    const auto v = simt::load<W>(logits + std::int64_t{k} * N);
    maximum = select(v > maximum, v, maximum);
  }
  maximum = reduce_shares<Target>(values, maximum, [](auto x, auto y) { return select(y > x, y, x); });
  const auto exponential = [](simt::Vec<W> x) { return map(x, [](float f) { return expf(f); }); };
  const simt::Vec<W> zero(0.0f), one(1.0f);
  for (int k = share; k < classes; k += kShares) {
    const auto v = simt::load<W>(logits + std::int64_t{k} * N);
    sum = sum + exponential(v - maximum);
    rank = rank + select((v > own) | ((v == own) & (labels > simt::IntVec<W>(k))), one, zero);
  }
  const auto add = [](auto x, auto y) { return x + y; };
  sum = reduce_shares<Target>(others, sum, add);
  rank = reduce_shares<Target>(values, rank, add);
  if (!inside) return;
  const simt::Vec<W> reciprocal = one / sum;
  const auto masked = simt::IntVec<W>(0) > labels;
  for (int k = share; k < classes; k += kShares) {
    const std::int64_t at = std::int64_t{k} * N + n;
    const simt::Vec<W> p = exponential(simt::load<W>(a.logits + at) - maximum) * reciprocal;
    if (a.probabilities != nullptr) simt::store<W>(a.probabilities + at, p);
    if (a.dlogits == nullptr) continue;
    const simt::Vec<W> target = select(labels == simt::IntVec<W>(k), one, zero);
    simt::store<W>(a.dlogits + at, select(masked, zero, scale * (p - target)));
  }
  if (share != 0) return;
  SIMT_UNROLL
  for (int i = 0; i < W; ++i) {
    const float loss = logf(sum[i]) - (own[i] - maximum[i]);
    const bool finite = fabsf(loss) <= 3.402823466e38f;
    a.losses[n + i] = masked[i] ? 0.0f : loss;
    a.ranks[n + i] = masked[i] ? -1 : finite ? static_cast<int>(rank[i]) : K;
  }
}

// Computes  totals += [sum of losses, ranks below 1, ranks below k, unmasked images]
// Layout    losses, ranks (N); totals (4)
// Mapping   one block; its threads take images in turn and reduce in a tree
// Cost      4 FLOP, 8 bytes an image: bound by latency
template <class Target>
__global__ void __launch_bounds__(Target::kThreads)
    totals_kernel(double* totals, const float* losses, const std::int32_t* ranks, int N, int k) {
  auto* sums = simt::shared_memory<double[Target::kThreads]>();
  const int t = static_cast<int>(threadIdx.x);
  double sum[4] = {0.0, 0.0, 0.0, 0.0};
  for (int n = t; n < N; n += Target::kThreads) {
    const int rank = ranks[n];
    if (rank < 0) continue;
    sum[0] += losses[n];
    sum[1] += rank < 1 ? 1.0 : 0.0;
    sum[2] += rank < k ? 1.0 : 0.0;
    sum[3] += 1.0;
  }
  for (int i = 0; i < 4; ++i) sums[i][t] = sum[i];
  for (int half = Target::kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half)
      for (int i = 0; i < 4; ++i) sums[i][t] += sums[i][t + half];
  }
  if (t == 0)
    for (int i = 0; i < 4; ++i) totals[i] += sums[i][0];
}

}  // namespace

template <class T>
void softmax_cross_entropy(float* probabilities, T* dlogits, float* losses, std::int32_t* ranks, double* totals, const T* logits,
                           const std::int32_t* labels, int K, int N, int k, float scale, StreamHandle stream) {
  const simt::Range range(__func__);
  if (K < 1) throw std::invalid_argument("logits has " + std::to_string(K) + " classes; expected at least 1");
  if (k < 1 || k > K)
    throw std::invalid_argument("k is " + std::to_string(k) + "; expected 1 to " + std::to_string(K) + ", the number of classes");
  with_target([&](auto target) {
    using Target = decltype(target);
    using Block = SoftmaxBlock<Target>;
    static_assert(Block::kVecs * Block::kShares <= Target::kThreads, "softmax: the block has too few threads");
    static_assert((Block::kShares & (Block::kShares - 1)) == 0, "softmax: shares are reduced in a binary tree");
    const dim3 grid(static_cast<unsigned>(simt::ceil_div(N, Target::kVec * Block::kVecs)));
    const dim3 block(Block::kVecs, Block::kShares);
    const SoftmaxArrays<T> arrays{probabilities, dlogits, losses, ranks, logits, labels};
    simt::launch(softmax_kernel<Target, T>, grid, block, 2 * sizeof(Values<Target>) * Block::kShares, stream, arrays, K, N, scale);
    if (totals == nullptr) return;
    simt::launch(totals_kernel<Target>, 1, Target::kThreads, 4 * Target::kThreads * sizeof(double), stream, totals, losses, ranks, N, k);
  });
}

template void softmax_cross_entropy(float*, float*, float*, std::int32_t*, double*, const float*, const std::int32_t*, int, int, int, float,
                                    StreamHandle);

}  // namespace pyalexnet
