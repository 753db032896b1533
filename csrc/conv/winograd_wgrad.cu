// Winograd's convolution, weight gradient. A task sums one row of frequencies of some channels and filters over all tiles and images, or
// over a piece of them: its sums stay in the L2 cache, and of both transforms it computes that row alone. A second kernel adds the pieces
// in a fixed order and transforms the sums back.
#if !defined(__CUDACC__)
#include "conv/blocking.hpp"
#include "conv/winograd_panel.cuh"

namespace pyalexnet::winograd {
namespace {

constexpr int kVec = RegisterTile::kVec, kPanel = RegisterTile::kRows, kColumns = RegisterTile::kColumns;
using Vec = simt::Vec<kVec>;

/// A step multiplies up to kStepVectors vectors of images, of one tile or of several.
constexpr int kDepth = 64, kStepVectors = kDepth / kVec;
/// Channels that are transformed at once.
constexpr int kChunk = 32;

/// How the sums are divided into tasks: by their sizes and the L2 cache, so that results do not depend on the number of threads.
struct Tasks {
  int points;             // rows of frequencies
  int channels, filters;  // of a task: whole panels, whole register tiles
  int channel_blocks, filter_blocks;
  int pieces;     // of the sum over tiles and images
  Tiling tiling;  // of dy

  static Tasks of(const Pass& pass) {
    const int pixels = tile_pixels(pass.taps), points = pixels + pass.taps - 1;
    Tasks best{points, 0, 0, 0, 0, 1, Tiling::of(pass.rows, pass.columns, pixels, pass.taps)};
    // Sums fill some 45 % of the cache. Of the blocks that fit, those with the fewest pixels to read.
    const auto fit = static_cast<int>(simt::l2_bytes() * 9 / 20 / (std::int64_t{points} * 4));
    std::int64_t fewest = 0;
    for (int channels = simt::min(simt::round_up(pass.channels, kPanel), fit / kColumns / kPanel * kPanel); channels > 0;
         channels -= kPanel) {
      const int channel_blocks = simt::ceil_div(pass.channels, channels);
      const int filter_blocks = simt::ceil_div(pass.filters, fit / channels / kColumns * kColumns);
      const std::int64_t pixels_read = std::int64_t{filter_blocks} * pass.channels * points * points +
                                       std::int64_t{channel_blocks} * pass.filters * pixels * pixels * 2;  // transposed as well
      if (fewest > 0 && pixels_read >= fewest) continue;
      fewest = pixels_read;
      best.channels = simt::round_up(simt::ceil_div(pass.channels, channel_blocks), kPanel);
      best.filters = simt::round_up(simt::ceil_div(pass.filters, filter_blocks), kColumns);
      best.channel_blocks = simt::ceil_div(pass.channels, best.channels);
      best.filter_blocks = simt::ceil_div(pass.filters, best.filters);
    }
    constexpr int kTasks = 24, kStepsOfPiece = 8;
    const std::int64_t tasks = std::int64_t{points} * best.channel_blocks * best.filter_blocks * pass.groups;
    const std::int64_t steps = std::int64_t{best.tiling.rows.tiles} * best.tiling.columns.tiles * (pass.images / kVec) / kStepVectors;
    best.pieces = static_cast<int>(std::max<std::int64_t>(1, std::min(simt::ceil_div<std::int64_t>(kTasks, tasks), steps / kStepsOfPiece)));
    return best;
  }

  std::int64_t count() const { return std::int64_t{points} * pieces * channel_blocks * filter_blocks; }
  std::int64_t index(int row, int piece, int channel_block, int filter_block) const {
    return (std::int64_t{row * pieces + piece} * channel_blocks + channel_block) * filter_blocks + filter_block;
  }
  /// Floats of a task's sums: [column of frequencies][panel of filters][channel][filter of the panel].
  std::int64_t floats() const { return std::int64_t{points} * channels * filters; }
};

/// A step's vectors.
using Step = TileGroup<kStepVectors>;

/// Channels of a step's transformed input, each with its images.
struct InputRows {
  const float* at;
  float operator()(int i) const { return at[i * kDepth]; }
  void next(int) { ++at; }
};

/// A row of a 1-D transform down the rows of a tile: factors that are not 0, and the array's rows that they multiply. Rows outside are
/// zeros.
struct Terms {
  static constexpr int kMost = 7;
  int count = 0;
  int row[kMost];
  float factor[kMost];
};

/// Calls f with the number of terms, up to kMost, as a constant.
template <int kMost, class F>
__forceinline__ void with_count(int count, F f) {
  if constexpr (kMost > 0) {
    if (count < kMost) return with_count<kMost - 1>(count, f);
  }
  f(std::integral_constant<int, kMost>{});
}

// Computes  D[i][j] = sum over tiles, images of (B^T x B)[i][j] (A dy A^T)[i][j], of each channel and filter, for one i
// Layout    x (C, H, W, N), dy (K, P, Q, N), d [group][task] as Tasks says
// Mapping   blockIdx.x is a task, blockIdx.z the group. One thread
// Cost      3.4 to 4.6 times fewer FLOP than the direct product; x and dy are read once a row of frequencies: bound by FMA and by L3
template <int kPixels, int kTaps>
class WeightGradient {
  static constexpr int kPoints = kPixels + kTaps - 1;
  static constexpr int kInputStride = kChunk * kDepth + kVec;  // from one frequency to the next, off multiples of a page

