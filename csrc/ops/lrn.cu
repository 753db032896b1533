// Local response normalisation across channels.
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

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
    const simt::Vec<W> r = rsqrt(s), inverse = r * r;
    return {inverse * rsqrt(r), inverse};
  } else {
    return {map(s, [beta](float f) { return powf(f, -beta); }), simt::Vec<W>(1.0f) / s};
  }
}

/// The last few values of each of the running thread's columns, in shared memory. Slots are adjacent for neighbouring threads.
template <class T>
class Ring {
 public:
  static constexpr int W = T::kVec;
  /// Takes the block's shared memory from `base` on, which it moves on behind itself, and fills the slots with zeros.
  __device__ __forceinline__ Ring(float*& base, int slots)
      : slots_(slots), stride_(static_cast<int>(blockDim.x) * T::kLrnVecs * W), own_(base + threadIdx.x * W) {
    base += slots * stride_;
    for (int slot = 0; slot < slots; ++slot)
      for (int v = 0; v < T::kLrnVecs; ++v) simt::store<W>(at(slot, v), simt::Vec<W>(0.0f));
  }
  /// The slot of a channel >= 0.
  __device__ __forceinline__ int slot(int channel) const { return channel % slots_; }
  __device__ __forceinline__ float* at(int slot, int v) const { return own_ + slot * stride_ + v * static_cast<int>(blockDim.x) * W; }

 private:
  int slots_, stride_;
  float* own_;
};

/// k + alpha (sum of the squares of the whole ring).
template <int kSize, class T>
__device__ __forceinline__ simt::Vec<T::kVec> scale_of(const Ring<T>& ring, int v, const LrnWalk& walk) {
  constexpr int W = T::kVec;
  const int size = kSize > 0 ? kSize : walk.size;
  simt::Vec<W> sum(0.0f);
  for (int slot = 0; slot < size; ++slot) {
    const simt::Vec<W> x = simt::load<W>(ring.at(slot, v));
    sum = fma(x, x, sum);
  }
  return fma(walk.alpha, sum, simt::Vec<W>(walk.k));
}

/// Calls f(v, column) for the columns that the running thread walks along.
template <class T, class F>
__device__ __forceinline__ void for_own_columns(std::int64_t columns, F f) {
  const std::int64_t step = std::int64_t{blockDim.x} * T::kVec;
  std::int64_t column = std::int64_t{blockIdx.x} * T::kLrnVecs * step + threadIdx.x * T::kVec;
  for (int v = 0; v < T::kLrnVecs && column < columns; ++v) {
    f(v, column);
    column += step;
  }
}

// Computes  y_i = x_i s_i^-beta, s_i = k + alpha sum of x_j^2 over the channels j from i - size/2 to i + size/2 (paper, 3.3) that are
//           in i's group
// Layout    x, y (C, columns), columns = H W N
// Mapping   blockIdx.y is the group; a thread walks T::kLrnVecs adjacent vectors of columns through its channels, keeping the window
//           in shared memory. kSize is the size where it is known to the compiler, else 0
// Cost      2 size + 10 FLOP, 8 bytes an element: bound by memory
template <class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(T::kThreads) lrn_forward_kernel(float* y, const float* x, LrnWalk walk) {
  constexpr int W = T::kVec;
  const int half = (kSize > 0 ? kSize : walk.size) / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * walk.channels * walk.columns;
  float* shared = simt::shared_memory<float>();
  const Ring<T> xs(shared, 2 * half + 1);
  for (int ahead = 0; ahead < walk.channels + half; ++ahead) {
    const int i = ahead - half;  // its window ends at `ahead`
    const int slot_ahead = xs.slot(ahead), slot_i = i < 0 ? 0 : xs.slot(i);
    const float* from = x + group + ahead * walk.columns;
    float* to = y + group + i * walk.columns;
    for_own_columns<T>(walk.columns, [&](int v, std::int64_t column) {
      simt::store<W>(xs.at(slot_ahead, v), ahead < walk.channels ? simt::load<W>(from + column) : simt::Vec<W>(0.0f));
      if (i < 0) return;
      const auto s = powers<kThreeQuarters>(scale_of<kSize>(xs, v, walk), walk.beta);
      simt::store<W>(to + column, simt::load<W>(xs.at(slot_i, v)) * s.power);
    });
  }
}

