// Local response normalisation across channels.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// Adjacent vectors that a thread takes along from channel to channel: on a CPU half a memory page.
template <class Target>
struct LrnBlock {
  static constexpr int kVecs = Target::kOnGpu ? 1 : 512 / Target::kVec;
};

/// What the kernels need of the shape: channels of a group, and columns, the floats between one channel and the next.
struct LrnWalk {
  std::int64_t columns;
  int channels, size;
  float k, alpha, beta;
};

/// s^-beta and 1/s.
template <int W>
struct Powers {
  simt::Vec<W> power, inverse;
};

template <bool kThreeQuarters, int W>
__device__ __forceinline__ Powers<W> powers(simt::Vec<W> s, float beta) {
  if constexpr (kThreeQuarters) {
    simt::Vec<W> inverse;
    const simt::Vec<W> power = inverse_three_quarters(s, inverse);
    return {power, inverse};
  } else {
    return {map(s, [beta](float f) { return powf(f, -beta); }), simt::Vec<W>(1.0f) / s};
  }
}

/// The last few values of each of the running thread's columns, in shared memory. Neighbouring threads' are adjacent.
template <class Target>
class Ring {
 public:
  static constexpr int W = Target::kVec;
  /// Takes the block's shared memory from `base` on, which it moves on behind itself, and fills the slots with zeros.
  __device__ __forceinline__ Ring(float*& base, int slots)
      : slots_(slots), step_(static_cast<int>(blockDim.x) * W), own_(base + threadIdx.x * W) {
    base += slots * LrnBlock<Target>::kVecs * step_;
    for (int i = 0; i < slots * LrnBlock<Target>::kVecs; ++i) simt::store<W>(own_ + i * step_, simt::Vec<W>(0.0f));
  }
  /// Where the values of a channel >= 0 are kept; the next column's are step() floats further on.
  __device__ __forceinline__ float* of_channel(int channel) const { return of_slot(channel % slots_); }
  __device__ __forceinline__ float* of_slot(int slot) const { return own_ + slot * LrnBlock<Target>::kVecs * step_; }
  __device__ __forceinline__ int step() const { return step_; }

 private:
  int slots_, step_;
  float* own_;
};

/// Adds up f(value) over the first `size` slots, `at` floats after the thread's first.
template <class Target, class F>
__device__ __forceinline__ simt::Vec<Target::kVec> sum_of_slots(const Ring<Target>& ring, int size, int at, F f) {
  constexpr int W = Target::kVec;
  simt::Vec<W> sum(0.0f);
  for (int slot = 0; slot < size; ++slot) sum = f(simt::load<W>(ring.of_slot(slot) + at), sum);
  return sum;
}

/// s = k + alpha (sum of the ring's squares).
template <class Target>
__device__ __forceinline__ simt::Vec<Target::kVec> scale_of(const Ring<Target>& xs, int size, int at, const LrnWalk& walk) {
  const auto squares = sum_of_slots(xs, size, at, [](auto x, auto sum) { return fma(x, x, sum); });
  return fma(walk.alpha, squares, simt::Vec<Target::kVec>(walk.k));
}

/// Calls f(at, column) for the columns that the running thread walks along: `at` is how far into a ring's slot each is.
template <class Target, class F>
__device__ __forceinline__ void for_own_columns(std::int64_t columns, F f) {
  const int step = static_cast<int>(blockDim.x) * Target::kVec;
  const std::int64_t first = std::int64_t{blockIdx.x} * LrnBlock<Target>::kVecs * step + threadIdx.x * Target::kVec;
  for (int at = 0; at < LrnBlock<Target>::kVecs * step && first + at < columns; at += step) f(at, first + at);
}