 public:
  WeightGradient(float* d, const float* x, const float* dy, const Pass& pass, const Tasks& tasks, float* shared)
      : pass_(pass), tasks_(tasks), d_(d), x_(x), dy_(dy), per_channel_(std::int64_t{pass.height} * pass.width * pass.images),
        per_filter_(std::int64_t{pass.rows} * pass.columns * pass.images), gradient_stride_(tasks.filters * kDepth + kVec), input_(shared),
        gradient_(shared + kPoints * kInputStride) {}

  /// Floats of shared memory.
  static std::size_t shared_floats(const Tasks& tasks) {
    return std::size_t{kPoints} * (kInputStride + static_cast<std::size_t>(tasks.filters) * kDepth + kVec);
  }

  void run(int task, int group) {
    const int filter_block = task % tasks_.filter_blocks, rest = task / tasks_.filter_blocks;
    const int channel_block = rest % tasks_.channel_blocks, part = rest / tasks_.channel_blocks;
    const int piece = part % tasks_.pieces;
    row_ = part / tasks_.pieces;
    d_ += (std::int64_t{group} * tasks_.count() + task) * tasks_.floats();
    std::memset(d_, 0, static_cast<std::size_t>(tasks_.floats()) * sizeof(float));
    const int c0 = channel_block * tasks_.channels, k0 = filter_block * tasks_.filters;
    channels_ = simt::min(tasks_.channels, pass_.channels - c0);
    filters_ = simt::min(tasks_.filters, pass_.filters - k0);
    x_ += (std::int64_t{group} * pass_.channels + c0) * per_channel_;
    dy_ += (std::int64_t{group} * pass_.filters + k0) * per_filter_;
    const int kinds = row_ == kPoints - 2 ? 2 : 4;  // small tiles lack the last point but one
    const std::int64_t steps = Step::count(tasks_.tiling, pass_.images / kVec, kinds);
    const auto first = static_cast<int>(steps * piece / tasks_.pieces), last = static_cast<int>(steps * (piece + 1) / tasks_.pieces);
    for (int index = first; index < last; ++index) {
      const Step step = Step::at(tasks_.tiling, pass_.images / kVec, kPixels, index);
      transform_gradient(step);
      for (int c = 0; c < channels_; c += kChunk) {
        const int channels = simt::min(kChunk, channels_ - c);
        transform_input(step, c, channels);
        multiply(step, c, channels);
      }
    }
  }

 private:
  /// Terms of this task's row, of an array whose row `first` is the tile's first.
  template <Matrix kMatrix>
  Terms terms(bool small, int first, int height) const {
    return small ? terms_of<kPixels - 1, kMatrix>(first, height) : terms_of<kPixels, kMatrix>(first, height);
  }
  template <int kTileRows, Matrix kMatrix>
  Terms terms_of(int first, int height) const {
    Terms terms;
    const int point = row_ == kPoints - 1 ? kTileRows + kTaps - 2 : row_;
    for (int i = 0; i < columns_of<kTileRows, kTaps, kMatrix>(); ++i) {
      const float factor = element<kTileRows, kTaps, kMatrix>(point, i);
      const int row = first + i;
      if (factor == 0 || static_cast<unsigned>(row) >= static_cast<unsigned>(height)) continue;
      terms.row[terms.count] = row;
      terms.factor[terms.count++] = factor;
    }
    return terms;
  }

  void transform_input(const Step& step, int c0, int channels) {
    for (int i = 0; i < step.runs; ++i) {
      const TileRun& run = step.run[i];
      const Terms terms = this->terms<Matrix::kInput>((step.kind & 2) != 0, run.row - pass_.pad, pass_.height);
      with_count<kPoints>(terms.count, [&](auto count) {
        if ((step.kind & 1) != 0)
          transform_input<kPixels - 1, count>(terms, run, c0, channels);
        else
          transform_input<kPixels, count>(terms, run, c0, channels);
      });
    }
  }

