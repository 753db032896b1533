// Local response normalisation across channels (paper, 3.3). A value is divided by a power of the energy around it:
//
//   y_i = x_i s_i^-beta,    s_i = k + alpha (sum of x_j^2 over the `size` channels j around i that are in i's group)
//
// x_i affects its own y_i and, through s_j, every y_j whose window contains i; these are the j in i's window. The gradient is the sum of
// both parts:
//
//   dx_i = dy_i s_i^-beta - 2 alpha beta x_i (sum of dy_j x_j s_j^(-beta - 1) over the same window)
//
// A thread walks through the channels of a few columns; a column is one pixel of one image. A ring in shared memory holds the last `size`
// values, so each x is read once. s is recomputed from the ring, not stored from forward to backward.
#include <cfloat>
#include <cmath>
#include <cstdio>

#include "ops/activate.cuh"
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// Adjacent vectors of columns per thread. On a CPU they are half a memory page: with one vector, a thread would touch a new page for each
/// channel.
template <class Target>
struct LrnBlock {
  static constexpr int kVecs = Target::kOnGpu ? 1 : 512 / Target::kVec;
};

/// The kernels' parameters. channels: of one group; columns: also the stride between channels.
struct LrnParams {
  std::int64_t columns;
  int channels, size;
  float k, alpha, beta;
};

/// Ring buffer in shared memory: the last few channels' values of the running thread's columns. Channel c is in slot c mod slots; adjacent
/// threads' values are adjacent.
template <class Target>
class ChannelRing {
 public:
  static constexpr int W = Target::kVec;

  /// Allocates the block's ring at `base`, advances `base` past it, and zeroes the thread's slots.
  __device__ __forceinline__ ChannelRing(float*& base, int slots)
      : slots_(slots), step_(static_cast<int>(blockDim.x) * W), own_(base + threadIdx.x * W) {
    base += slots * LrnBlock<Target>::kVecs * step_;
    for (int i = 0; i < slots * LrnBlock<Target>::kVecs; ++i) simt::store<W>(own_ + i * step_, simt::Vec<W>(0.0f));
  }
  /// Where the value of a channel >= 0 is, for the thread's vector v.
  __device__ __forceinline__ float* at(int channel, int v) const { return slot(channel % slots_, v); }
  /// Accumulates sum = f(value, sum) over the first `size` slots.
  template <class F>
  __device__ __forceinline__ simt::Vec<W> sum(int size, int v, F f) const {
    simt::Vec<W> sum(0.0f);
    const float* value = slot(0, v);
    for (int i = 0; i < size; ++i, value += LrnBlock<Target>::kVecs * step_) sum = f(simt::load<W>(value), sum);
    return sum;
  }

 private:
  __device__ __forceinline__ float* slot(int i, int v) const { return own_ + (i * LrnBlock<Target>::kVecs + v) * step_; }

  int slots_, step_;
  float* own_;
};

/// s = k + alpha sum of x_j^2 over the channels in the ring.
template <class Target>
__device__ __forceinline__ simt::Vec<Target::kVec> scale(const ChannelRing<Target>& xs, int size, int v, const LrnParams& params) {
  const auto squares = xs.sum(size, v, [](auto x, auto sum) { return fma(x, x, sum); });
  return fma(params.alpha, squares, simt::Vec<Target::kVec>(params.k));
}

/// s^-beta and 1/s. The paper's beta, 3/4, avoids powf, which would bound the kernels.
template <bool kThreeQuarters, int W>
__device__ __forceinline__ simt::Vec<W> power(simt::Vec<W> s, float beta, simt::Vec<W>& inverse) {
  if constexpr (kThreeQuarters) return inverse_three_quarters(s, inverse);
  inverse = simt::Vec<W>(1.0f) / s;
  return map(s, [beta](float f) { return powf(f, -beta); });
}

/// Calls f(v, column) for each of the thread's vectors of columns; v is the vector's number.
template <class Target, class F>
__device__ __forceinline__ void for_own_columns(std::int64_t columns, F f) {
  const std::int64_t step = std::int64_t{blockDim.x} * Target::kVec;
  std::int64_t column = blockIdx.x * LrnBlock<Target>::kVecs * step + threadIdx.x * Target::kVec;
  for (int v = 0; v < LrnBlock<Target>::kVecs && column < columns; ++v, column += step) f(v, column);
}