// Computes  y_i = x_i s_i^-beta, s_i = k + alpha sum of x_j^2 over the channels j from i - size/2 to i + size/2 (paper, 3.3) that are
//           in i's group
// Layout    x, y (C, columns), columns = H W N
// Mapping   blockIdx.y is the group; a thread walks LrnBlock<Target>::kVecs adjacent vectors of columns through its channels, keeping the
// window
//           in shared memory. kSize is the size where it is known to the compiler, else 0
// Cost      2 size + 30 FLOP, 8 bytes an element: bound by memory
template <class Target, class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(Target::kThreads) lrn_forward_kernel(T* y, const T* x, LrnWalk walk) {
  constexpr int W = Target::kVec;
  const int size = kSize > 0 ? kSize : walk.size, half = size / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * walk.channels * walk.columns;
  float* shared = simt::shared_memory<float>();
  const Ring<Target> xs(shared, size);
  for (int ahead = 0; ahead < walk.channels + half; ++ahead) {
    const int i = ahead - half;  // its window ends at `ahead`
    float *const x_ahead = xs.of_channel(ahead), *const x_i = xs.of_channel(i < 0 ? 0 : i);
    const T* from = x + group + ahead * walk.columns;
    T* to = y + group + i * walk.columns;
    for_own_columns<Target>(walk.columns, [=](int at, std::int64_t column) {
      simt::store<W>(x_ahead + at, ahead < walk.channels ? simt::load<W>(from + column) : simt::Vec<W>(0.0f));
      if (i < 0) return;
      const auto s = powers<kThreeQuarters>(scale_of(xs, size, at, walk), walk.beta);
      simt::store<W>(to + column, simt::load<W>(x_i + at) * s.power);
    });
  }
}

// Computes  dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum of dy_j x_j s_j^(-beta - 1) over the window around i
// Layout    x, dx, dy (C, columns), columns = H W N
// Mapping   as forward. When the walk reads channel `ahead`, s is complete for j, size/2 before it, and the sum over j for i, as much
//           before j
// Cost      3 size + 35 FLOP, 12 bytes an element: bound by memory; s is cheaper to compute again than to store and load
template <class Target, class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(Target::kThreads) lrn_backward_kernel(T* dx, const T* dy, const T* x, LrnWalk walk) {
  constexpr int W = Target::kVec;
  const int size = kSize > 0 ? kSize : walk.size, half = size / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * walk.channels * walk.columns;
  const float factor = -2.0f * walk.alpha * walk.beta;
  float* shared = simt::shared_memory<float>();
  const Ring<Target> xs(shared, size), terms(shared, size), firsts(shared, half + 1);
  for (int ahead = 0; ahead < walk.channels + 2 * half; ++ahead) {
    const int j = ahead - half, i = j - half;
    const int j_kept = j < 0 ? 0 : j, i_kept = i < 0 ? 0 : i;
    float *const x_ahead = xs.of_channel(ahead), *const x_j = xs.of_channel(j_kept), *const x_i = xs.of_channel(i_kept);
    float *const first_j = firsts.of_channel(j_kept), *const first_i = firsts.of_channel(i_kept), *const term_j = terms.of_channel(j_kept);
    const T *x_from = x + group + ahead * walk.columns, *dy_from = dy + group + j * walk.columns;
    T* to = dx + group + i * walk.columns;
    for_own_columns<Target>(walk.columns, [=](int at, std::int64_t column) {
      simt::store<W>(x_ahead + at, ahead < walk.channels ? simt::load<W>(x_from + column) : simt::Vec<W>(0.0f));
      if (j < 0) return;
      simt::Vec<W> term(0.0f);
      if (j < walk.channels) {
        const auto s = powers<kThreeQuarters>(scale_of(xs, size, at, walk), walk.beta);
        const simt::Vec<W> first = simt::load<W>(dy_from + column) * s.power;
        term = first * simt::load<W>(x_j + at) * s.inverse;
        simt::store<W>(first_j + at, first);
      }
      simt::store<W>(term_j + at, term);
      if (i < 0) return;
      const auto sum = sum_of_slots(terms, size, at, [](auto t, auto before) { return before + t; });
      simt::store<W>(to + column, fma(factor * simt::load<W>(x_i + at), sum, simt::load<W>(first_i + at)));
    });
  }
}