  template <int kCols, int kCount>
  __attribute__((noinline)) void transform_input(const Terms& terms, const TileRun& run, int c0, int channels) {
    const int column = run.column - pass_.pad, images = pass_.images;
    const float* from[kCount + 1];
    for (int t = 0; t < kCount; ++t)
      from[t] = x_ + c0 * per_channel_ + (std::int64_t{terms.row[t]} * pass_.width + column) * images + run.image;
    float* to = input_ + run.first * kVec;
    for (int c = 0; c < channels; ++c, to += kDepth) {
      for (int v = 0; v < run.vectors; ++v) {
        transform<kCols, kTaps, Matrix::kInput, Vec>(
            [&](int j) {
              Vec sum(0.0f);
              if (static_cast<unsigned>(column + j) >= static_cast<unsigned>(pass_.width)) return sum;
              SIMT_UNROLL
              for (int t = 0; t < kCount; ++t)
                sum = simt::fma(terms.factor[t], simt::load<kVec>(from[t] + std::int64_t{j} * images + v * kVec), sum);
              return sum;
            },
            [&](int j, Vec x) { simt::store<kVec>(to + point_of<kPixels, kTaps>(kCols, j) * kInputStride + v * kVec, x); });
      }
      SIMT_UNROLL
      for (int t = 0; t < kCount; ++t) from[t] += per_channel_;
    }
  }

  void transform_gradient(const Step& step) {
    for (int i = 0; i < step.runs; ++i) {
      const TileRun& run = step.run[i];
      const Terms terms = this->terms<Matrix::kGradient>((step.kind & 2) != 0, run.row, pass_.rows);
      with_count<kPixels>(terms.count, [&](auto count) {
        if ((step.kind & 1) != 0)
          transform_gradient<kPixels - 1, count>(terms, run);
        else
          transform_gradient<kPixels, count>(terms, run);
      });
    }
  }

  /// Rows of vectors of images become rows of vectors of filters. Filters past the last one read its gradient again.
  template <int kCols, int kCount>
  __attribute__((noinline)) void transform_gradient(const Terms& terms, const TileRun& run) {
    const int images = pass_.images, columns = pass_.columns - run.column;  // those that are left
    std::int64_t offset[kCount + 1];
    for (int t = 0; t < kCount; ++t) offset[t] = (std::int64_t{terms.row[t]} * pass_.columns + run.column) * images + run.image;
    Vec half[kStepVectors][kCols][kVec];
    for (int k = 0; k < filters_; k += kVec) {
      for (int f = 0; f < kVec; ++f) {
        const float* from = dy_ + simt::min(k + f, filters_ - 1) * per_filter_;
        for (int v = 0; v < run.vectors; ++v) {
          SIMT_UNROLL
          for (int j = 0; j < kCols; ++j) {
            Vec sum(0.0f);
            if (j < columns) {
              SIMT_UNROLL
              for (int t = 0; t < kCount; ++t)
                sum = simt::fma(terms.factor[t], simt::load<kVec>(from + offset[t] + std::int64_t{j} * images + v * kVec), sum);
            }
            half[v][j][f] = sum;
          }
        }
      }
      float* to = gradient_ + k / kColumns * kColumns * kDepth + k % kColumns + run.first * kVec * kColumns;
      for (int v = 0; v < run.vectors; ++v) {
        SIMT_UNROLL
        for (int j = 0; j < kCols; ++j) simt::transpose(half[v][j]);
        for (int i = 0; i < kVec; ++i, to += kColumns)
          transform<kCols, kTaps, Matrix::kGradient, Vec>(
              [&](int j) { return half[v][j][i]; },
              [&](int j, Vec x) { simt::store<kVec>(to + point_of<kPixels, kTaps>(kCols, j) * gradient_stride_, x); });
      }
    }
  }

  void multiply(const Step& step, int c0, int channels) {
    const std::int64_t per_panel = std::int64_t{tasks_.channels} * kColumns;
    const int panels = tasks_.filters / kColumns, depth = step.vectors * kVec;
    for (int j = 0; j < kPoints; ++j) {
      if (j == kPoints - 2 && (step.kind & 1) != 0) continue;
      for (int k = 0; k < filters_; k += kColumns) {
        const float* b = gradient_ + j * gradient_stride_ + k * kDepth;
        float* sums = d_ + (j * panels + k / kColumns) * per_panel + std::int64_t{c0} * kColumns;
        for (int c = 0; c < channels; c += kPanel)
          multiply_panel<true>(simt::ceil_div(filters_ - k, kVec), InputRows{input_ + j * kInputStride + c * kDepth}, b,
                               sums + c * kColumns, depth);
      }
    }
  }