// Computes  dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum of dy_j x_j s_j^(-beta - 1) over the window around i
// Layout    x, dx, dy (C, columns), columns = H W N
// Mapping   as forward. When the walk reads channel `ahead`, s is complete for j, size/2 before it, and the sum over j for i, as much
//           before j
// Cost      3 size + 16 FLOP, 12 bytes an element: bound by memory; s is cheaper to compute again than to store and load
template <class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(T::kThreads) lrn_backward_kernel(float* dx, const float* dy, const float* x, LrnWalk walk) {
  constexpr int W = T::kVec;
  const int size = kSize > 0 ? kSize : walk.size, half = size / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * walk.channels * walk.columns;
  const float factor = -2.0f * walk.alpha * walk.beta;
  float* shared = simt::shared_memory<float>();
  const Ring<T> xs(shared, size), terms(shared, size), firsts(shared, half + 1);
  for (int ahead = 0; ahead < walk.channels + 2 * half; ++ahead) {
    const int j = ahead - half, i = j - half;
    const int ahead_slot = xs.slot(ahead), j_slot = j < 0 ? 0 : xs.slot(j), i_slot = i < 0 ? 0 : xs.slot(i);
    const int j_first = j < 0 ? 0 : firsts.slot(j), i_first = i < 0 ? 0 : firsts.slot(i);
    const std::int64_t ahead_at = group + ahead * walk.columns, j_at = group + j * walk.columns, i_at = group + i * walk.columns;
    for_own_columns<T>(walk.columns, [&](int v, std::int64_t column) {
      simt::store<W>(xs.at(ahead_slot, v), ahead < walk.channels ? simt::load<W>(x + ahead_at + column) : simt::Vec<W>(0.0f));
      if (j < 0) return;
      simt::Vec<W> term(0.0f);
      if (j < walk.channels) {
        const auto s = powers<kThreeQuarters>(scale_of<kSize>(xs, v, walk), walk.beta);
        const simt::Vec<W> first = simt::load<W>(dy + j_at + column) * s.power;
        term = first * simt::load<W>(xs.at(j_slot, v)) * s.inverse;
        simt::store<W>(firsts.at(j_first, v), first);
      }
      simt::store<W>(terms.at(j_slot, v), term);
      if (i < 0) return;
      simt::Vec<W> sum(0.0f);
      for (int slot = 0; slot < size; ++slot) sum = sum + simt::load<W>(terms.at(slot, v));
      const simt::Vec<W> second = factor * simt::load<W>(xs.at(i_slot, v)) * sum;
      simt::store<W>(dx + i_at + column, simt::load<W>(firsts.at(i_first, v)) + second);
    });
  }
}

/// Launches a kernel with as many threads a block as its rings leave room for.
template <class T, class K, class... A>
void launch_walk(K kernel, int slots, int groups, const LrnWalk& walk, StreamHandle stream, A... arrays) {
  constexpr std::size_t kRoom = 48 * 1024;  // what every GPU grants without being asked
  const std::size_t per_thread = sizeof(float) * T::kVec * T::kLrnVecs * static_cast<std::size_t>(slots);
  unsigned threads = T::kThreads;
  while (threads > 1 && threads * per_thread > kRoom) threads /= 2;
  if (threads * per_thread > kRoom && T::kThreads > 1)
    throw std::invalid_argument("size is " + std::to_string(walk.size) + "; its window does not fit into a GPU's shared memory");
  const auto columns_per_block = std::int64_t{threads} * T::kVec * T::kLrnVecs;
  const dim3 grid(static_cast<unsigned>(simt::ceil_div(walk.columns, columns_per_block)), static_cast<unsigned>(groups));
  simt::launch(kernel, grid, threads, threads * per_thread, stream_of(stream), arrays..., walk);
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

void lrn_forward(float* y, const float* x, const LrnShape& shape, StreamHandle stream) {
  const LrnWalk walk = walk_of(shape);
  with_case(walk, [&](auto target, auto size, auto three_quarters) {
    using T = decltype(target);
    launch_walk<T>(lrn_forward_kernel<T, size.value, three_quarters.value>, walk.size, shape.groups, walk, stream, y, x);
  });
}

void lrn_backward(float* dx, const float* dy, const float* x, const LrnShape& shape, StreamHandle stream) {
  const LrnWalk walk = walk_of(shape);
  with_case(walk, [&](auto target, auto size, auto three_quarters) {
    using T = decltype(target);
    const int slots = 2 * walk.size + walk.size / 2 + 1;
    launch_walk<T>(lrn_backward_kernel<T, size.value, three_quarters.value>, slots, shape.groups, walk, stream, dx, dy, x);
  });
}

}  // namespace pyalexnet
