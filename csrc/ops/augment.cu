// From stored images to the net's input: crop, mirror, mean subtraction, colour noise, uint8 NHWC to float CHWN.
#include "ops/elementwise.cuh"

namespace pyalexnet {
namespace {

/// A block's tile: kImages images by kElements elements of a row. kThreadsAcross of its threads lie along the elements.
template <class Target>
struct AugmentTile {
  static constexpr int kImages = Target::kOnGpu ? 32 : 128, kElements = Target::kOnGpu ? 128 : 64;
  static constexpr int kThreadsAcross = Target::kOnGpu ? 32 : 1;
};

/// Padding of a staged row, against conflicts of banks (GPU) and cache sets (CPU).
constexpr int kStagingPad = 16;

/// Lookup tables for the elements of the tile, in shared memory.
template <class Target>
struct AugmentTables {
  float scale[AugmentTile<Target>::kElements];
  int mirror_offset[AugmentTile<Target>::kElements];    // offset of the element in a mirrored row, relative to the last pixel
  int shift_row[AugmentTile<Target>::kElements];        // index of its channel's row in `shifts`
  std::int64_t result[AugmentTile<Target>::kElements];  // where its images begin in x
};

/// Shifts of the tile's images, one row per channel in the tile; null for none.
template <class Target>
using Shifts = float (*)[AugmentTile<Target>::kImages];

/// A row of a stored image as the crop reads it. Element e, channel e % C of pixel e / C, is at start + e or, mirrored, start +
/// mirror_offset.
struct CropRow {
  const std::uint8_t* pixels;
  const float* mean;
  std::int64_t start, elements;
  int channels;
  bool mirrored;

  /// Writes pixel - mean for the W elements from the tile's element e on, the first of which is `element` of the row. Outside the image it
  /// writes -shift of image m, so that adding the shift gives 0.
  template <int W, class Target>
  __device__ __forceinline__ void read(float* to, int element, int e, const AugmentTables<Target>& tables, Shifts<Target> shifts,
                                       int m) const {
    const std::int64_t first = start + element;
    if (!mirrored && first >= 0 && first + W <= elements) {
      simt::Vec<W> means;
      if constexpr (Target::kOnGpu)
        means = simt::load_first<W>(mean + first, W);  // of any alignment
      else
        means = simt::load<W>(mean + first);
      simt::store<W>(to, simt::load_bytes<W>(pixels + first) - means);
      return;
    }
    const std::int64_t reach = channels - 1;  // from the ends, either way
    if (mirrored && start + tables.mirror_offset[e] + reach < elements && start + tables.mirror_offset[e + W - 1] >= reach) {
      SIMT_UNROLL
      for (int i = 0; i < W; ++i) {
        const std::int64_t at = start + tables.mirror_offset[e + i];
        to[i] = static_cast<float>(pixels[at]) - mean[at];
      }
      return;
    }
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) {
      const std::int64_t at = mirrored ? start + tables.mirror_offset[e + i] : first + i;
      if (at >= 0 && at < elements)
        to[i] = static_cast<float>(pixels[at]) - mean[at];
      else
        to[i] = shifts == nullptr ? 0.0f : -shifts[tables.shift_row[e + i]][m];
    }
  }
};

/// Number of channels in a tile.
template <class Target>
__host__ __device__ constexpr int shift_rows(int channels) {
  return channels < AugmentTile<Target>::kElements ? channels : AugmentTile<Target>::kElements;
}

// Computes  x[c,i,j,n] = (image_n[r,q,c] - mean[r,q,c] + shifts[n,c]) scale[c], r = row_n + i, q = column_n + j or, mirrored,
//           column_n + w - 1 - j; 0 outside the image and for n >= B (paper, 2 and 4.1)
// Layout    images (B, H, W, C) uint8; crops (B, 3): row, column, mirror; mean (H, W, C); scale (C); shifts (B, C) or null for zeros;
//           x (C, h, w, N)
// Mapping   a block has row i = blockIdx.y of kImages images, and kElements of that row's w C elements. It reads them along each image's
//           row into shared memory, transposes them in registers, adds the shift, scales, and writes along images
// Cost      3 FLOP, 9 bytes an element (images share the mean): bound by memory on a GPU, by arithmetic on a CPU; where x is
//           large, it is stored past the caches
template <class Target, class T>
__global__ void __launch_bounds__(Target::kThreads)
    augment_kernel(T* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale, const float* shifts,
                   AugmentShape shape, simt::FastDiv channels, bool streaming) {
  constexpr int W = Target::kVec, kImages = AugmentTile<Target>::kImages, kElements = AugmentTile<Target>::kElements;
  auto* staged = simt::shared_memory<float[kElements + kStagingPad]>();  // one row per image
  auto& tables = *reinterpret_cast<AugmentTables<Target>*>(staged + kImages);
  auto* const shifts_of = shifts == nullptr ? nullptr : reinterpret_cast<Shifts<Target>>(&tables + 1);
  const int C = shape.C, N = shape.N, w = shape.w;
  const int i = static_cast<int>(blockIdx.y);
  const int blocks_across = simt::ceil_div(w * C, kElements);
  const int first_element = static_cast<int>(blockIdx.x) % blocks_across * kElements;
  const int elements = w * C - first_element < kElements ? w * C - first_element : kElements;
  const int first_image = static_cast<int>(blockIdx.x) / blocks_across * kImages;
  const int tile_images = simt::min(kImages, N - first_image);
  const int t = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int e = t; e < kElements; e += Target::kThreads) {
    int c;
    const int j = channels.split(first_element + e, c);
    tables.scale[e] = scale[c];
    tables.result[e] = ((std::int64_t{c} * shape.h + i) * w + j) * N;
    tables.mirror_offset[e] = 2 * c - first_element - e;
    channels.split(e, tables.shift_row[e]);
  }
  for (int k = t; shifts_of != nullptr && k < shift_rows<Target>(C) * kImages; k += Target::kThreads) {
    const int m = k % kImages, n = first_image + m;
    int c;
    channels.split(first_element + k / kImages, c);
    shifts_of[k / kImages][m] = n < shape.B ? shifts[std::int64_t{n} * C + c] : 0.0f;
  }
  __syncthreads();
  const std::int64_t row_elements = std::int64_t{shape.W} * C;
  for (int m = static_cast<int>(threadIdx.y); m < tile_images; m += static_cast<int>(blockDim.y)) {
    const int n = first_image + m;
    CropRow row{nullptr, nullptr, 0, 0, C, false};  // reads nothing, for n >= B
    if (n < shape.B) {
      const std::int64_t r = std::int64_t{crops[3 * n]} + i;
      row.mirrored = crops[3 * n + 2] != 0;
      row.start = (std::int64_t{crops[3 * n + 1]} + (row.mirrored ? w - 1 : 0)) * C;
      if (r >= 0 && r < shape.H)
        row = {images + (n * std::int64_t{shape.H} + r) * row_elements, mean + r * row_elements, row.start, row_elements, C, row.mirrored};
    }
    for (int e = static_cast<int>(threadIdx.x) * W; e < elements; e += static_cast<int>(blockDim.x) * W)
      row.read<W>(&staged[m][e], first_element + e, e, tables, shifts_of, m);
  }
  __syncthreads();
  const int across = tile_images / W;
  for (int piece = t; piece < across * simt::ceil_div(elements, W); piece += Target::kThreads) {
    const int m = piece % across * W, e = piece / across * W;
    simt::Vec<W> rows[W];
    SIMT_UNROLL
    for (int k = 0; k < W; ++k) rows[k] = simt::load<W>(&staged[m + k][e]);
    transpose(rows);
    SIMT_UNROLL
    for (int k = 0; k < W; ++k) {
      if (e + k >= elements) continue;
      if (shifts_of != nullptr) rows[k] = rows[k] + simt::load<W>(&shifts_of[tables.shift_row[e + k]][m]);
      store<W>(x + tables.result[e + k] + first_image + m, rows[k] * simt::Vec<W>(tables.scale[e + k]), streaming);
    }
  }
  simt::streaming_fence();
}

}  // namespace