// Computes  y_i = x_i s_i^-beta, s_i = k + alpha sum of x_j^2 over the channels j from i - size/2 to i + size/2
// Layout    x, y (C, columns), columns = H W N
// Mapping   blockIdx.y is the group; a thread walks through its channels with a few columns, whose window is a ring in shared memory.
//           kSize is the size if known at compile time, else 0
// Cost      2 size + 30 FLOP, 8 bytes an element: bound by memory
template <class Target, class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(Target::kThreads) lrn_forward_kernel(T* y, const T* x, LrnParams params) {
  constexpr int W = Target::kVec;
  const int size = kSize > 0 ? kSize : params.size, half = size / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * params.channels * params.columns;
  float* shared = simt::shared_memory<float>();
  const ChannelRing<Target> xs(shared, size);
  for (int ahead = 0; ahead < params.channels + half; ++ahead) {
    const int i = ahead - half;  // its window ends at `ahead`
    const T* x_ahead = x + group + ahead * params.columns;
    T* y_i = y + group + i * params.columns;
    for_own_columns<Target>(params.columns, [=](int v, std::int64_t column) {
      simt::store<W>(xs.at(ahead, v), ahead < params.channels ? simt::load<W>(x_ahead + column) : simt::Vec<W>(0.0f));
      if (i < 0) return;
      simt::Vec<W> inverse;
      const auto s_power = power<kThreeQuarters>(scale(xs, size, v, params), params.beta, inverse);
      simt::store<W>(y_i + column, simt::load<W>(xs.at(i, v)) * s_power);
    });
  }
}

// Computes  dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum of dy_j x_j s_j^(-beta - 1) over the window around i; 0 if masked and not x_i > 0
// Layout    x, dx, dy (C, columns), columns = H W N
// Mapping   as forward, a pipeline of three channels: x is read at `ahead`; s_j is complete at j = ahead - size/2; the sum over j, and so
//           dx_i, at i = j - size/2
// Cost      3 size + 35 FLOP, 12 bytes an element: bound by memory; recomputing s is cheaper than storing and loading it
template <class Target, class T, int kSize, bool kThreeQuarters>
__global__ void __launch_bounds__(Target::kThreads) lrn_backward_kernel(T* dx, const T* dy, const T* x, LrnParams params, bool masked) {
  constexpr int W = Target::kVec;
  const int size = kSize > 0 ? kSize : params.size, half = size / 2;
  const std::int64_t group = std::int64_t{blockIdx.y} * params.channels * params.columns;
  const float factor = -2.0f * params.alpha * params.beta;
  float* shared = simt::shared_memory<float>();
  const ChannelRing<Target> xs(shared, size), terms(shared, size);  // x_j, and dy_j x_j s_j^(-beta - 1)
  const ChannelRing<Target> firsts(shared, half + 1);               // dy_j s_j^-beta
  for (int ahead = 0; ahead < params.channels + 2 * half; ++ahead) {
    const int j = ahead - half, i = j - half;
    const T *x_ahead = x + group + ahead * params.columns, *dy_j = dy + group + j * params.columns;
    T* dx_i = dx + group + i * params.columns;
    for_own_columns<Target>(params.columns, [=](int v, std::int64_t column) {
      simt::store<W>(xs.at(ahead, v), ahead < params.channels ? simt::load<W>(x_ahead + column) : simt::Vec<W>(0.0f));
      if (j < 0) return;
      simt::Vec<W> term(0.0f);
      if (j < params.channels) {
        simt::Vec<W> inverse;
        const auto s_power = power<kThreeQuarters>(scale(xs, size, v, params), params.beta, inverse);
        const simt::Vec<W> first = simt::load<W>(dy_j + column) * s_power;
        term = first * simt::load<W>(xs.at(j, v)) * inverse;
        simt::store<W>(firsts.at(j, v), first);
      }
      simt::store<W>(terms.at(j, v), term);
      if (i < 0) return;
      const auto sum = terms.sum(size, v, [](auto t, auto before) { return before + t; });
      const auto x_i = simt::load<W>(xs.at(i, v));
      const auto gradient = fma(factor * x_i, sum, simt::load<W>(firsts.at(i, v)));
      simt::store<W>(dx_i + column, masked ? activation_gradient<Activation::kRelu>(gradient, x_i) : gradient);
    });
  }
}

/// Launches a kernel with as many threads per block as its rings leave room for.
template <class Target, class... P, class... A>
void launch_lrn(void (*kernel)(P...), int slots, int groups, const LrnParams& params, StreamHandle stream, A... args) {
  constexpr std::size_t kDefaultSharedBytes = 48 * 1024;  // what every GPU grants without opting in
  const std::size_t per_thread = sizeof(float) * Target::kVec * LrnBlock<Target>::kVecs * static_cast<std::size_t>(slots);
  unsigned threads = Target::kThreads;
  while (threads > 1 && threads * per_thread > kDefaultSharedBytes) threads /= 2;
  const auto columns_per_block = std::int64_t{threads} * Target::kVec * LrnBlock<Target>::kVecs;
  const dim3 grid(simt::grid_extent(simt::ceil_div(params.columns, columns_per_block)), static_cast<unsigned>(groups));
  simt::launch(kernel, grid, threads, threads * per_thread, stream, args...);
}

