#include "simt/fiber.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__APPLE__)
#define SIMT_SYMBOL(name) "_" name
#define SIMT_HIDDEN(name) ".private_extern _" name "\n"
#else
#define SIMT_SYMBOL(name) name
#define SIMT_HIDDEN(name) ".hidden " name "\n"
#endif

// simt_switch(void** save, void* load): pushes the callee-saved registers, stores the stack pointer in *save, replaces it by `load` and
// pops. A new fiber's stack looks as if simt_enter had called simt_switch.
#if defined(__x86_64__)
asm(".text\n.p2align 4\n.globl " SIMT_SYMBOL("simt_switch") "\n" SIMT_HIDDEN("simt_switch") SIMT_SYMBOL("simt_switch") ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".globl " SIMT_SYMBOL("simt_enter") "\n" SIMT_HIDDEN("simt_enter") SIMT_SYMBOL("simt_enter") ":\n"
    "  movq %r12, %rdi\n"
    "  callq *%rbx\n"
    "  ud2\n");
#elif defined(__aarch64__)
asm(".text\n.p2align 4\n.globl " SIMT_SYMBOL("simt_switch") "\n" SIMT_HIDDEN("simt_switch") SIMT_SYMBOL("simt_switch") ":\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n"
    "  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n"
    "  ret\n"
    ".globl " SIMT_SYMBOL("simt_enter") "\n" SIMT_HIDDEN("simt_enter") SIMT_SYMBOL("simt_enter") ":\n"
    "  mov x0, x20\n"
    "  blr x19\n"
    "  brk #0\n");
#else
#error "simt: fibers exist for x86-64 and aarch64; add simt_switch for this processor here"
#endif

extern "C" void simt_switch(void** save, void* load);
extern "C" void simt_enter();

namespace simt {
namespace {

constexpr std::size_t kGuardBytes = 16 * 1024;  // a multiple of every page size in use

}  // namespace

Fiber::Fiber() {
#if defined(__SANITIZE_ADDRESS__) && defined(__linux__)
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* bottom = nullptr;
  pthread_attr_getstack(&attributes, &bottom, &stack_bytes_);
  stack_bottom_ = bottom;
  pthread_attr_destroy(&attributes);
#endif
#if defined(__SANITIZE_THREAD__)
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(void (*entry)(void*), void* argument, std::size_t skew) : entry_(entry), argument_(argument) {
  mapping_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  // Guard page: a stack overflow faults instead of writing into the neighbouring stack.
  if (mprotect(mapping_, kGuardBytes, PROT_NONE) != 0) {
    munmap(mapping_, kGuardBytes + kStackBytes);
    throw std::bad_alloc();
  }
  stack_bottom_ = static_cast<char*>(mapping_) + kGuardBytes;
  stack_bytes_ = kStackBytes;
  auto top = reinterpret_cast<std::uintptr_t>(stack_bottom_) + kStackBytes - (skew * 64) % 4096;
  top &= ~std::uintptr_t{63};
  void** sp = reinterpret_cast<void**>(top);
#if defined(__x86_64__)
  *--sp = nullptr;  // keeps the stack 16-byte aligned at simt_enter's call
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&simt_enter);    // simt_switch's return address
  *--sp = nullptr;                                 // rbp: ends a debugger's backtrace
  *--sp = reinterpret_cast<void*>(&Fiber::start);  // rbx
  *--sp = this;                                    // r12
  sp -= 3;                                         // r13, r14, r15
#elif defined(__aarch64__)
  sp -= 20;
  sp[0] = reinterpret_cast<void*>(&Fiber::start);  // x19
  sp[1] = this;                                    // x20
  sp[10] = nullptr;                                // x29
  sp[11] = reinterpret_cast<void*>(&simt_enter);   // x30
#endif
  stack_pointer_ = sp;
#if defined(__SANITIZE_THREAD__)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(tsan_fiber_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  // The next mapping at this address must not inherit the red zones of frames that never returned.
  __asan_unpoison_memory_region(stack_bottom_, stack_bytes_);
#endif
  munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::start(void* self) {
  auto* fiber = static_cast<Fiber*>(self);
  fiber->arrived();
  fiber->entry_(fiber->argument_);
}

void Fiber::resume(Fiber& from) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.asan_fake_stack_, stack_bottom_, stack_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_fiber_, 0);
#endif
  simt_switch(&from.stack_pointer_, stack_pointer_);
  from.arrived();
}

void Fiber::arrived() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(asan_fake_stack_, nullptr, nullptr);
#endif
}

}  // namespace simt
