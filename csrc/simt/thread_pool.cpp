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
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
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

/// Makes the calling thread's thread-local data; false if there is no memory for them. The C library would end the process where it finds
/// none for them, so more is tried for first, and by one thread at a time, while no kernel runs.
bool make_thread_data() {
  constexpr std::size_t kBytes = 64 * 1024;  // of which test builds take 49 KiB, others less than 1
  void* const memory = std::malloc(kBytes);
  std::free(memory);
  if (memory == nullptr) return false;
  make_worker();
  return std::uncaught_exceptions() >= 0;  // the C++ library's data
}

class Pool {
 public:
  /// Starts `size` workers, the caller among them, or as many as the system lets it.
  explicit Pool(int size) : size_(size) {
    helpers_.reserve(static_cast<std::size_t>(size - 1));
    try {
      while (static_cast<int>(helpers_.size()) < size - 1) {
        helpers_.emplace_back([this] { serve(); });
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return begun_ == helpers_.size(); });
      }
    } catch (const std::system_error&) {  // no memory for a stack, or a limit on processes
    }
  }

  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }

  /// Workers that were asked for.
  int size() const { return size_; }

  void run(std::int64_t count, const std::function<void(std::int64_t)>& task) {
    {
      std::lock_guard lock(mutex_);
      task_ = &task;
      count_ = count;
      next_.store(0, std::memory_order_relaxed);
      busy_ = able_;
      error_ = nullptr;
      ++round_;
    }
    if (able_ > 0) wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void serve() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    const bool able = make_thread_data();
    able_ += able;
    ++begun_;
    done_.notify_one();
    while (able) {
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

  const int size_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> helpers_;
  const std::function<void(std::int64_t)>* task_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::exception_ptr error_;
  std::uint64_t round_ = 0;
  std::size_t begun_ = 0;  // helpers
  int able_ = 0;           // of these, those that work
  int busy_ = 0;           // of these, those that are still at it
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
  if (!make_thread_data()) throw std::bad_alloc();
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
