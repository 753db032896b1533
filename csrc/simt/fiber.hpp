// A fiber: a stack and the point at which to resume it. A switch saves the callee-saved registers, a dozen instructions.
#pragma once

#include <cstddef>

namespace simt {

class Fiber {
 public:
  /// Enough for a kernel's deepest frame; sanitizers pad every local variable with red zones.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr std::size_t kStackBytes = 512 * 1024;
#else
  static constexpr std::size_t kStackBytes = 64 * 1024;
#endif

  /// Represents the running thread, as a fiber to switch back to.
  Fiber();
  /// A fiber that will run entry(argument), which must never return. `skew` staggers the tops of the stacks, so that hundreds of fibers in
  /// lockstep do not compete for the same cache sets. Throws std::bad_alloc.
  Fiber(void (*entry)(void*), void* argument, std::size_t skew);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Switches from `from`, the running fiber, to this one.
  void resume(Fiber& from);

 private:
  static void start(void* self);
  void arrived();

  void* stack_pointer_ = nullptr;
  void* mapping_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  // State that the sanitizers need to follow a switch.
  const void* stack_bottom_ = nullptr;
  std::size_t stack_bytes_ = 0;
  void* asan_fake_stack_ = nullptr;
  void* tsan_fiber_ = nullptr;
};

}  // namespace simt
