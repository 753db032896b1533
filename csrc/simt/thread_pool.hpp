// The processor's cores as workers that take the blocks of a grid one after another.
#pragma once

#include <cstdint>
#include <functional>

namespace simt {

/// Runs task(i) for every i in [0, count) on all workers, the caller being one of them, and returns when all are done. The first
/// exception that a task throws is thrown here, after the tasks under way have ended. Calls from several threads take turns.
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task);

/// How many workers there are: those of the last set_threads, else PYALEXNET_THREADS, else the cores that this process may use.
int threads();

/// Sets the number of workers, 1 to 1024; 0 returns to the default. Throws std::invalid_argument.
void set_threads(int count);

}  // namespace simt
