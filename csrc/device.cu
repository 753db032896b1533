// The machine's GPUs, and the current device. Empty on the host.
#include "kernels.hpp"
#include "simt/simt.cuh"

#if defined(__CUDACC__)
namespace pyalexnet {
namespace {
/// Counts the GPUs; returns CUDA's error if it cannot.
cudaError_t count_devices(int& count) {
  count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    count = 0;
    cudaGetLastError();  // or the next launch would report it
  }
  return status;
}
}  // namespace

int device_count() {
  int count;
  count_devices(count);
  return count;
}

std::string device_error() {
  int count;
  const cudaError_t status = count_devices(count);
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

CurrentDevice::CurrentDevice(int device) : device_(device) {
  SIMT_CHECK(cudaGetDevice(&before_));
  if (device_ != before_) SIMT_CHECK(cudaSetDevice(device_));
}

CurrentDevice::~CurrentDevice() {
  if (device_ != before_) cudaSetDevice(before_);
}

}  // namespace pyalexnet
#endif
