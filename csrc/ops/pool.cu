// Max pooling, overlapping or not, and its gradient.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// Blocks per SM. Without this bound ptxas limits itself to 40 registers, for a sixth block, and spills.
[[maybe_unused]] constexpr int kBlocksPerSm = 4;

/// Calls f(count, n) for the thread's vectors of images, `count` (a constant) vectors from image n on: on a CPU four at once, as long as
/// there are so many, whose chains of operations overlap.
template <class Target, class F>
__device__ __forceinline__ void for_own_images(int N, F f) {
  constexpr int W = Target::kVec, kAtOnce = Target::kOnGpu ? 1 : 4;
  int n = static_cast<int>(threadIdx.x) * W;
  if constexpr (kAtOnce > 1)
    for (; n + kAtOnce * W <= N; n += kAtOnce * W) f(std::integral_constant<int, kAtOnce>{}, n);
  for (; n < N; n += static_cast<int>(blockDim.x) * W) f(std::integral_constant<int, 1>{}, n);
}

/// argmax of a maximum whose gradient is 0: no window has such a place.
constexpr int kNoPlace = 0xffff;

// Computes  y[c,p,q,n] = max over r,s of x[c, p stride - pad + r, q stride - pad + s, n], windows clipped at the borders (paper, 3.4);
//           argmax = r size + s of the first maximum in row-major order; a NaN counts as the maximum. kNoPlace if masked and not y > 0
// Layout    x (C, H, W, N), y and argmax (C, P, Q, N)
// Mapping   blockIdx.y is the channel, of those of this launch; a block has pixels of y; a row of threads takes one pixel at a time, with
//           all its images
// Cost      size^2 comparisons, 4 stride^2 + 6 bytes an output: bound by memory (overlapping windows hit the caches)
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads, kBlocksPerSm)
    maxpool_forward_kernel(T* y, std::uint16_t* argmax, const T* x, PoolShape shape, simt::FastDiv columns, bool masked) {
  constexpr int W = Target::kVec;
  const int N = shape.N;
  const std::int64_t c = blockIdx.y;
  const T* map = x + c * shape.H * shape.W * N;
  for_own_pixels<Target>(shape.P * shape.Q, [=](int pixel) {
    int q;
    const int p = columns.split(pixel, q);
    const int row = p * shape.stride - shape.pad, column = q * shape.stride - shape.pad;
    const int r_begin = row < 0 ? -row : 0, r_end = row + shape.size > shape.H ? shape.H - row : shape.size;
    const int s_begin = column < 0 ? -column : 0, s_end = column + shape.size > shape.W ? shape.W - column : shape.size;
    const std::int64_t out = (c * shape.P * shape.Q + pixel) * N;
    for_own_images<Target>(N, [=](auto count, int n) {
      constexpr int V = decltype(count)::value;
      simt::Vec<W> best[V];
      simt::IntVec<W> where[V];
      SIMT_UNROLL
      for (int v = 0; v < V; ++v) {
        best[v] = simt::Vec<W>(-INFINITY);
        where[v] = simt::IntVec<W>(r_begin * shape.size + s_begin);
      }
      for (int r = r_begin; r < r_end; ++r) {
        const T* at = map + (std::int64_t{row + r} * shape.W + column) * N + n;
        for (int s = s_begin; s < s_end; ++s) {
          const simt::IntVec<W> here(r * shape.size + s);
          SIMT_UNROLL
          for (int v = 0; v < V; ++v) {
            const simt::Vec<W> value = simt::load<W>(at + std::int64_t{s} * N + v * W);
            const auto wins = (value > best[v]) | ((value != value) & (best[v] == best[v]));
            best[v] = select(wins, value, best[v]);
            where[v] = select(wins, here, where[v]);
          }
        }
      }
      SIMT_UNROLL
      for (int v = 0; v < V; ++v) {
        if (masked) where[v] = select(best[v] > simt::Vec<W>(0.0f), where[v], simt::IntVec<W>(kNoPlace));
        simt::store<W>(y + out + n + v * W, best[v]);
        simt::store_ints<W>(argmax + out + n + v * W, where[v]);
      }
    });
  });
}

