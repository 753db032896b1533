// State shared by the runtime's functions: the lock, the current device, errors.
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

/// Calls advance() until it returns true. The lock is released between calls, so that other threads can proceed.
void wait_for(const std::function<bool()>& advance);

/// The device selected by cudaSetDevice, per thread.
extern thread_local int current_device;
extern thread_local cudaError_t last_error;

inline cudaError_t fail(cudaError_t error) { return last_error = error; }
/// Like fail(), and prints the reason to standard error; CUDA returns only the error code.
cudaError_t refuse(cudaError_t error, const std::string& reason);
/// Reports a call that CUDA would not diagnose.
void misuse(const std::string& what);

/// Compute capability of the devices, 80 for 8.0.
int device_arch();
/// Raises device_arch() to at least `arch`, unless option --arch is set.
void require_arch(int arch);

/// Properties of the emulated device (CUDA C++ Programming Guide, "Compute Capabilities").
struct Model {
  int multiprocessors;
  int shared_block, shared_multiprocessor;  // bytes: limit of a block, total of a multiprocessor
  int threads_multiprocessor;
};
Model device_model();

/// A unique handle, which is not a valid address.
void* new_handle();

}  // namespace emu
