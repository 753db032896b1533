// Winograd's convolution, forward and data gradient: transforms of the input, products, transforms of the output, in one kernel, so that
// what lies between them stays in the L2 cache.
#if !defined(__CUDACC__)
#include "conv/blocking.hpp"
#include "conv/winograd_panel.cuh"
#include "gemm/epilogue.cuh"

namespace pyalexnet::winograd {
namespace {

using Vec = simt::Vec<RegisterTile::kVec>;

/// A panel of transformed filters, whose rows are adjacent. Asks for what comes `ahead` of it, far from here.
struct Panel {
  static constexpr int kRows = RegisterTile::kRows;
  const float *at, *ahead;
  float operator()(int i) const { return at[i]; }
  void next(int k) {
    constexpr int kLine = 16;           // floats of a cache line
    constexpr int kNear = 192 * kRows;  // floats from memory that is being read to what is asked for in L1
    if (k % (kLine / kRows) == 0) {
      __builtin_prefetch(ahead + k * kRows, 0, 2);
      __builtin_prefetch(at + kNear, 0, 3);
    }
    at += kRows;
  }
};

/// A block's columns.
using Columns = TileGroup<RegisterTile::kVecs>;

// Computes  y = the convolution of x by the filters, finished
// Layout    x (C, H, W, N), y (K, P, Q, N); u as transform_filters makes it
// Mapping   blockIdx.x is a block of columns: up to three vectors of images of output tiles; blockIdx.y a part of a group's filters;
//           blockIdx.z the group. One thread
// Cost      2.6 to 4.6 times fewer FLOP than the direct product; filters are read once a block: bound by FMA and by L3
template <int kPixels, int kTaps, class Finish>
class Convolution {
  static constexpr int kPoints = kPixels + kTaps - 1, kFrequencies = kPoints * kPoints;
  static constexpr int kVec = RegisterTile::kVec, kColumns = RegisterTile::kColumns, kPanel = RegisterTile::kRows;

 public:
  Convolution(float* y, const float* x, const float* u, const Finish& last, const Pass& pass, const Blocking& blocking, float* shared)
      : pass_(pass), blocking_(blocking), y_(y), x_(x), u_(u), last_(last),
        per_channel_(std::int64_t{pass.height} * pass.width * pass.images),
        per_filter_(std::int64_t{pass.rows} * pass.columns * pass.images), input_stride_(blocking.channels * kColumns + kVec),
        product_stride_(blocking.filters * kColumns + kVec), input_(shared), products_(shared + kFrequencies * input_stride_) {}

  /// Floats of shared memory.
  static std::size_t shared_floats(const Blocking& b) {
    return std::size_t{kFrequencies} * ((b.channels + b.filters) * kColumns + 2 * kVec);
  }

  void run(int block, int part, int parts, int group) {
    columns_ = Columns::at(blocking_.tiling, pass_.images / kVec, kPixels, block);
    x_ += group * pass_.channels * per_channel_;
    first_filter_ = group * pass_.filters;
    const int padded = simt::round_up(pass_.filters, kPanel);
    u_ += std::int64_t{group} * kFrequencies * padded * pass_.channels;
    bool transformed = false;
    for (int k0 = part * blocking_.filters; k0 < padded; k0 += parts * blocking_.filters) {
      const int filters = simt::min(blocking_.filters, padded - k0);
      for (int c0 = 0; c0 < pass_.channels; c0 += blocking_.channels) {
        const int channels = simt::min(blocking_.channels, pass_.channels - c0);
        if (!transformed || channels < pass_.channels) transform_input(c0, channels);
        transformed = true;
        multiply(u_ + std::int64_t{kFrequencies} * (std::int64_t{k0} * pass_.channels + std::int64_t{c0} * filters), filters, channels,
                 c0 > 0);
      }
      transform_output(k0, simt::min(filters, pass_.filters - k0));
    }
  }

 private:
  void transform_input(int c0, int channels) {
    with_tile_size<kPixels>(columns_.kind, [&](auto rows, auto columns) {
      for (int i = 0; i < columns_.runs; ++i) transform_input<rows, columns>(columns_.run[i], c0, channels);
    });
  }

  template <int kRows, int kCols>
  __attribute__((noinline)) void transform_input(const TileRun& run, int c0, int channels) {
    constexpr int kDown = kRows + kTaps - 1, kAcross = kCols + kTaps - 1;
    const float* from[kDown * kAcross];
    std::int64_t step[kDown * kAcross];  // 0 for a pixel outside the image
    for (int i = 0; i < kDown; ++i) {
      for (int j = 0; j < kAcross; ++j) {
        const int row = run.row - pass_.pad + i, column = run.column - pass_.pad + j;
        const bool inside = static_cast<unsigned>(row) < static_cast<unsigned>(pass_.height) &&
                            static_cast<unsigned>(column) < static_cast<unsigned>(pass_.width);
        const std::int64_t at = c0 * per_channel_ + (std::int64_t{row} * pass_.width + column) * pass_.images + run.image;
        from[i * kAcross + j] = inside ? x_ + at : kZeros;
        step[i * kAcross + j] = inside ? per_channel_ : 0;
      }
    }
    float* to = input_ + run.first * kVec;
    for (int c = 0; c < channels; ++c, to += kColumns) {
      for (int v = 0; v < run.vectors; ++v) {
        Vec half[kDown][kAcross];
        SIMT_UNROLL
        for (int j = 0; j < kAcross; ++j)
          transform<kRows, kTaps, Matrix::kInput, Vec>(
              [&](int i) {
                const float* at = from[i * kAcross + j] + v * kVec;
                __builtin_prefetch(at + 2 * step[i * kAcross + j], 0, 2);
                return simt::load<kVec>(at);
              },
              [&](int i, Vec x) { half[i][j] = x; });
        SIMT_UNROLL
        for (int i = 0; i < kDown; ++i)
          transform<kCols, kTaps, Matrix::kInput, Vec>([&](int j) { return half[i][j]; },
                                                       [&](int j, Vec x) {
                                                         const int frequency = point_of<kPixels, kTaps>(kRows, i) * kPoints +
                                                                               point_of<kPixels, kTaps>(kCols, j);
                                                         simt::store<kVec>(to + frequency * input_stride_ + v * kVec, x);
                                                       });
      }
      SIMT_UNROLL
      for (int i = 0; i < kDown * kAcross; ++i) from[i] += step[i];
    }
  }