/// The widest window, of which backward's rings, of 2.5 windows each, fit into a GPU's shared memory.
constexpr int kMaxWindow = 1023;

/// A number in a message.
std::string text(float value) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%.6g", double{value});
  return digits;
}

/// Checks the shape and derives the parameters. A window wider than 2 channels - 1 is clamped to that: it covers no more channels.
LrnParams params_of(const LrnShape& shape) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  if (shape.size < 1 || shape.size % 2 == 0) fail("size is " + std::to_string(shape.size) + "; expected an odd number of at least 1");
  if (shape.groups < 1 || shape.C % shape.groups != 0)
    fail("groups is " + std::to_string(shape.groups) + "; expected a divisor of the channels (" + std::to_string(shape.C) + ")");
  if (shape.groups > static_cast<int>(simt::kMaxGridYZ))  // the grid's second axis
    fail("groups is " + std::to_string(shape.groups) + "; expected at most " + std::to_string(simt::kMaxGridYZ));
  if (!(shape.k > 0.0f)) fail("k is " + text(shape.k) + "; expected above 0");
  if (!(shape.alpha >= 0.0f)) fail("alpha is " + text(shape.alpha) + "; expected at least 0");
  if (!(shape.beta >= 0.0f)) fail("beta is " + text(shape.beta) + "; expected at least 0");
  // s is at least k, so both powers of it are finite.
  if (!(std::pow(double{shape.k}, -double{shape.beta} - 1.0) <= FLT_MAX))
    fail("k is " + text(shape.k) + " and beta " + text(shape.beta) + "; expected k^(-beta - 1) to be a float32");
  if (!(2.0 * shape.alpha * shape.beta <= FLT_MAX))
    fail("alpha is " + text(shape.alpha) + " and beta " + text(shape.beta) + "; expected 2 alpha beta to be a float32");
  const int channels = shape.C / shape.groups;
  const auto size = static_cast<int>(simt::min<std::int64_t>(shape.size, 2 * std::int64_t{channels} - 1));
  if (size > kMaxWindow)
    fail("size is " + std::to_string(shape.size) + "; expected a window of at most " + std::to_string(kMaxWindow) + " of the " +
         std::to_string(channels) + " channels");
  return {shape.columns, channels, size, shape.k, shape.alpha, shape.beta};
}

/// Calls f with the target, the size if it is the paper's (else 0), and whether beta is the paper's. A size known at compile time unrolls
/// the sums: backward takes a tenth less on a CPU. A beta of 3/4 takes a quarter of the time of another. (Layers of other sizes and betas:
/// benchmarks/layers.py --net)
template <class F>
void with_case(const LrnParams& params, F f) {
  constexpr int kPaper = 5;
  using Size = std::integral_constant<int, kPaper>;
  using AnySize = std::integral_constant<int, 0>;
  with_target([&](auto target) {
    const bool three_quarters = params.beta == 0.75f;
    if (params.size == kPaper && three_quarters) return f(target, Size{}, std::true_type{});
    if (three_quarters) return f(target, AnySize{}, std::true_type{});
    f(target, AnySize{}, std::false_type{});
  });
}

}  // namespace

template <class T>
void lrn_forward(T* y, const T* x, const LrnShape& shape, StreamHandle stream) {
  const simt::Range range(__func__);
  const LrnParams params = params_of(shape);
  with_case(params, [&](auto target, auto size, auto three_quarters) {
    using Target = decltype(target);
    launch_lrn<Target>(lrn_forward_kernel<Target, T, size.value, three_quarters.value>, params.size, shape.groups, params, stream, y, x,
                       params);
  });
}

template <class T>
void lrn_backward(T* dx, const T* dy, const T* x, const LrnShape& shape, bool masked, StreamHandle stream) {
  const simt::Range range(__func__);
  const LrnParams params = params_of(shape);
  with_case(params, [&](auto target, auto size, auto three_quarters) {
    using Target = decltype(target);
    const int slots = 2 * params.size + params.size / 2 + 1;
    launch_lrn<Target>(lrn_backward_kernel<Target, T, size.value, three_quarters.value>, slots, shape.groups, params, stream, dx, dy, x,
                       params, masked);
  });
}

template void lrn_forward(float*, const float*, const LrnShape&, StreamHandle);
template void lrn_backward(float*, const float*, const float*, const LrnShape&, bool, StreamHandle);
#if defined(PYALEXNET_TEST_BUILD)
template void lrn_forward(simt::Bf16*, const simt::Bf16*, const LrnShape&, StreamHandle);
#endif

}  // namespace pyalexnet
