// Small kernels that show what the host's execution model promises and what it catches; tests/test_simt.py calls them.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace simt {

using Ints = std::vector<std::int32_t>;
using Extent = std::array<unsigned, 3>;  // x, y, z

/// Inclusive prefix sums of every `threads` values, at most 40: static shared memory and barriers.
Ints test_prefix_sum(const Ints& values, unsigned threads);
/// For each value its warp's sum (exchange), its warp's odd values (vote), the value one lane above, and that of lane 3.
std::vector<Ints> test_warp(const Ints& values, unsigned threads);
/// blockIdx and threadIdx, z to x each, of every thread in row-major order.
std::vector<std::array<std::int32_t, 6>> test_indices(Extent grid, Extent block);
/// How often each value below `bins` occurs, and the greatest.
std::pair<Ints, std::int32_t> test_atomics(const Ints& values, unsigned threads, unsigned bins);
/// What each thread sees of its neighbour's write without a barrier between: depends on the order of the threads.
Ints test_missing_barrier(unsigned threads);
/// Block `stuck` of `blocks` never ends. Throws std::runtime_error.
void test_deadlock(unsigned blocks, unsigned stuck);
/// Dynamic shared memory as a block finds it.
std::vector<float> test_unwritten(unsigned threads);
/// A kernel that does nothing. Throws std::invalid_argument for what no GPU would launch.
void test_launch(Extent grid, Extent block, std::size_t shared_bytes);

}  // namespace simt
