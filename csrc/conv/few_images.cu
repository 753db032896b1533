// A fully connected layer of few images, on a CPU: vectors run over filters, not over padded images, and the weights are read as they lie,
// once.
#if !defined(__CUDACC__)
#include "conv/few_images.hpp"
#include "gemm/epilogue.cuh"

namespace pyalexnet {
namespace {

constexpr int kVec = kCpuVec;
using Vec = simt::Vec<kVec>;

/// Vectors of filters of a block: as many as vector registers hold the sums of, and no more than make a run of weights long.
constexpr int vectors_of_block(int images) {
  constexpr int kSums = kVec == 16 ? 16 : 8, kMost = 8;
  return kSums / images < kMost ? kSums / images : kMost;
}

/// Sums of x[f][image] * w[f][filter] over all features f, first to last, as the direct product adds them. Asks for weights ahead, which
/// the processor does not: rows are pages apart.
template <int kImages, int kVecs>
__attribute__((noinline)) void sum_features(const float* x, int images, const float* w, int filters, int features,
                                            Vec (&sums)[kVecs][kImages]) {
  constexpr int kAhead = 16 * 8 / kVecs;  // rows
  Vec own[kVecs][kImages];
  SIMT_UNROLL
  for (int v = 0; v < kVecs; ++v) {
    SIMT_UNROLL
    for (int n = 0; n < kImages; ++n) own[v][n] = Vec(0.0f);
  }
  for (int f = 0; f < features; ++f, x += images, w += filters) {
    SIMT_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      __builtin_prefetch(w + std::int64_t{kAhead} * filters + v * kVec, 0, 3);
      const Vec weights = simt::load<kVec>(w + v * kVec);
      SIMT_UNROLL
      for (int n = 0; n < kImages; ++n) own[v][n] = simt::fma(x[n], weights, own[v][n]);
    }
  }
  SIMT_UNROLL
  for (int v = 0; v < kVecs; ++v) {
    SIMT_UNROLL
    for (int n = 0; n < kImages; ++n) sums[v][n] = own[v][n];
  }
}

/// The same for the last filters, fewer than a vector's.
template <int kImages>
void sum_features_of_some(const float* x, int images, const float* w, int filters, int features, int count, Vec (&sums)[1][kImages]) {
  for (int n = 0; n < kImages; ++n) sums[0][n] = Vec(0.0f);
  for (int f = 0; f < features; ++f, x += images, w += filters) {
    const Vec weights = simt::load_first<kVec>(w, count);
    for (int n = 0; n < kImages; ++n) sums[0][n] = simt::fma(x[n], weights, sums[0][n]);
  }
}

/// Stores vectors of `count` filters of each image as rows of all images, those past kImages as if their x were zeros.
template <int kImages>
void store(float* y, int images, int filter, int count, const Vec (&sums)[kImages], const AddBias& last) {
  Vec rows[kVec];
  for (int n = 0; n < kVec; ++n) rows[n] = n < kImages ? sums[n < kImages ? n : 0] : Vec(0.0f);
  simt::transpose(rows);
  for (int k = 0; k < count; ++k) {
    for (int n = 0; n < images; n += kVec) {
      const std::int64_t at = std::int64_t{filter + k} * images + n;
      simt::store<kVec>(y + at, last.finish(filter + k, at, n == 0 ? rows[k] : Vec(0.0f)));
    }
  }
}

// Computes  y[k][n] = activation(sum over f of w[f][k] x[f][n] + bias[k]) of the first kImages images; the others' x count as zeros
// Layout    x (F, N), w (F, K), y (K, N)
// Mapping   blockIdx.x is a block of vectors of filters. One thread
// Cost      4 bytes of weights for kImages FMAs: bound by memory
template <int kImages>
__global__ void few_images_kernel(float* y, const float* x, const float* w, AddBias last, int images, int features, int filters) {
  constexpr int kVecs = vectors_of_block(kImages);
  int filter = static_cast<int>(blockIdx.x) * kVecs * kVec;
  if (filters - filter >= kVecs * kVec) {
    Vec sums[kVecs][kImages];
    sum_features<kImages, kVecs>(x, images, w + filter, filters, features, sums);
    for (int v = 0; v < kVecs; ++v) store<kImages>(y, images, filter + v * kVec, kVec, sums[v], last);
    return;
  }
  for (; filter < filters; filter += kVec) {
    const int count = simt::min(kVec, filters - filter);
    Vec sums[1][kImages];
    if (count == kVec)
      sum_features<kImages, 1>(x, images, w + filter, filters, features, sums);
    else
      sum_features_of_some<kImages>(x, images, w + filter, filters, features, count, sums);
    store<kImages>(y, images, filter, count, sums[0], last);
  }
}

template <int kImages>
void launch(float* y, const float* x, const float* w, const AddBias& last, const ConvShape& s, StreamHandle stream) {
  const unsigned blocks = simt::grid_extent(simt::ceil_div(s.K, vectors_of_block(kImages) * kVec));
  simt::launch(few_images_kernel<kImages>, blocks, 1, 0, stream, y, x, w, last, s.N, s.C, s.K);
}

}  // namespace

void few_images_forward(float* y, const float* x, const float* w, const AddBias& last, const ConvShape& s, int images,
                        StreamHandle stream) {
  static_assert(kFewImages == 4, "there is a case for each number of images");
  if (images == 1) return launch<1>(y, x, w, last, s, stream);
  if (images == 2) return launch<2>(y, x, w, last, s, stream);
  if (images == 3) return launch<3>(y, x, w, last, s, stream);
  launch<4>(y, x, w, last, s, stream);
}

}  // namespace pyalexnet
#endif
