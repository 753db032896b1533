// The border between the users' images and the net: crop, mirror, mean subtraction, uint8 NHWC to float CHWN.
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

/// Rows of staged elements are this much longer than the tile, against conflicts of banks (GPU) and cache sets (CPU).
constexpr int kStagingPad = 16;

/// One element of the crop, scaled; 0 outside the stored image.
struct CropReader {
  const std::uint8_t* images;
  const float *mean, *scale;
  AugmentShape shape;

  /// Crop row i, column j, channel c of image n.
  __device__ __forceinline__ float read(const std::int32_t* crop, int n, int i, int j, int c) const {
    const int row = crop[0] + i, column = crop[1] + (crop[2] != 0 ? shape.w - 1 - j : j);
    if (row < 0 || row >= shape.H || column < 0 || column >= shape.W) return 0.0f;
    const std::int64_t pixel = (std::int64_t{row} * shape.W + column) * shape.C + c;
    const std::int64_t image = std::int64_t{shape.H} * shape.W * shape.C;
    return (static_cast<float>(images[n * image + pixel]) - mean[pixel]) * scale[c];
  }
};

// Computes  x[c,i,j,n] = (image_n[r,q,c] - mean[r,q,c]) scale[c], r = row_n + i, q = column_n + j or, mirrored, column_n + w - 1 - j;
//           0 outside the image and for n >= B (paper, 2 and 4.1)
// Layout    images (B, H, W, C) uint8; crops (B, 3): row, column, mirror; mean (H, W, C); scale (C); x (C, h, w, N)
// Mapping   a block has row i = blockIdx.y of T::kAugmentImages images, and T::kAugmentElements of that row's w C elements: read along
//           each image's row into shared memory, transposed in registers, written along images
// Cost      2 FLOP, 9 bytes an element (the mean is shared by images): bound by memory on a GPU, by arithmetic on a CPU
template <class T>
__global__ void __launch_bounds__(T::kThreads)
    augment_kernel(float* x, CropReader reader, const std::int32_t* crops, int B, int N, simt::FastDiv channels, int h) {
  constexpr int W = T::kVec, kImages = T::kAugmentImages, kElements = T::kAugmentElements;
  auto* staged = simt::shared_memory<float[kElements + kStagingPad]>();  // a row for each image
  const int C = channels.divisor(), w = reader.shape.w;
  const int i = static_cast<int>(blockIdx.y);
  const int blocks_across = simt::ceil_div(w * C, kElements);
  const int first_element = static_cast<int>(blockIdx.x) % blocks_across * kElements;
  const int first_image = static_cast<int>(blockIdx.x) / blocks_across * kImages;
  for (int m = static_cast<int>(threadIdx.y); m < kImages; m += static_cast<int>(blockDim.y)) {
    const int n = first_image + m;
    for (int e = static_cast<int>(threadIdx.x); e < kElements; e += static_cast<int>(blockDim.x)) {
      int c;
      const int j = channels.split(first_element + e, c);
      staged[m][e] = n < B && j < w ? reader.read(crops + 3 * n, n, i, j, c) : 0.0f;
    }
  }
  __syncthreads();
  constexpr int kAcross = kImages / W;
  const int t = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int piece = t; piece < kAcross * (kElements / W); piece += static_cast<int>(blockDim.x * blockDim.y)) {
    const int m = piece % kAcross * W, e = piece / kAcross * W;
    if (first_image + m >= N) continue;
    simt::Vec<W> rows[W];
    SIMT_UNROLL
    for (int k = 0; k < W; ++k) rows[k] = simt::load<W>(&staged[m + k][e]);
    transpose(rows);
    SIMT_UNROLL
    for (int k = 0; k < W; ++k) {
      int c;
      const int j = channels.split(first_element + e + k, c);
      if (j < w) simt::store<W>(x + ((std::int64_t{c} * h + i) * w + j) * N + first_image + m, rows[k]);
    }
  }
}

}  // namespace

void augment(float* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale,
             const AugmentShape& shape, StreamHandle stream) {
  if (std::int64_t{shape.w} * shape.C > 0x3fffffff)
    throw std::invalid_argument("x has rows of " + std::to_string(shape.w) + " pixels; they must have fewer than 2^30 elements");
  with_target([&](auto target) {
    using T = decltype(target);
    static_assert(T::kAugmentImages % T::kVec == 0 && T::kAugmentElements % T::kVec == 0, "augment: a tile has whole vectors");
    static_assert(T::kThreads % T::kAugmentThreads == 0, "augment: threads form a rectangle");
    const std::int64_t blocks =
        std::int64_t{simt::ceil_div(shape.w * shape.C, T::kAugmentElements)} * simt::ceil_div(shape.N, T::kAugmentImages);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.h));
    const dim3 block(T::kAugmentThreads, T::kThreads / T::kAugmentThreads);
    const CropReader reader{images, mean, scale, shape};
    const std::size_t shared_bytes = sizeof(float) * T::kAugmentImages * (T::kAugmentElements + kStagingPad);
    simt::launch(augment_kernel<T>, grid, block, shared_bytes, stream_of(stream), x, reader, crops, shape.B, shape.N,
                 simt::FastDiv(shape.C), shape.h);
  });
}

}  // namespace pyalexnet
