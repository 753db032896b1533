// A thread pool on the processor's cores, whose workers take the blocks of a grid one after another.
#pragma once

#include <cstdint>
#include <functional>

namespace simt {

/// Runs task(i) for every i in [0, count) on all workers, including the caller, and returns when all are done. Rethrows the first exception
/// of a task, after the running tasks have ended. Calls from several threads take turns. Where the system refuses to start some of the
/// workers, or they have no memory, the others do the work; std::bad_alloc if the caller has none.
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task);

/// Makes what the calling thread keeps as a worker, if it is not made yet. (host.cpp)
void make_worker();

/// Number of workers: set_threads' last, else PYALEXNET_THREADS, else the number of cores that this process may use.
int threads();

/// Sets the number of workers, 1 to 1024; 0 returns to the default. Throws std::invalid_argument.
void set_threads(int count);

}  // namespace simt