// Computes  dx[c,h,w,n] = sum of dy over the windows whose maximum was at (h, w)
// Layout    dx (C, H, W, N), dy and argmax (C, P, Q, N)
// Mapping   as forward, with pixels of dx; each gathers from the windows that cover it, in row-major order, so no atomics are needed
// Cost      (size / stride)^2 additions, 4 + 6 / stride^2 bytes an input: bound by memory
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads, kBlocksPerSm)
    maxpool_backward_kernel(T* dx, const T* dy, const std::uint16_t* argmax, PoolShape shape, simt::FastDiv columns, simt::FastDiv stride) {
  constexpr int W = Target::kVec;
  const int N = shape.N;
  dy += std::int64_t{blockIdx.y} * shape.P * shape.Q * N;
  argmax += std::int64_t{blockIdx.y} * shape.P * shape.Q * N;
  dx += std::int64_t{blockIdx.y} * shape.H * shape.W * N;
  for_own_pixels<Target>(shape.H * shape.W, [=](int pixel) {
    int w;
    const int h = columns.split(pixel, w);
    // Windows that cover row h: p stride <= h + pad < p stride + size.
    const int row = h + shape.pad, column = w + shape.pad;
    const int p_begin = row < shape.size ? 0 : stride.quotient(row - shape.size) + 1;
    const int q_begin = column < shape.size ? 0 : stride.quotient(column - shape.size) + 1;
    const int p_last = stride.quotient(row), q_last = stride.quotient(column);
    const int p_end = p_last < shape.P ? p_last + 1 : shape.P, q_end = q_last < shape.Q ? q_last + 1 : shape.Q;
    for_own_images<Target>(N, [=](auto count, int n) {
      constexpr int V = decltype(count)::value;
      const simt::Vec<W> zero(0.0f);
      simt::Vec<W> sums[V];
      SIMT_UNROLL
      for (int v = 0; v < V; ++v) sums[v] = zero;
      for (int p = p_begin; p < p_end; ++p) {
        for (int q = q_begin; q < q_end; ++q) {
          const std::int64_t out = (std::int64_t{p} * shape.Q + q) * N + n;
          const simt::IntVec<W> here((row - p * shape.stride) * shape.size + column - q * shape.stride);
          SIMT_UNROLL
          for (int v = 0; v < V; ++v)
            sums[v] = sums[v] + select(simt::load_ints<W>(argmax + out + v * W) == here, simt::load<W>(dy + out + v * W), zero);
        }
      }
      SIMT_UNROLL
      for (int v = 0; v < V; ++v) simt::store<W>(dx + std::int64_t{pixel} * N + n + v * W, sums[v]);
    });
  });
}

void check_shape(const PoolShape& shape) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  if (shape.size < 1 || shape.size > 255) fail("size is " + std::to_string(shape.size) + "; expected 1 to 255");  // see kNoPlace
  if (shape.stride < 1) fail("stride is " + std::to_string(shape.stride) + "; expected at least 1");
  if (shape.pad < 0 || shape.pad >= shape.size)
    fail("pad is " + std::to_string(shape.pad) + "; expected 0 to " + std::to_string(shape.size - 1) + ", below size");
  const auto covers = [&](std::int64_t out, std::int64_t in) { return out >= 1 && (out - 1) * shape.stride - shape.pad < in; };
  if (!covers(shape.P, shape.H) || !covers(shape.Q, shape.W))
    fail("y has " + std::to_string(shape.P) + " x " + std::to_string(shape.Q) + " pixels; expected windows (size " +
         std::to_string(shape.size) + ", stride " + std::to_string(shape.stride) + ", pad " + std::to_string(shape.pad) +
         ") that all contain a pixel of x (" + std::to_string(shape.H) + " x " + std::to_string(shape.W) + ")");
  if ((std::int64_t{shape.H} + 2 * shape.pad) * (std::int64_t{shape.W} + 2 * shape.pad) > kMaxIndex)
    fail("x has " + std::to_string(shape.H) + " x " + std::to_string(shape.W) + " pixels; expected fewer than 2^31 with padding");
}

/// Calls f(first, count) for the maps in parts that are as many as a grid has rows: maps are its second axis.
template <class F>
void for_parts_of_maps(int maps, F f) {
  for (std::int64_t first = 0; first < maps; first += simt::kMaxGridYZ)
    f(first, static_cast<unsigned>(simt::min<std::int64_t>(maps - first, simt::kMaxGridYZ)));
}

}  // namespace

template <class T>
void maxpool_forward(T* y, std::uint16_t* argmax, const T* x, const PoolShape& shape, bool masked, StreamHandle stream) {
  const simt::Range range(__func__);
  check_shape(shape);
  with_target([&](auto target) {
    using Target = decltype(target);
    const dim3 block = pixels_block<Target>(shape.N);
    for_parts_of_maps(shape.C, [&](std::int64_t first, unsigned maps) {
      const std::int64_t in = first * shape.H * shape.W * shape.N, out = first * shape.P * shape.Q * shape.N;
      simt::launch(maxpool_forward_kernel<Target, T>, dim3(pixels_blocks<Target>(shape.P * shape.Q, block), maps), block, 0, stream,
                   y + out, argmax + out, x + in, shape, simt::FastDiv(shape.Q), masked);
    });
  });
}

template <class T>
void maxpool_backward(T* dx, const T* dy, const std::uint16_t* argmax, const PoolShape& shape, StreamHandle stream) {
  const simt::Range range(__func__);
  check_shape(shape);
  with_target([&](auto target) {
    using Target = decltype(target);
    const dim3 block = pixels_block<Target>(shape.N);
    for_parts_of_maps(shape.C, [&](std::int64_t first, unsigned maps) {
      const std::int64_t in = first * shape.H * shape.W * shape.N, out = first * shape.P * shape.Q * shape.N;
      simt::launch(maxpool_backward_kernel<Target, T>, dim3(pixels_blocks<Target>(shape.H * shape.W, block), maps), block, 0, stream,
                   dx + in, dy + out, argmax + out, shape, simt::FastDiv(shape.W), simt::FastDiv(shape.stride));
    });
  });
}

template void maxpool_forward(float*, std::uint16_t*, const float*, const PoolShape&, bool, StreamHandle);
template void maxpool_backward(float*, const float*, const std::uint16_t*, const PoolShape&, StreamHandle);

}  // namespace pyalexnet
