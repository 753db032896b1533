// Dropout. What is kept is recomputed whenever it is needed.
#include <cmath>

#include "ops/activate.cuh"
#include "ops/elementwise.cuh"
#include "ops/philox.cuh"

namespace pyalexnet {
namespace {

/// What the choice depends on besides the element's position. An element is kept if its random word is at least `threshold`.
struct Choice {
  std::uint64_t seed;
  std::uint32_t threshold, step, layer, first_feature, first_image;
};

// Computes  y = x scale with probability 1 - p, else 0 (paper, 4.2), and 0 where mask is not above 0; backward is the same with dy for x.
//           The random word of feature f and image n, counted from first_feature and first_image, is word f % 4 of Philox at
//           (n, f / 4, step, layer)
// Layout    x, y, mask (F, N); y may be x, mask null
// Mapping   a thread processes Target::kVecsPerThread vectors of images, each for the four features that share its random numbers
// Cost      about 25 integer instructions, 8 bytes an element: bound by memory on a GPU, by arithmetic on a CPU
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads)
    dropout_kernel(T* y, const T* x, const T* mask, std::int64_t F, std::int64_t N, float scale, Choice choice) {
  constexpr int W = Target::kVec;
  using Words = simt::WordVec<W>;
  const Words threshold(choice.threshold);
  // Features come in groups of four, which share random numbers; the first and the last group may extend past the array.
  const std::int64_t begin = choice.first_feature % 4;
  for_own_vectors<Target>(simt::ceil_div(begin + F, std::int64_t{4}) * N, [=](std::int64_t i) {
    const std::int64_t quad = i / N, n = i - quad * N;
    const auto counter = static_cast<std::uint32_t>(choice.first_feature / 4 + quad);
    Words words[4] = {Words(0u), Words(counter), Words(choice.step), Words(choice.layer)};
    SIMT_UNROLL
    for (int lane = 0; lane < W; ++lane) words[0].set(lane, choice.first_image + static_cast<std::uint32_t>(n) + lane);
    philox(words, choice.seed);
    SIMT_UNROLL
    for (int k = 0; k < 4; ++k) {
      const std::int64_t feature = quad * 4 + k - begin;
      if (feature < 0 || feature >= F) continue;
      const std::int64_t at = feature * N + n;
      const auto kept = select(words[k] >= threshold, scale * simt::load<W>(x + at), simt::Vec<W>(0.0f));
      simt::store<W>(y + at, mask == nullptr ? kept : activation_gradient<Activation::kRelu>(kept, simt::load<W>(mask + at)));
    }
  });
}

}  // namespace

template <class T>
void dropout(T* y, const T* x, const T* mask, std::int64_t F, std::int64_t N, double p, float scale, std::uint64_t seed,
             std::uint32_t layer, std::uint32_t step, std::uint32_t first_feature, std::uint32_t first_image, StreamHandle stream) {
  const simt::Range range(__func__);
  if (!(p >= 0.0 && p < 1.0)) throw std::invalid_argument("p is " + std::to_string(p) + "; expected at least 0 and below 1");
  if (F == 0 || N == 0) return;
  const double threshold = std::fmin(std::ceil(p * 4294967296.0), 4294967295.0);
  const Choice choice{seed, static_cast<std::uint32_t>(threshold), step, layer, first_feature, first_image};
  with_target([&](auto target) {
    using Target = decltype(target);
    simt::launch(dropout_kernel<Target, T>, vectors_grid<Target>(simt::ceil_div(first_feature % 4 + F, std::int64_t{4}) * N),
                 Target::kThreads, 0, stream, y, x, mask, F, N, scale, choice);
  });
}

template void dropout(float*, const float*, const float*, std::int64_t, std::int64_t, double, float, std::uint64_t, std::uint32_t,
                      std::uint32_t, std::uint32_t, std::uint32_t, StreamHandle);

}  // namespace pyalexnet
