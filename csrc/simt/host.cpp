// Runs the blocks of a grid: each on one worker, its threads as fibers that run one at a time.
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "simt/fiber.hpp"
#include "simt/simt.cuh"
#include "simt/thread_pool.hpp"

namespace simt {

__thread Here here;

Execution& execution() {
  static Execution current;
  return current;
}

std::int64_t l2_bytes() {
  constexpr std::int64_t kUsual = 1 << 20, kLeast = 1 << 16;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const std::int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  static const std::int64_t found = 0;
#endif
  const std::int64_t asked = execution().l2_bytes, bytes = asked != 0 ? asked : found > 0 ? found : kUsual;
  return std::max(bytes, kLeast);
}

namespace {

constexpr std::size_t kSharedAlignment = 64;

/// SplitMix64: a stateless hash, random enough for thread orders.
std::uint64_t scramble(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

template <class Extent>
std::string text(const Extent& e) {
  return "(" + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ")";
}

/// Reorders an ascending range as the Execution asks.
template <class It>
void reorder(It begin, It end, std::uint64_t salt) {
  const Execution& how = execution();
  if (how.order == Order::kReverse) std::reverse(begin, end);
  if (how.order != Order::kShuffled) return;
  for (auto left = end - begin; left > 1; --left) {
    salt = scramble(salt ^ how.seed);
    std::iter_swap(begin + (left - 1), begin + static_cast<std::ptrdiff_t>(salt % static_cast<std::uint64_t>(left)));
  }
}

/// Schedules the threads of a worker's block: which can run, which wait, and on which fiber.
class BlockRunner {
 public:
  /// Runs one block. Throws std::runtime_error if its threads deadlock, else what a thread throws, as std::bad_alloc where there is no
  /// memory for another fiber.
  void run(dim3 block, std::uint64_t block_number, void (*body)(void*), void* context) {
    body_ = body;
    context_ = context;
    live_ = count_ = block.x * block.y * block.z;
    if (count_ == 1) {  // never waits, so needs no fiber
      enter(0, {0, 0, 0});
      alone_.copies.clear();
      body(context);
      return;
    }
    if (block.x != block_.x || block.y != block_.y || block.z != block_.z) lay_out(block);
    for (Thread& t : threads_) {
      t.state = State::kNew;
      t.copies.clear();
    }
    salt_ = scramble(block_number);
    ready_.resize(count_);
    std::iota(ready_.begin(), ready_.end(), 0u);
    reorder(ready_.begin(), ready_.end(), salt_);
    next_ = 0;
    running_ = &main_;
    switch_to(free_fiber());
    if (error_) {
      drop_fibers();
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
    if (live_ > 0) report_deadlock();
  }

  void barrier() {
    if (live_ == 1) return;
    threads_[here.linear_thread].state = State::kAtBarrier;
    wait();
  }

  void defer_copy(void* to, const void* from, std::size_t bytes) { running_thread().copies.push_back({to, from, bytes}); }

  void run_deferred_copies() {
    for (const Copy& copy : running_thread().copies) std::memcpy(copy.to, copy.from, copy.bytes);
    running_thread().copies.clear();
  }

  const std::uint64_t* exchange(unsigned mask, std::uint64_t value) {
    const unsigned lane = here.linear_thread % kWarp;
    if (count_ == 1) {
      if (mask != 1u) throw std::runtime_error("warp operation: mask is " + std::to_string(mask) + "; expected 1 in a block of one thread");
      alone_value_ = value;
      return &alone_value_;
    }
    Warp& warp = warps_[here.linear_thread / kWarp];
    warp.given[lane] = value;
    warp.arrived |= 1u << lane;
    threads_[here.linear_thread].mask = mask | 1u << lane;
    threads_[here.linear_thread].state = State::kAtWarp;
    wait();
    return warp.published;
  }

 private:
  enum class State { kNew, kReady, kAtBarrier, kAtWarp, kDone };

  /// An asynchronous copy that its thread has not waited for yet.
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };

  struct Thread {
    State state = State::kNew;
    unsigned mask = 0;  // lanes that it waits for, in kAtWarp
    uint3 index{0, 0, 0};
    Fiber* fiber = nullptr;  // where it waits
    std::vector<Copy> copies;
  };

  struct Warp {
    unsigned arrived = 0;
    std::uint64_t given[kWarp] = {};
    std::uint64_t published[kWarp] = {};  // separate from given: a lane may arrive again before another has read
  };

  void lay_out(dim3 block) {
    block_ = dim3(0, 0, 0);  // until all is laid out
    threads_.assign(count_, Thread{});
    for (unsigned t = 0; t < count_; ++t) threads_[t].index = {t % block.x, t / block.x % block.y, t / (block.x * block.y)};
    warps_.assign(ceil_div(count_, static_cast<unsigned>(kWarp)), Warp{});
    block_ = block;
  }

  Thread& running_thread() { return count_ == 1 ? alone_ : threads_[here.linear_thread]; }

  Fiber& free_fiber() {
    if (idle_.empty()) {
      const auto serve = [](void* self) { static_cast<BlockRunner*>(self)->serve(); };
      fibers_.push_back(std::make_unique<Fiber>(serve, this, fibers_.size() * 3));
      idle_.reserve(fibers_.size());
      return *fibers_.back();
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return *fiber;
  }

  void switch_to(Fiber& fiber) {
    Fiber& self = *running_;
    running_ = &fiber;
    fiber.resume(self);
  }

  void enter(unsigned t, uint3 index) {
    here.linear_thread = t;
    here.thread = index;
  }

  /// What every fiber does. No exception leaves a fiber's stack: run() throws it.
  void serve() {
    try {
      run_threads();
    } catch (...) {
      error_ = std::current_exception();
    }
    switch_to(main_);
  }

  /// Runs new threads from start to end while one is next, then becomes idle; for ever.
  [[noreturn]] void run_threads() {
    while (true) {
      while (next_ < ready_.size() && threads_[ready_[next_]].state == State::kNew) {
        const unsigned t = ready_[next_++];
        enter(t, threads_[t].index);
        body_(context_);
        threads_[t].state = State::kDone;
        --live_;
      }
      idle_.push_back(running_);
      hand_over();
    }
  }

  /// Suspends the running thread and lets others run.
  void wait() {
    threads_[here.linear_thread].fiber = running_;
    hand_over();
  }

  /// Switches to the next thread that can run, or back to run() if there is none.
  void hand_over() {
    if (next_ == ready_.size() && !release()) return switch_to(main_);
    Thread& next = threads_[ready_[next_]];
    if (next.state == State::kNew) return switch_to(free_fiber());
    enter(ready_[next_], next.index);
    ++next_;
    if (next.fiber != running_) switch_to(*next.fiber);
  }

  /// If no thread can run: makes those ready whose wait is over. Returns false if there are none.
  bool release() {
    ready_.clear();
    next_ = 0;
    const bool barrier_full = std::all_of(threads_.begin(), threads_.end(),
                                          [](const Thread& t) { return t.state == State::kAtBarrier || t.state == State::kDone; });
    for (unsigned t = 0; t < count_; ++t) {
      Thread& thread = threads_[t];
      const unsigned arrived = warps_[t / kWarp].arrived;
      const bool warp_full = thread.state == State::kAtWarp && (arrived & thread.mask) == thread.mask;
      if (warp_full || (barrier_full && thread.state == State::kAtBarrier)) ready_.push_back(t);
    }
    for (unsigned t : ready_) {
      if (threads_[t].state == State::kAtWarp) {
        Warp& warp = warps_[t / kWarp];
        const unsigned lane = t % kWarp;
        warp.published[lane] = warp.given[lane];
        warp.arrived &= ~(1u << lane);
      }
      threads_[t].state = State::kReady;
    }
    reorder(ready_.begin(), ready_.end(), salt_ = scramble(salt_));
    return !ready_.empty();
  }

  [[noreturn]] void report_deadlock() {
    const auto waiting = [&](State state) {
      return std::to_string(std::count_if(threads_.begin(), threads_.end(), [&](const Thread& t) { return t.state == state; }));
    };
    const std::string what = "deadlock in block " + text(here.block) + ": of " + std::to_string(count_) + " threads " +
                             waiting(State::kAtBarrier) + " wait at __syncthreads, " + waiting(State::kAtWarp) +
                             " at a warp operation and " + waiting(State::kDone) + " have ended";
    drop_fibers();
    throw std::runtime_error(what);
  }

  /// Drops the stacks of waiting fibers, which cannot be unwound. Kernels own no resources.
  void drop_fibers() {
    idle_.clear();
    fibers_.clear();
    block_ = dim3(0, 0, 0);
  }

  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  dim3 block_{0, 0, 0};
  unsigned count_ = 0, live_ = 0;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> ready_;  // threads that can run, from next_ on, in the Execution's order
  std::size_t next_ = 0;
  std::uint64_t salt_ = 0;
  Thread alone_;  // the thread of a one-thread block
  std::uint64_t alone_value_ = 0;
  Fiber main_;
  Fiber* running_ = &main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::exception_ptr error_;  // of a thread
};

/// What a worker keeps from one block to the next.
struct Worker {
  BlockRunner runner;
  std::byte* shared = nullptr;
  std::size_t shared_bytes = 0;

  ~Worker() { release(); }
  void release() {
    if (shared != nullptr) ::operator delete(shared, std::align_val_t{kSharedAlignment});
    shared = nullptr;
    shared_bytes = 0;
  }
  std::byte* reserve(std::size_t bytes) {
    if (bytes > shared_bytes) {
      release();
      shared = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kSharedAlignment}));
      shared_bytes = bytes;
    }
    return shared;
  }
};

Worker& worker() {
  static thread_local Worker current;
  return current;
}

void check_launch(dim3 grid, dim3 block, std::size_t shared_bytes) {
  const std::uint64_t count = std::uint64_t{block.x} * block.y * block.z;
  if (count < 1 || count > kMaxThreadsPerBlock)
    throw std::invalid_argument("launch: block is " + text(block) + "; expected 1 to " + std::to_string(kMaxThreadsPerBlock) + " threads");
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ)
    throw std::invalid_argument("launch: grid is " + text(grid) + "; expected (1, 1, 1) to (2147483647, 65535, 65535)");
  constexpr std::size_t kSmallestSharedLimit = 64 * 1024;  // sm_75's
  if (execution().tiles != Tiles::kHost && shared_bytes > kSmallestSharedLimit)
    throw std::invalid_argument("launch: dynamic shared memory is " + std::to_string(shared_bytes) +
                                " bytes; expected at most 65536, sm_75's limit");
}

}  // namespace

