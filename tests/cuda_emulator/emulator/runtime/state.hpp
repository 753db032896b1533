// State that the runtime's functions share: the lock, the current device, errors.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>

namespace emu {

/// Held by every function of the runtime. Recursive.
class Lock {
 public:
  Lock();
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

/// Calls advance() until it returns true. Between two calls the lock is released, so that other threads can proceed.
void wait_for(const std::function<bool()>& advance);

/// The device that cudaSetDevice has chosen, for each thread.
extern thread_local int current_device;
extern thread_local cudaError_t last_error;

inline cudaError_t fail(cudaError_t error) { return last_error = error; }
/// fail() with a reason on standard error, where CUDA has only the error's name.
cudaError_t refuse(cudaError_t error, const std::string& reason);
/// Reports a call that CUDA would not diagnose.
void misuse(const std::string& what);

/// Compute capability of the devices, 80 for 8.0.
int device_arch();
/// Makes device_arch() at least this, unless option --arch is set.
void require_arch(int arch);

/// Properties of the device that is emulated for an architecture (CUDA C++ Programming Guide, "Compute Capabilities").
struct Model {
  int multiprocessors;
  int shared_block, shared_multiprocessor;  // bytes: the most that a block may use, all of a multiprocessor
  int threads_multiprocessor;
};
Model device_model();

/// A new address for a handle; nothing lies there.
void* new_handle();

}  // namespace emu
