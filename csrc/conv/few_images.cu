// The forward pass of few images on a CPU: vectors run over filters, not over images, most of which are padding. The filters are read as
// they lie; what a block reads of x, made dense and with its border, stays in the caches. Sums have the order, and the bits, of the direct
// product.
#if !defined(__CUDACC__)
#include <algorithm>

#include "conv/few_images.hpp"
#include "conv/shape.cuh"

namespace pyalexnet {
namespace {

constexpr int kVec = kCpuVec;
using Vec = simt::Vec<kVec>;

/// Rows of a register tile, pairs of a pixel and an image, and its vectors of filters; of a single row, as many as its sums need to
/// overlap.
constexpr int kMostRows = 6;
constexpr int kWide = kVec == 16 ? 4 : 2, kWideAlone = 8;
static_assert(kFewImages <= kVec, "a vector holds all images");

/// The dense copy of x: the rows and columns that the windows reach.
struct Extent {
  int rows, columns;
  explicit Extent(const ConvShape& s) : rows((s.P - 1) * s.stride + s.R), columns((s.Q - 1) * s.stride + s.S) {}
  bool is_x(const ConvShape& s) const { return s.H == 1 && s.W == 1 && rows == 1 && columns == 1 && s.pad == 0; }
};

// Computes  dense[c][row][column][n] = x[c][row - pad][column - pad][n], 0 outside x, for the first `images` n
// Layout    x (C, H, W, N), dense (C, rows, columns, images)
// Mapping   blockIdx.x is a channel. One thread
// Cost      a cache line of x for each pixel: bound by memory
__global__ void dense_kernel(float* dense, const float* x, ConvShape s, Extent extent, int images) {
  const std::int64_t c = blockIdx.x;
  float* to = dense + c * extent.rows * extent.columns * images;
  for (int i = 0; i < extent.rows; ++i) {
    for (int j = 0; j < extent.columns; ++j, to += images) {
      const int row = i - s.pad, column = j - s.pad;
      const bool inside =
          static_cast<unsigned>(row) < static_cast<unsigned>(s.H) && static_cast<unsigned>(column) < static_cast<unsigned>(s.W);
      const float* from = x + ((c * s.H + row) * s.W + column) * s.N;
      for (int n = 0; n < images; ++n) to[n] = inside ? from[n] : 0.0f;
    }
  }
}

/// The filters' taps: channels, rows and columns, and how far apart their values are in the dense x; filters of all groups.
struct Taps {
  int channels, rows, columns;
  std::int64_t channel_stride, row_stride, column_stride;
  std::int64_t filters;
};

/// Sums of x * w over all taps, first to last, for rows of x and kVecs vectors of filters, of which the last may be partial. Asks for
/// filters ahead, which the processor does not, as taps lie far apart.
template <int kRows, int kVecs, bool kPartial>
__attribute__((noinline)) void sum_taps(const float* const (&x)[kRows], const float* w, const Taps& taps, int count,
                                        Vec (&sums)[kRows][kVecs]) {
  constexpr int kAhead = kRows == 1 ? 16 : 8;  // taps
  Vec own[kRows][kVecs];
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int v = 0; v < kVecs; ++v) own[i][v] = Vec(0.0f);
  }
  for (int c = 0; c < taps.channels; ++c) {
    for (int r = 0; r < taps.rows; ++r) {
      std::int64_t at = c * taps.channel_stride + r * taps.row_stride;
      for (int s = 0; s < taps.columns; ++s, at += taps.column_stride, w += taps.filters) {
        Vec ws[kVecs];
        SIMT_UNROLL
        for (int v = 0; v < kVecs; ++v) {
          __builtin_prefetch(w + kAhead * taps.filters + v * kVec, 0, 3);
          ws[v] = kPartial ? simt::load_first<kVec>(w + v * kVec, count) : simt::load<kVec>(w + v * kVec);
        }
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) {
          SIMT_UNROLL
          for (int v = 0; v < kVecs; ++v) own[i][v] = simt::fma(x[i][at], ws[v], own[i][v]);
        }
      }
    }
  }
  SIMT_UNROLL
  for (int i = 0; i < kRows; ++i) {
    SIMT_UNROLL
    for (int v = 0; v < kVecs; ++v) sums[i][v] = own[i][v];
  }
}