  const Pass& pass_;
  const Tasks& tasks_;
  float* d_;
  const float *x_, *dy_;
  const std::int64_t per_channel_, per_filter_;
  const int gradient_stride_;  // from one frequency to the next, off multiples of a page
  float* const input_;         // [frequency][channel of the chunk][image of the step]
  float* const gradient_;      // [frequency][panel of filters][image of the step][filter of the panel]
  int row_ = 0, channels_ = 0, filters_ = 0;
};

template <int kPixels, int kTaps>
__global__ void weight_gradient_kernel(float* d, const float* x, const float* dy, Pass pass, Tasks tasks) {
  WeightGradient<kPixels, kTaps>(d, x, dy, pass, tasks, simt::shared_memory<float>())
      .run(static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.z));
}

constexpr int kChannelsPerBlock = 16;

// Computes  dw = G^T D G, D being the sum of its pieces, first to last
// Layout    d [group][task] as Tasks says, dw (C/G, R, R, K)
// Mapping   blockIdx.x is a panel of filters of kChannelsPerBlock channels, blockIdx.z the group. One thread
// Cost      4 (pieces points^2 + R^2) bytes a channel and filter: bound by memory
template <int kPixels, int kTaps>
__global__ void back_kernel(float* dw, const float* d, Pass pass, Tasks tasks) {
  constexpr int kPoints = kPixels + kTaps - 1;
  const int panels = tasks.filters / kColumns, all_panels = tasks.filter_blocks * panels;
  const int panel = static_cast<int>(blockIdx.x) % all_panels, group = static_cast<int>(blockIdx.z);
  const int first = static_cast<int>(blockIdx.x) / all_panels * kChannelsPerBlock;
  const int per_tap = pass.groups * pass.filters;
  const std::int64_t per_point = std::int64_t{panels} * tasks.channels * kColumns;
  d += group * tasks.count() * tasks.floats();
  for (int c = first; c < simt::min(first + kChannelsPerBlock, pass.channels); ++c) {
    const std::int64_t at = (std::int64_t{panel % panels} * tasks.channels + c % tasks.channels) * kColumns;
    for (int k = panel * kColumns, v = 0; v < RegisterTile::kVecs && k < pass.filters; ++v, k += kVec) {
      Vec half[kTaps][kPoints];
      for (int j = 0; j < kPoints; ++j)
        transform<kPixels, kTaps, Matrix::kFilterGradient, Vec>(
            [&](int i) {
              Vec sum(0.0f);
              for (int piece = 0; piece < tasks.pieces; ++piece) {
                const std::int64_t task = tasks.index(i, piece, c / tasks.channels, panel / panels);
                const Vec part = simt::load<kVec>(d + task * tasks.floats() + j * per_point + at + v * kVec);
                sum = piece == 0 ? part : sum + part;
              }
              return sum;
            },
            [&](int r, Vec x) { half[r][j] = x; });
      float* to = dw + std::int64_t{c} * kTaps * kTaps * per_tap + group * pass.filters + k;
      for (int r = 0; r < kTaps; ++r)
        transform<kPixels, kTaps, Matrix::kFilterGradient, Vec>([&](int j) { return half[r][j]; },
                                                                [&](int s, Vec x) {
                                                                  float* out = to + (r * kTaps + s) * std::int64_t{per_tap};
                                                                  if (pass.filters - k >= kVec)
                                                                    simt::store<kVec>(out, x);
                                                                  else
                                                                    simt::store_first<kVec>(out, pass.filters - k, x);
                                                                });
    }
  }
}

}  // namespace

std::size_t weight_gradient_floats(const Pass& pass) {
  const Tasks tasks = Tasks::of(pass);
  return static_cast<std::size_t>(pass.groups) * static_cast<std::size_t>(tasks.count()) * static_cast<std::size_t>(tasks.floats());
}

void weight_gradient(float* dw, const float* x, const float* dy, float* workspace, const Pass& pass, StreamHandle stream) {
  const Tasks tasks = Tasks::of(pass);
  const auto groups = static_cast<unsigned>(pass.groups);
  with_taps(pass.taps, [&](auto pixels, auto taps) {
    simt::launch(weight_gradient_kernel<pixels, taps>, dim3(simt::grid_extent(tasks.count()), 1, groups), 1,
                 WeightGradient<pixels, taps>::shared_floats(tasks) * sizeof(float), stream, workspace, x, dy, pass, tasks);
    const std::int64_t panels = std::int64_t{tasks.filter_blocks} * (tasks.filters / kColumns);
    const unsigned blocks = simt::grid_extent(panels * simt::ceil_div(pass.channels, kChannelsPerBlock));
    simt::launch(back_kernel<pixels, taps>, dim3(blocks, 1, groups), 1, 0, stream, dw, workspace, pass, tasks);
  });
}

}  // namespace pyalexnet::winograd
#endif
