// Devices, errors, and the end of the process.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "counters.hpp"
#include "memory.hpp"
#include "report.hpp"
#include "runtime/collectives.hpp"
#include "runtime/streams.hpp"

namespace emu {
namespace {

void end_of_process() {
  Lock lock;
  finish_all_streams();  // work that the host has not waited for
  leave_communicators();
  const bool written = write_counters();
  if (print_summary() || !written) {
    std::fflush(nullptr);
    _exit(kErrorStatus);
  }
}
__attribute__((constructor)) void start_of_process() { std::atexit(end_of_process); }

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorPeerAccessUnsupported, "cudaErrorPeerAccessUnsupported", "peer access is not supported between these two devices"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorPeerAccessNotEnabled, "cudaErrorPeerAccessNotEnabled", "peer access has not been enabled"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered", "pointer does not correspond to a registered memory region"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorMissingConfiguration, "cudaErrorMissingConfiguration", "__global__ function call is not configured"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
};
const ErrorText* find_error(cudaError_t error) {
  for (const auto& e : kErrors)
    if (e.error == error) return &e;
  return nullptr;
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

// --- errors ---

cudaError_t cudaGetLastError() {
  const cudaError_t e = last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* e = find_error(error);
  return e ? e->name : "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* e = find_error(error);
  return e ? e->text : "unknown error";
}

// --- devices ---

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(devices().size());
  return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* index) {
  *index = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  if (!is_device(index)) return fail(cudaErrorInvalidDevice);
  current_device = index;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  Lock lock;
  if (const cudaError_t e = check_device_wait(current_device)) return fail(e);
  wait_for_device(current_device);
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int index) {
  if (!is_device(index)) return fail(cudaErrorInvalidDevice);
  const Model model = device_model();
  std::memset(p, 0, sizeof *p);
  std::snprintf(p->name, sizeof p->name, "emulated sm_%d", device_arch());
  p->totalGlobalMem = device(index).capacity;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = static_cast<std::size_t>(model.shared_block);
  p->sharedMemPerMultiprocessor = static_cast<std::size_t>(model.shared_multiprocessor);
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->major = device_arch() / 10, p->minor = device_arch() % 10;
  p->multiProcessorCount = model.multiprocessors;
  p->maxThreadsPerMultiProcessor = model.threads_multiprocessor;
  p->pciBusID = index;
  p->unifiedAddressing = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  if (!is_device(index)) return fail(cudaErrorInvalidDevice);
  const Model model = device_model();
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = device_arch() / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = device_arch() % 10;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = model.multiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = model.shared_block;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = model.shared_multiprocessor;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = device_arch() < 80 ? 0 : 1024;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *value = 1024;
      break;
    case cudaDevAttrMaxBlockDimZ:
      *value = 64;
      break;
    case cudaDevAttrMaxGridDimX:
      *value = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *value = 65535;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = model.threads_multiprocessor;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = 65536;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
      *value = 1;
      break;
    case cudaDevAttrHostRegisterSupported:
      *value = options().host_register;
      break;
    default:
      return refuse(cudaErrorInvalidValue, "device attribute " + std::to_string(attribute) + " is not emulated");
  }
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  Lock lock;
  *total = device(current_device).capacity;
  *free = *total - device(current_device).used;
  return cudaSuccess;
}

// --- peer access ---

cudaError_t cudaDeviceCanAccessPeer(int* can, int index, int peer) {
  if (!is_device(index) || !is_device(peer)) return fail(cudaErrorInvalidDevice);
  *can = index != peer && options().peer_access;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  Lock lock;
  if (!is_device(peer) || peer == current_device) return fail(cudaErrorInvalidDevice);
  if (flags) return fail(cudaErrorInvalidValue);
  if (!options().peer_access) return fail(cudaErrorPeerAccessUnsupported);
  std::uint32_t& peers = device(current_device).peers;
  if (peers >> peer & 1) return fail(cudaErrorPeerAccessAlreadyEnabled);
  peers |= 1u << peer;
  return cudaSuccess;
}
cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  Lock lock;
  if (!is_device(peer)) return fail(cudaErrorInvalidDevice);
  std::uint32_t& peers = device(current_device).peers;
  if (!(peers >> peer & 1)) return fail(cudaErrorPeerAccessNotEnabled);
  peers &= ~(1u << peer);
  return cudaSuccess;
}

}  // extern "C"