void make_worker() { worker(); }

void barrier() { worker().runner.barrier(); }

const std::uint64_t* exchange(unsigned mask, std::uint64_t value) { return worker().runner.exchange(mask, value); }

void defer_copy(void* to, const void* from, std::size_t bytes) { worker().runner.defer_copy(to, from, bytes); }

void run_deferred_copies() { worker().runner.run_deferred_copies(); }

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, void (*body)(void*), void* context) {
  check_launch(grid, block, shared_bytes);
  const std::int64_t count = std::int64_t{grid.x} * grid.y * grid.z;
  std::vector<std::int64_t> sequence;
  if (execution().order != Order::kForward) {
    sequence.resize(static_cast<std::size_t>(count));
    std::iota(sequence.begin(), sequence.end(), std::int64_t{0});
    reorder(sequence.begin(), sequence.end(), 0);
  }
  const bool fill = execution().order != Order::kForward || execution().tiles != Tiles::kHost;
  parallel_for(count, [&](std::int64_t i) {
    if (!sequence.empty()) i = sequence[static_cast<std::size_t>(i)];
    Worker& w = worker();
    here.grid_size = grid;
    here.block_size = block;
    here.block = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                  static_cast<unsigned>(i / grid.x / grid.y)};
    here.shared = w.reserve(shared_bytes);
    // A GPU does not clear shared memory: NaNs expose a read before the first write.
    if (fill && shared_bytes > 0) std::memset(here.shared, 0xff, shared_bytes);
    w.runner.run(block, static_cast<std::uint64_t>(i), body, context);
  });
}

}  // namespace simt
