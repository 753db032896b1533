// Small kernels that show what the host's execution model promises and what it catches. Only test builds have them
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

/// Inclusive prefix sums of every `threads` values, at most 40: static shared memory and barriers.
Ints prefix_sum(const Ints& values, unsigned threads);
/// For each value its warp's sum (exchange), its warp's odd values (vote), the value one lane above, and that of lane 3.
std::vector<Ints> warp(const Ints& values, unsigned threads);
/// blockIdx and threadIdx, z to x each, of every thread in row-major order.
std::vector<std::array<std::int32_t, 6>> indices(Extent grid, Extent block);
/// How often each value below `bins` occurs, and the greatest.
std::pair<Ints, std::int32_t> atomics(const Ints& values, unsigned threads, unsigned bins);
/// What each thread sees of its neighbour's write without a barrier between: depends on the order of the threads.
Ints missing_barrier(unsigned threads);
/// The values, four a thread, through asynchronous copies; what shared memory held before where the wait is left out.
std::vector<float> copies(const std::vector<float>& values, bool waits);
/// Block `stuck` of `blocks` never ends. Throws std::runtime_error.
void deadlock(unsigned blocks, unsigned stuck);
/// Dynamic shared memory as a block finds it.
std::vector<float> unwritten(unsigned threads);
/// A kernel that does nothing. Throws std::invalid_argument for what no GPU would launch.
void empty_launch(Extent grid, Extent block, std::size_t shared_bytes);

}  // namespace selftest
}  // namespace simt
