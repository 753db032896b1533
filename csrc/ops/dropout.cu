// Dropout whose mask is computed again whenever it is needed.
#include <cmath>

#include "ops/philox.cuh"
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

/// What the mask depends on besides the element's place. An element stays if its random word is at least `threshold`.
struct DropoutMask {
  std::uint64_t seed;
  std::uint32_t threshold, step, layer, first_image;
};

// Computes  y = x scale with probability 1 - p, else 0 (paper, 4.2); backward is the same with dy for x.
//           The random word of feature f, image n is word f % 4 of Philox at (first_image + n, f / 4, step, layer)
// Layout    x, y (F, N); y may be x
// Mapping   a thread has T::kVecsPerThread vectors of images, each with the four features that share its random numbers
// Cost      about 25 integer instructions, 8 bytes an element: bound by memory on a GPU, by arithmetic on a CPU
template <class T>
__global__ void __launch_bounds__(T::kThreads)
    dropout_kernel(float* y, const float* x, std::int64_t F, std::int64_t N, float scale, DropoutMask mask) {
  constexpr int W = T::kVec;
  using Words = simt::WordVec<W>;
  const Words threshold(mask.threshold);
  const std::int64_t quads = simt::ceil_div(F, std::int64_t{4});
  for_own_vectors<T>(quads * N, [=](std::int64_t i) {
    const std::int64_t quad = i / N, n = i - quad * N;
    Words words[4] = {Words(0u), Words(static_cast<std::uint32_t>(quad)), Words(mask.step), Words(mask.layer)};
    SIMT_UNROLL
    for (int lane = 0; lane < W; ++lane) words[0].set(lane, mask.first_image + static_cast<std::uint32_t>(n) + lane);
    philox(words, mask.seed);
    SIMT_UNROLL
    for (int k = 0; k < 4; ++k) {
      if (quad * 4 + k >= F) break;
      const std::int64_t at = (quad * 4 + k) * N + n;
      simt::store<W>(y + at, select(words[k] >= threshold, scale * simt::load<W>(x + at), simt::Vec<W>(0.0f)));
    }
  });
}

}  // namespace

void dropout(float* y, const float* x, std::int64_t F, std::int64_t N, double p, float scale, std::uint64_t seed, std::uint32_t layer,
             std::uint32_t step, std::uint32_t first_image, StreamHandle stream) {
  if (!(p >= 0.0 && p < 1.0)) throw std::invalid_argument("p is " + std::to_string(p) + "; it must be at least 0 and below 1");
  if (F == 0 || N == 0) return;
  const double threshold = std::fmin(std::ceil(p * 4294967296.0), 4294967295.0);
  const DropoutMask mask{seed, static_cast<std::uint32_t>(threshold), step, layer, first_image};
  with_target([&](auto target) {
    using T = decltype(target);
    simt::launch(dropout_kernel<T>, vectors_grid<T>(simt::ceil_div(F, std::int64_t{4}) * N), T::kThreads, 0, stream_of(stream), y, x, F, N,
                 scale, mask);
  });
}

}  // namespace pyalexnet
