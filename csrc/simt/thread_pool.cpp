#include "simt/thread_pool.hpp"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace simt {
namespace {

constexpr int kMaxThreads = 1024;

int usable_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

int parse_threads(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > kMaxThreads)
    throw std::invalid_argument("PYALEXNET_THREADS is '" + std::string(text) + "'; expected a number from 1 to " +
                                std::to_string(kMaxThreads));
  return static_cast<int>(value);
}

int default_threads() {
  const char* text = std::getenv("PYALEXNET_THREADS");
  return text != nullptr && *text != '\0' ? parse_threads(text) : usable_cores();
}

class Pool {
 public:
  explicit Pool(int size) {
    for (int i = 1; i < size; ++i) helpers_.emplace_back([this] { serve(); });
  }

  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }

  int size() const { return static_cast<int>(helpers_.size()) + 1; }

  void run(std::int64_t count, const std::function<void(std::int64_t)>& task) {
    {
      std::lock_guard lock(mutex_);
      task_ = &task;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      busy_ = static_cast<int>(helpers_.size());
      error_ = nullptr;
      ++round_;
    }
    if (!helpers_.empty()) wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
      lock.unlock();
      work();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void work() {
    try {
      for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*task_)(i);
    } catch (...) {
      next_.store(count_, std::memory_order_relaxed);
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> helpers_;
  const std::function<void(std::int64_t)>* task_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::exception_ptr error_;
  std::uint64_t round_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
};

std::mutex launch_mutex;
int requested = 0;
// Never destroyed: the helpers end with the process, after everything that could still use them.
Pool* pool = nullptr;

Pool& current_pool() {
  const int size = requested > 0 ? requested : default_threads();
  if (pool == nullptr || pool->size() != size) {
    delete pool;
    pool = nullptr;
    static const int once = pthread_atfork(
        // A forked child has no helpers: it makes its own pool at its first launch.
        [] { launch_mutex.lock(); }, [] { launch_mutex.unlock(); },
        [] {
          pool = nullptr;
          launch_mutex.unlock();
        });
    static_cast<void>(once);
    pool = new Pool(size);
  }
  return *pool;
}

}  // namespace

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  std::lock_guard lock(launch_mutex);
  current_pool().run(count, task);
}

int threads() { return requested > 0 ? requested : default_threads(); }

void set_threads(int count) {
  if (count < 0 || count > kMaxThreads)
    throw std::invalid_argument("threads is " + std::to_string(count) + "; expected 1 to " + std::to_string(kMaxThreads) +
                                ", or 0 for the default");
  std::lock_guard lock(launch_mutex);
  requested = count;
}

}  // namespace simt
