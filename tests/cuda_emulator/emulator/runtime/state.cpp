#include "runtime/state.hpp"

#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>

#include "options.hpp"
#include "report.hpp"

namespace emu {
namespace {

std::recursive_mutex& mutex() {
  static auto* m = new std::recursive_mutex;
  return *m;
}
thread_local int depth = 0;  // number of locks held by this thread

int newest_arch = 0;

}  // namespace

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

Lock::Lock() {
  mutex().lock();
  ++depth;
}
Lock::~Lock() {
  --depth;
  mutex().unlock();
}

void wait_for(const std::function<bool()>& advance) {
  while (!advance()) {
    const int held = depth;
    for (int i = 0; i < held; ++i) mutex().unlock();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (int i = 0; i < held; ++i) mutex().lock();
  }
}

cudaError_t refuse(cudaError_t error, const std::string& reason) {
  std::fprintf(stderr, "cuda-emulator: refused: %s\n", reason.c_str());
  return fail(error);
}

void misuse(const std::string& what) { report("misuse of the runtime", what); }

void require_arch(int arch) { newest_arch = std::max(newest_arch, arch); }
int device_arch() { return options().arch ? options().arch : newest_arch ? newest_arch : 90; }

Model device_model() {
  const int arch = device_arch();
  if (arch < 80) return {40, 64 << 10, 64 << 10, 1024};      // T4
  if (arch == 80) return {108, 163 << 10, 164 << 10, 2048};  // A100
  if (arch == 87) return {16, 163 << 10, 164 << 10, 1536};   // Jetson AGX Orin
  if (arch < 89) return {82, 99 << 10, 100 << 10, 1536};     // RTX 3090
  if (arch == 89) return {128, 99 << 10, 100 << 10, 1536};   // RTX 4090
  if (arch < 100) return {132, 227 << 10, 228 << 10, 2048};  // H100
  if (arch < 120) return {148, 227 << 10, 228 << 10, 2048};  // B200
  return {170, 99 << 10, 100 << 10, 1536};                   // RTX 5090
}

void* new_handle() {
  static std::uintptr_t next = 0x900000;
  return reinterpret_cast<void*>(next += 16);
}

}  // namespace emu
