// The border between the users' images and the net: crop, mirror, mean subtraction, colour noise, uint8 NHWC to float CHWN.
#include "ops/vectors.cuh"

namespace pyalexnet {
namespace {

/// Rows of staged elements are this much longer than the tile, against conflicts of banks (GPU) and cache sets (CPU).
constexpr int kStagingPad = 16;

/// What the block's threads look up for each element of the tile.
template <class T>
struct AugmentTables {
  float scale[T::kAugmentElements];
  int turned[T::kAugmentElements];  // its place in a mirrored row, from the first element of the last pixel
  int slot[T::kAugmentElements];    // the row of the shifts that its channel has
};

/// Shifts of the tile's images, a row for each channel that the tile has; null for none.
template <class T>
using Shifts = float (*)[T::kAugmentImages];

/// A row of a stored image as the crop sees it: element e, which is e % C of pixel e / C, is at start + e or, mirrored, start + turned.
struct CropRow {
  const std::uint8_t* pixels;
  const float* mean;
  std::int64_t start, elements;
  bool mirrored;

  /// Writes pixel - mean of W elements from the tile's `e` on, whose first is `element` of the row. Outside the image it is -shift of
  /// image m, so that adding the shift makes 0 of it.
  template <int W, class T>
  __device__ __forceinline__ void read(float* to, int element, int e, const AugmentTables<T>& tables, Shifts<T> shifts, int m) const {
    const std::int64_t first = start + element;
    if (!mirrored && first >= 0 && first + W <= elements) {
      simt::store<W>(to, simt::load_bytes<W>(pixels + first) - simt::load_first<W>(mean + first, W));
      return;
    }
    SIMT_UNROLL
    for (int i = 0; i < W; ++i) {
      const std::int64_t at = mirrored ? start + tables.turned[e + i] : first + i;
      if (at >= 0 && at < elements)
        to[i] = static_cast<float>(pixels[at]) - mean[at];
      else
        to[i] = shifts == nullptr ? 0.0f : -shifts[tables.slot[e + i]][m];
    }
  }
};

/// Channels that a tile has.
template <class T>
__host__ __device__ constexpr int shift_rows(int channels) {
  return channels < T::kAugmentElements ? channels : T::kAugmentElements;
}

// Computes  x[c,i,j,n] = (image_n[r,q,c] - mean[r,q,c] + shifts[n,c]) scale[c], r = row_n + i, q = column_n + j or, mirrored,
//           column_n + w - 1 - j; 0 outside the image and for n >= B (paper, 2 and 4.1)
// Layout    images (B, H, W, C) uint8; crops (B, 3): row, column, mirror; mean (H, W, C); scale (C); shifts (B, C) or null for zeros;
//           x (C, h, w, N)
// Mapping   a block has row i = blockIdx.y of T::kAugmentImages images, and T::kAugmentElements of that row's w C elements: read along
//           each image's row into shared memory, transposed in registers, shifted, scaled and written along images
// Cost      3 FLOP, 9 bytes an element (the mean is shared by images): bound by memory on a GPU, by arithmetic on a CPU
template <class T>
__global__ void __launch_bounds__(T::kThreads)
    augment_kernel(float* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale,
                   const float* shifts, AugmentShape shape, simt::FastDiv channels) {
  constexpr int W = T::kVec, kImages = T::kAugmentImages, kElements = T::kAugmentElements;
  auto* staged = simt::shared_memory<float[kElements + kStagingPad]>();  // a row for each image
  auto& tables = *reinterpret_cast<AugmentTables<T>*>(staged + kImages);
  auto* const shifts_of = shifts == nullptr ? nullptr : reinterpret_cast<Shifts<T>>(&tables + 1);
  const int C = shape.C, N = shape.N, w = shape.w;
  const int i = static_cast<int>(blockIdx.y);
  const int blocks_across = simt::ceil_div(w * C, kElements);
  const int first_element = static_cast<int>(blockIdx.x) % blocks_across * kElements;
  const int elements = w * C - first_element < kElements ? w * C - first_element : kElements;
  const int first_image = static_cast<int>(blockIdx.x) / blocks_across * kImages;
  const int t = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int e = t; e < kElements; e += T::kThreads) {
    int c;
    channels.split(first_element + e, c);
    tables.scale[e] = scale[c];
    tables.turned[e] = 2 * c - first_element - e;
    channels.split(e, tables.slot[e]);
  }
  for (int k = t; shifts_of != nullptr && k < shift_rows<T>(C) * kImages; k += T::kThreads) {
    const int m = k % kImages, n = first_image + m;
    int c;
    channels.split(first_element + k / kImages, c);
    shifts_of[k / kImages][m] = n < shape.B ? shifts[std::int64_t{n} * C + c] : 0.0f;
  }
  __syncthreads();
  const std::int64_t row_elements = std::int64_t{shape.W} * C;
  for (int m = static_cast<int>(threadIdx.y); m < kImages; m += static_cast<int>(blockDim.y)) {
    const int n = first_image + m;
    CropRow row{nullptr, nullptr, 0, 0, false};  // of an image that is not there
    if (n < shape.B) {
      const std::int64_t r = std::int64_t{crops[3 * n]} + i;
      row.mirrored = crops[3 * n + 2] != 0;
      row.start = (std::int64_t{crops[3 * n + 1]} + (row.mirrored ? w - 1 : 0)) * C;
      if (r >= 0 && r < shape.H)
        row = {images + (n * std::int64_t{shape.H} + r) * row_elements, mean + r * row_elements, row.start, row_elements, row.mirrored};
    }
    for (int e = static_cast<int>(threadIdx.x) * W; e < elements; e += static_cast<int>(blockDim.x) * W)
      row.read<W>(&staged[m][e], first_element + e, e, tables, shifts_of, m);
  }
  __syncthreads();
  constexpr int kAcross = kImages / W;
  for (int piece = t; piece < kAcross * simt::ceil_div(elements, W); piece += T::kThreads) {
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
      if (j >= w) continue;
      if (shifts_of != nullptr) rows[k] = rows[k] + simt::load<W>(&shifts_of[tables.slot[e + k]][m]);
      simt::store<W>(x + ((std::int64_t{c} * shape.h + i) * w + j) * N + first_image + m, rows[k] * simt::Vec<W>(tables.scale[e + k]));
    }
  }
}

}  // namespace

void augment(float* x, const std::uint8_t* images, const std::int32_t* crops, const float* mean, const float* scale, const float* shifts,
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
    const std::size_t floats = T::kAugmentImages * (T::kAugmentElements + kStagingPad + (shifts == nullptr ? 0 : shift_rows<T>(shape.C)));
    const std::size_t shared_bytes = sizeof(float) * floats + sizeof(AugmentTables<T>);
    simt::launch(augment_kernel<T>, grid, block, shared_bytes, stream_of(stream), x, images, crops, mean, scale, shifts, shape,
                 simt::FastDiv(shape.C));
  });
}

}  // namespace pyalexnet
