// Small kernels that show what the host's execution model guarantees and what it catches. Only test builds have them
// (PYALEXNET_TEST_BUILD); tests/test_simt.py calls them.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace simt {
namespace selftest {

using Ints = std::vector<std::int32_t>;
using Extent = std::array<unsigned, 3>;  // x, y, z

/// Inclusive prefix sums of each group of `threads` values, at most 40. Uses static shared memory and barriers.
Ints prefix_sum(const Ints& values, unsigned threads);
/// For each value: the sum of its warp (shuffle), the odd values of its warp (ballot), the value one lane above, and that of lane 3.
std::vector<Ints> warp(const Ints& values, unsigned threads);
/// blockIdx and threadIdx, z to x each, of every thread in row-major order.
std::vector<std::array<std::int32_t, 6>> indices(Extent grid, Extent block);
/// How often each value below `bins` occurs, and the maximum.
std::pair<Ints, std::int32_t> atomics(const Ints& values, unsigned threads, unsigned bins);
/// What each thread reads of its neighbour's write without a barrier in between; depends on the order of threads.
Ints missing_barrier(unsigned threads);
/// The values, four per thread, through asynchronous copies; without the wait, what shared memory held before.
std::vector<float> copies(const std::vector<float>& values, bool waits);
/// Deadlocks in block `stuck` of `blocks`. Throws std::runtime_error.
void deadlock(unsigned blocks, unsigned stuck);
/// What dynamic shared memory holds when a block starts.
std::vector<float> unwritten(unsigned threads);
/// Launches an empty kernel. Throws std::invalid_argument for a launch that no GPU would accept.
void empty_launch(Extent grid, Extent block, std::size_t shared_bytes);

}  // namespace selftest
}  // namespace simt
