// Kernels for the tests of the host's execution model: what it guarantees, and what it catches.
#include "simt/selftest.hpp"
#include "simt/simt.cuh"

namespace simt {
namespace selftest {
namespace {

constexpr unsigned kMaxThreads = 40;  // more than a warp

// Computes  the inclusive prefix sums of a block's ints, by doubling distances
// Layout    out, in (blocks, blockDim.x)
// Mapping   one thread per element; a block shares static shared memory, with two barriers per round
// Cost      log2(blockDim.x) additions an element
__global__ void prefix_sum_kernel(std::int32_t* out, const std::int32_t* in) {
  __shared__ std::int32_t sums[12 * 1024];  // 48 KiB, all that CUDA grants to static shared memory
  const unsigned t = threadIdx.x;
  sums[t] = in[blockIdx.x * blockDim.x + t];
  for (unsigned distance = 1; distance < blockDim.x; distance *= 2) {
    __syncthreads();
    const std::int32_t other = t >= distance ? sums[t - distance] : 0;
    __syncthreads();
    sums[t] += other;
  }
  out[blockIdx.x * blockDim.x + t] = sums[t];
}

// Computes  for each warp: the sum of its values, by shuffles; the mask of its odd values, by a ballot; for each lane, the value of the
//           lane above (its own in the last lane) and of lane 3
// Layout    in, sums, above, third (threads); odd (threads)
// Mapping   a block of whole warps, one thread per value
// Cost      8 warp operations a value
__global__ void warp_kernel(std::int32_t* sums, std::int32_t* odd, std::int32_t* above, std::int32_t* third, const std::int32_t* in) {
  constexpr unsigned kAll = 0xffffffffu;
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  std::int32_t sum = in[i];
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAll, sum, mask);
  sums[i] = sum;
  odd[i] = static_cast<std::int32_t>(__ballot_sync(kAll, in[i] % 2 != 0));
  above[i] = __shfl_down_sync(kAll, in[i], 1);
  third[i] = __shfl_sync(kAll, in[i], 3);
}

// Computes  the six indices of every thread of a three-dimensional grid
// Layout    out (gridDim.z, gridDim.y, gridDim.x, blockDim.z, blockDim.y, blockDim.x, 6)
// Mapping   one thread per entry
// Cost      24 bytes a thread
__global__ void indices_kernel(std::int32_t* out) {
  const std::size_t block = (std::size_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const std::size_t thread = (std::size_t{threadIdx.z} * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  std::int32_t* to = out + (block * blockDim.x * blockDim.y * blockDim.z + thread) * 6;
  const unsigned indices[6] = {blockIdx.z, blockIdx.y, blockIdx.x, threadIdx.z, threadIdx.y, threadIdx.x};
  for (int i = 0; i < 6; ++i) to[i] = static_cast<std::int32_t>(indices[i]);
}

// Computes  counts[v] += 1 for each value v, and the maximum value
// Layout    values (threads); counts (values); maximum (1)
// Mapping   one thread per value
// Cost      two atomic operations a value
__global__ void atomics_kernel(std::int32_t* counts, std::int32_t* maximum, const std::int32_t* values) {
  const std::int32_t v = values[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(&counts[v], 1);
  atomicMax(maximum, v);
}

// Computes  out[i] = what thread i + 1 wrote, or -1 if it has not written yet: the barrier is missing on purpose
// Layout    out (blockDim.x)
// Mapping   one thread per element, each with one element of dynamic shared memory
// Cost      negligible
__global__ void missing_barrier_kernel(std::int32_t* out) {
  auto* shared = shared_memory<std::int32_t>();
  const unsigned t = threadIdx.x;
  shared[t] = -1;
  __syncthreads();
  shared[t] = static_cast<std::int32_t>(t);
  out[t] = shared[(t + 1) % blockDim.x];
}

// Computes  out = in, through shared memory by an asynchronous copy; if `waits` is false, the wait is missing on purpose
// Layout    out, in (blockDim.x, 4)
// Mapping   a thread copies four floats
// Cost      negligible
__global__ void copy_kernel(float* out, const float* in, bool waits) {
  auto* shared = shared_memory<float>();
  const unsigned i = 4 * threadIdx.x;
  copy_async<4>(shared + i, in + i);
  if (waits) copy_async_wait();
  store<4>(out + i, load<4>(shared + i));
}

// Computes  nothing: in the given block one thread waits at another barrier than the rest
// Layout    none
// Mapping   a block of two warps
// Cost      infinite, on a GPU
__global__ void deadlock_kernel(unsigned block) {
  if (blockIdx.x == block && threadIdx.x == 0) __syncwarp();
  __syncthreads();
}

// Computes  out[i] = what dynamic shared memory holds before the first write
// Layout    out (blockDim.x)
// Mapping   one thread per element
// Cost      negligible
__global__ void unwritten_kernel(float* out) { out[threadIdx.x] = shared_memory<float>()[threadIdx.x]; }

}  // namespace

namespace {

dim3 extent(const Extent& e) { return dim3(e[0], e[1], e[2]); }

/// Number of blocks of `threads` in `values`. Throws std::invalid_argument if they are not whole.
unsigned blocks_of(const Ints& values, unsigned threads) {
  if (threads < 1 || values.size() % threads != 0)
    throw std::invalid_argument("threads is " + std::to_string(threads) + "; expected a divisor of the number of values, " +
                                std::to_string(values.size()));
  return static_cast<unsigned>(values.size() / threads);
}

void check_threads(unsigned threads) {
  if (threads > kMaxThreadsPerBlock)
    throw std::invalid_argument("threads is " + std::to_string(threads) + "; expected at most " + std::to_string(kMaxThreadsPerBlock));
}

}  // namespace

Ints prefix_sum(const Ints& values, unsigned threads) {
  if (threads > kMaxThreads) throw std::invalid_argument("threads is " + std::to_string(threads) + "; expected at most 40");
  Ints sums(values.size());
  launch(prefix_sum_kernel, blocks_of(values, threads), threads, 0, nullptr, sums.data(), values.data());
  return sums;
}

std::vector<Ints> warp(const Ints& values, unsigned threads) {
  std::vector<Ints> results(4, Ints(values.size()));
  launch(warp_kernel, blocks_of(values, threads), threads, 0, nullptr, results[0].data(), results[1].data(), results[2].data(),
         results[3].data(), values.data());
  return results;
}

std::vector<std::array<std::int32_t, 6>> indices(Extent grid, Extent block) {
  std::size_t threads = 1;
  for (const std::size_t n : {grid[0], grid[1], grid[2], block[0], block[1], block[2]})
    if (threads = threads * n; threads > 1 << 24)
      throw std::invalid_argument("grid and block have too many threads; expected at most 2^24");
  std::vector<std::array<std::int32_t, 6>> indices(threads);
  launch(indices_kernel, extent(grid), extent(block), 0, nullptr, indices.data()->data());
  return indices;
}

std::pair<Ints, std::int32_t> atomics(const Ints& values, unsigned threads, unsigned bins) {
  for (const std::int32_t value : values)
    if (value < 0 || static_cast<unsigned>(value) >= bins) throw std::invalid_argument("values are out of range; expected 0 to bins - 1");
  std::pair<Ints, std::int32_t> result(Ints(bins), -1);
  launch(atomics_kernel, blocks_of(values, threads), threads, 0, nullptr, result.first.data(), &result.second, values.data());
  return result;
}

std::vector<float> copies(const std::vector<float>& values, bool waits) {
  std::vector<float> seen(values.size());
  const auto threads = static_cast<unsigned>(values.size() / 4);
  launch(copy_kernel, 1, threads, values.size() * sizeof(float), nullptr, seen.data(), values.data(), waits);
  return seen;
}

Ints missing_barrier(unsigned threads) {
  check_threads(threads);
  Ints seen(threads);
  launch(missing_barrier_kernel, 1, threads, threads * sizeof(std::int32_t), nullptr, seen.data());
  return seen;
}

void deadlock(unsigned blocks, unsigned stuck) { launch(deadlock_kernel, blocks, 2 * kWarp, 0, nullptr, stuck); }

std::vector<float> unwritten(unsigned threads) {
  check_threads(threads);
  std::vector<float> seen(threads);
  launch(unwritten_kernel, 1, threads, threads * sizeof(float), nullptr, seen.data());
  return seen;
}

void empty_launch(Extent grid, Extent block, std::size_t shared_bytes) {
  launch(+[](int) {}, extent(grid), extent(block), shared_bytes, nullptr, 0);
}

}  // namespace selftest
}  // namespace simt