/// Launches a kernel with as many threads a block as its rings leave room for.
template <class Target, class K, class... A>
void launch_walk(K kernel, int slots, int groups, const LrnWalk& walk, StreamHandle stream, A... arrays) {
  constexpr std::size_t kRoom = 48 * 1024;  // what every GPU grants without being asked
  const std::size_t per_thread = sizeof(float) * Target::kVec * LrnBlock<Target>::kVecs * static_cast<std::size_t>(slots);
  unsigned threads = Target::kThreads;
  while (threads > 1 && threads * per_thread > kRoom) threads /= 2;
  if (threads * per_thread > kRoom && Target::kThreads > 1)
    throw std::invalid_argument("size is " + std::to_string(walk.size) + "; its window does not fit into a GPU's shared memory");
  const auto columns_per_block = std::int64_t{threads} * Target::kVec * LrnBlock<Target>::kVecs;
  const dim3 grid(static_cast<unsigned>(simt::ceil_div(walk.columns, columns_per_block)), static_cast<unsigned>(groups));
  simt::launch(kernel, grid, threads, threads * per_thread, stream, arrays..., walk);
}

/// Checks the shape and works out the walk: a window wider than twice the group covers no more than one that is.
LrnWalk walk_of(const LrnShape& shape) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  if (shape.size < 1 || shape.size % 2 == 0) fail("size is " + std::to_string(shape.size) + "; it must be odd");
  if (shape.groups < 1 || shape.C % shape.groups != 0)
    fail("groups is " + std::to_string(shape.groups) + "; it must divide the channels, " + std::to_string(shape.C));
  if (!(shape.k > 0.0f)) fail("k is " + std::to_string(shape.k) + "; it must be above 0");
  if (!(shape.alpha >= 0.0f)) fail("alpha is " + std::to_string(shape.alpha) + "; it must be at least 0");
  if (!(shape.beta >= 0.0f)) fail("beta is " + std::to_string(shape.beta) + "; it must be at least 0");
  const int channels = shape.C / shape.groups;
  const int size = shape.size < 2 * channels - 1 ? shape.size : 2 * channels - 1;
  return {shape.columns, channels, size, shape.k, shape.alpha, shape.beta};
}

/// Calls f with the target, the size if it is the paper's (else 0), and whether beta is the paper's.
template <class F>
void with_case(const LrnWalk& walk, F f) {
  constexpr int kPaper = 5;
  using Size = std::integral_constant<int, kPaper>;
  using AnySize = std::integral_constant<int, 0>;
  with_target([&](auto target) {
    const bool three_quarters = walk.beta == 0.75f;
    if (walk.size == kPaper && three_quarters) return f(target, Size{}, std::true_type{});
    if (three_quarters) return f(target, AnySize{}, std::true_type{});
    f(target, AnySize{}, std::false_type{});
  });
}

}  // namespace

template <class T>
void lrn_forward(T* y, const T* x, const LrnShape& shape, StreamHandle stream) {
  const simt::Range range(__func__);
  const LrnWalk walk = walk_of(shape);
  with_case(walk, [&](auto target, auto size, auto three_quarters) {
    using Target = decltype(target);
    launch_walk<Target>(lrn_forward_kernel<Target, T, size.value, three_quarters.value>, walk.size, shape.groups, walk, stream, y, x);
  });
}

template <class T>
void lrn_backward(T* dx, const T* dy, const T* x, const LrnShape& shape, StreamHandle stream) {
  const simt::Range range(__func__);
  const LrnWalk walk = walk_of(shape);
  with_case(walk, [&](auto target, auto size, auto three_quarters) {
    using Target = decltype(target);
    const int slots = 2 * walk.size + walk.size / 2 + 1;
    launch_walk<Target>(lrn_backward_kernel<Target, T, size.value, three_quarters.value>, slots, shape.groups, walk, stream, dx, dy, x);
  });
}

template void lrn_forward(float*, const float*, const LrnShape&, StreamHandle);
template void lrn_backward(float*, const float*, const float*, const LrnShape&, StreamHandle);
#if defined(PYALEXNET_TEST_BUILD)
template void lrn_forward(simt::Bf16*, const simt::Bf16*, const LrnShape&, StreamHandle);
#endif

}  // namespace pyalexnet