  /// Multiplies all frequencies of the block's kind; `u` begins with the first one's panels.
  void multiply(const float* u, int filters, int channels, bool add) {
    const bool small_rows = (columns_.kind & 2) != 0, small_columns = (columns_.kind & 1) != 0;
    const std::int64_t per_frequency = std::int64_t{filters} * channels;
    for (int frequency = 0; frequency < kFrequencies; ++frequency, u += per_frequency) {
      if (small_rows && frequency / kPoints == kPoints - 2) continue;
      if (small_columns && frequency % kPoints == kPoints - 2) continue;
      const float* input = input_ + frequency * input_stride_;
      float* products = products_ + frequency * product_stride_;
      for (int k = 0; k < filters; k += kPanel) {
        const float* at = u + std::int64_t{k} * channels;
        const Panel panel{at, at + per_frequency};
        if (add)
          multiply_panel<true>(columns_.vectors, panel, input, products + k * kColumns, channels);
        else
          multiply_panel<false>(columns_.vectors, panel, input, products + k * kColumns, channels);
      }
    }
  }

  void transform_output(int k0, int filters) {
    with_tile_size<kPixels>(columns_.kind, [&](auto rows, auto columns) {
      for (int i = 0; i < columns_.runs; ++i) transform_output<rows, columns>(columns_.run[i], k0, filters);
    });
  }

  template <int kRows, int kCols>
  __attribute__((noinline)) void transform_output(const TileRun& run, int k0, int filters) {
    constexpr int kAcross = kCols + kTaps - 1;
    const int rows = pass_.rows - run.row, columns = pass_.columns - run.column;  // those that are left
    const std::int64_t per_row = std::int64_t{pass_.columns} * pass_.images;
    const int first = first_filter_ + k0;
    std::int64_t at = first * per_filter_ + run.row * per_row + std::int64_t{run.column} * pass_.images + run.image;
    const float* from = products_ + run.first * kVec;
    for (int k = 0; k < filters; ++k, at += per_filter_, from += kColumns) {
      for (int v = 0; v < run.vectors; ++v) {
        Vec half[kRows][kAcross];
        SIMT_UNROLL
        for (int j = 0; j < kAcross; ++j)
          transform<kRows, kTaps, Matrix::kOutput, Vec>(
              [&](int i) {
                const int frequency = point_of<kPixels, kTaps>(kRows, i) * kPoints + point_of<kPixels, kTaps>(kCols, j);
                return simt::load<kVec>(from + frequency * product_stride_ + v * kVec);
              },
              [&](int i, Vec x) { half[i][j] = x; });
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i)
          transform<kCols, kTaps, Matrix::kOutput, Vec>([&](int j) { return half[i][j]; },
                                                        [&](int j, Vec sums) {
                                                          if (i >= rows || j >= columns) return;
                                                          store(first + k, at + i * per_row + std::int64_t{j} * pass_.images + v * kVec,
                                                                sums);
                                                        });
      }
    }
  }

  void store(int filter, std::int64_t at, Vec sums) const { simt::store<kVec>(y_ + at, last_.finish(filter, at, sums)); }

  const Pass& pass_;
  const Blocking& blocking_;
  float* y_;
  const float *x_, *u_;
  const Finish& last_;
  const std::int64_t per_channel_, per_filter_;
  const int input_stride_, product_stride_;  // from one frequency to the next, off multiples of a page
  float *const input_, *const products_;     // [frequency][channel or filter][column]
  Columns columns_{};
  int first_filter_ = 0;
};

template <int kPixels, int kTaps, class Finish>
__global__ void convolution_kernel(float* y, const float* x, const float* u, Finish last, Pass pass, Blocking blocking) {
  Convolution<kPixels, kTaps, Finish>(y, x, u, last, pass, blocking, simt::shared_memory<float>())
      .run(static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(gridDim.y), static_cast<int>(blockIdx.z));
}

}  // namespace

template <class Finish>
void convolve(float* y, const float* x, const float* u, const Finish& last, const Pass& pass, StreamHandle stream) {
  with_taps(pass.taps, [&](auto pixels, auto taps) {
    const Blocking blocking = Blocking::of(pass);
    const std::size_t bytes = Convolution<pixels, taps, Finish>::shared_floats(blocking) * sizeof(float);
    simt::launch(
        convolution_kernel<pixels, taps, Finish>,
        dim3(static_cast<unsigned>(blocking.column_blocks), static_cast<unsigned>(blocking.parts), static_cast<unsigned>(pass.groups)), 1,
        bytes, stream, y, x, u, last, pass, blocking);
  });
}

template void convolve(float*, const float*, const float*, const AddBias&, const Pass&, StreamHandle);
template void convolve(float*, const float*, const float*, const MaskGradient<float>&, const Pass&, StreamHandle);

}  // namespace pyalexnet::winograd
#endif