// Computes  y[k][pixel][n] = activation(sum over taps of w[tap][k] x[tap of the pixel][n] + bias[k]) for the first kImages images; the
//           others' x count as zeros
// Layout    x as dense_kernel makes it, w (C/G, R, S, K), y (K, P, Q, N)
// Mapping   blockIdx.x is a strip of filters, blockIdx.y a part of the pixels, blockIdx.z the group. One thread
// Cost      2 FLOP a tap, filter, pixel and image; with one pixel, 4 bytes of filters for kImages FMAs: bound by FMA, or by memory
template <int kImages>
class FewImages {
 public:
  static constexpr int kPixels = kMostRows / kImages;  // of a register tile

  FewImages(float* y, const float* x, const float* w, const AddBias& last, const ConvShape& s, int group)
      : s_(s), extent_(s), last_(last), group_(group), pixels_(s.P * s.Q), filters_(s.K / s.G),
        taps_{s.C / s.G, s.R, s.S, std::int64_t{extent_.rows} * extent_.columns * stride(), std::int64_t{extent_.columns} * stride(),
              stride(),  s.K},
        y_(y), x_(x + group * taps_.channels * taps_.channel_stride), w_(w + std::int64_t{group} * filters_) {}

  /// Filters of a strip.
  static int strip(const ConvShape& s) { return (s.P * s.Q == 1 ? kWideAlone : kWide) * kVec; }

  void run(int strip_index, int part, int parts) {
    const int tiles = simt::ceil_div(pixels_, kPixels);
    const auto first = static_cast<int>(std::int64_t{tiles} * part / parts),
               end = static_cast<int>(std::int64_t{tiles} * (part + 1) / parts);
    const int filter = strip_index * strip(s_), last = simt::min(filters_, filter + strip(s_));
    if (pixels_ == 1)
      compute_strip<1, kImages == 1 ? kWideAlone : kWide>(filter, last, 0, 1);
    else
      compute_strip<kPixels, kWide>(filter, last, first, end);
  }

 private:
  /// Floats from one pixel of x to the next: a fully connected layer reads x itself.
  std::int64_t stride() const { return extent_.is_x(s_) ? s_.N : kImages; }

  /// Computes filters from `filter` to before `last`, of the register tiles from `first` to before `end`.
  template <int kTilePixels, int kVecs>
  void compute_strip(int filter, int last, int first, int end) {
    while (filter < last) {
      const int count = last - filter;
      const auto pass = [&](auto vecs, auto partial) {
        for (int tile = first; tile < end; ++tile) compute<kTilePixels, vecs, partial>(filter, count, tile * kTilePixels);
        filter += vecs * kVec;
      };
      if (count >= kVecs * kVec)
        pass(std::integral_constant<int, kVecs>{}, std::false_type{});
      else if (count >= kVec)
        pass(std::integral_constant<int, 1>{}, std::false_type{});
      else
        pass(std::integral_constant<int, 1>{}, std::true_type{});
    }
  }

  template <int kTilePixels, int kVecs, bool kPartial>
  void compute(int filter, int count, int pixel) {
    constexpr int kRows = kTilePixels * kImages;
    const float* rows[kRows];
    for (int i = 0; i < kRows; ++i) {
      const int at = simt::min(pixel + i / kImages, pixels_ - 1), p = at / s_.Q, q = at % s_.Q;
      rows[i] = x_ + (std::int64_t{p} * s_.stride * extent_.columns + q * s_.stride) * stride() + i % kImages;
    }
    Vec sums[kRows][kVecs];
    sum_taps<kRows, kVecs, kPartial>(rows, w_ + filter, taps_, count, sums);
    for (int i = 0; i < kTilePixels && pixel + i < pixels_; ++i) {
      for (int v = 0; v < kVecs; ++v) {
        Vec own[kImages];
        for (int n = 0; n < kImages; ++n) own[n] = sums[i * kImages + n][v];
        store(filter + v * kVec, kPartial ? count : kVec, pixel + i, own);
      }
    }
  }