template <class T>
void augment(T* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale, const float* shifts,
             const AugmentShape& shape, StreamHandle stream) {
  const simt::Range range(__func__);
  if (std::int64_t{shape.w} * shape.C > 0x3fffffff)
    throw std::invalid_argument("x has rows of " + std::to_string(shape.w) + " pixels; expected fewer than 2^30 elements per row");
  if (shape.h > static_cast<int>(simt::kMaxGridYZ))  // rows are the grid's second axis
    throw std::invalid_argument("x has " + std::to_string(shape.h) + " rows; expected at most " + std::to_string(simt::kMaxGridYZ));
  if (shape.B > kMaxIndex / 3)  // crops are three numbers an image
    throw std::invalid_argument("images has " + std::to_string(shape.B) + " images; expected at most " + std::to_string(kMaxIndex / 3));
  with_target([&](auto target) {
    using Target = decltype(target);
    static_assert(AugmentTile<Target>::kImages % Target::kVec == 0 && AugmentTile<Target>::kElements % Target::kVec == 0,
                  "augment: a tile has whole vectors");
    static_assert(Target::kThreads % AugmentTile<Target>::kThreadsAcross == 0, "augment: threads form a rectangle");
    const std::int64_t blocks = std::int64_t{simt::ceil_div(shape.w * shape.C, AugmentTile<Target>::kElements)} *
                                simt::ceil_div(shape.N, AugmentTile<Target>::kImages);
    const dim3 grid(simt::grid_extent(blocks), static_cast<unsigned>(shape.h));
    const dim3 block(AugmentTile<Target>::kThreadsAcross, Target::kThreads / AugmentTile<Target>::kThreadsAcross);
    const std::size_t floats = AugmentTile<Target>::kImages *
                               (AugmentTile<Target>::kElements + kStagingPad + (shifts == nullptr ? 0 : shift_rows<Target>(shape.C)));
    const std::size_t shared_bytes = sizeof(float) * floats + sizeof(AugmentTables<Target>);
    simt::launch(augment_kernel<Target, T>, grid, block, shared_bytes, stream, x, images, crops, mean, scale, shifts, shape,
                 simt::FastDiv(shape.C), streams<Target>(x, std::int64_t{shape.C} * shape.h * shape.w * shape.N));
  });
}

template void augment(float*, const std::uint8_t*, const std::int32_t*, const float*, const float*, const float*, const AugmentShape&,
                      StreamHandle);

}  // namespace pyalexnet