  /// Stores `count` filters of a pixel's images. Each filter's images are a row of y, with the others' results.
  void store(int filter, int count, int pixel, const Vec (&sums)[kImages]) const {
    for (int k = 0; k < count; ++k) {
      Vec row(0.0f);
      for (int n = 0; n < kImages; ++n) row.set(n, sums[n][k]);
      const std::int64_t of_filter = std::int64_t{group_} * filters_ + filter + k, at = (of_filter * pixels_ + pixel) * s_.N;
      for (int n = 0; n < s_.N; n += kVec) simt::store<kVec>(y_ + at + n, last_.finish(of_filter, at + n, n == 0 ? row : Vec(0.0f)));
    }
  }

  const ConvShape& s_;
  const Extent extent_;
  const AddBias& last_;
  const int group_, pixels_, filters_;
  const Taps taps_;
  float* const y_;
  const float* const x_;
  const float* const w_;
};

template <int kImages>
__global__ void few_images_kernel(float* y, const float* x, const float* w, AddBias last, ConvShape s) {
  FewImages<kImages>(y, x, w, last, s, static_cast<int>(blockIdx.z))
      .run(static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(gridDim.y));
}

template <int kImages>
void launch(float* y, const float* x, const float* w, const AddBias& last, float* workspace, const ConvShape& s, StreamHandle stream) {
  const Extent extent(s);
  if (!extent.is_x(s)) {
    simt::launch(dense_kernel, simt::grid_extent(s.C), 1, 0, stream, workspace, x, s, extent, kImages);
    x = workspace;
  }
  constexpr int kTasks = 32, kTilesOfTask = 2;
  const int strips = simt::ceil_div(s.K / s.G, FewImages<kImages>::strip(s));
  const int tiles = simt::ceil_div(s.P * s.Q, FewImages<kImages>::kPixels);
  const std::int64_t wanted = simt::ceil_div<std::int64_t>(kTasks, std::int64_t{strips} * s.G);
  const auto parts = static_cast<unsigned>(std::min<std::int64_t>(wanted, simt::ceil_div(tiles, kTilesOfTask)));
  simt::launch(few_images_kernel<kImages>, dim3(static_cast<unsigned>(strips), parts, static_cast<unsigned>(s.G)), 1, 0, stream, y, x, w,
               last, s);
}

}  // namespace

bool are_few_images(const ConvShape& s, ConvAlgorithm wanted, int images) {
  constexpr std::int64_t kLargest = 4;  // times x
  const Extent extent(s);
  const bool is_small = std::int64_t{extent.rows} * extent.columns * kFewImages <= kLargest * s.H * s.W * s.N;
  return simt::execution().tiles == simt::Tiles::kHost && wanted != ConvAlgorithm::kWinograd && images <= kFewImages && is_small;
}

std::size_t few_images_workspace(const ConvShape& s) {
  const Extent extent(s);
  if (extent.is_x(s)) return 0;
  return std::size_t{kFewImages} * s.C * extent.rows * extent.columns;
}

void few_images_forward(float* y, const float* x, const float* w, const AddBias& last, float* workspace, const ConvShape& s, int images,
                        StreamHandle stream) {
  static_assert(kFewImages == 4, "there is a case for each number of images");
  if (images == 1) return launch<1>(y, x, w, last, workspace, s, stream);
  if (images == 2) return launch<2>(y, x, w, last, workspace, s, stream);
  if (images == 3) return launch<3>(y, x, w, last, workspace, s, stream);
  launch<4>(y, x, w, last, workspace, s, stream);
}

}  // namespace pyalexnet
#endif
