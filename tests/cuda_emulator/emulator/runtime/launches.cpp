// Kernel launches and attributes of kernels.
#include <cstring>

#include "counters.hpp"
#include "execution/interpreter.hpp"
#include "launch_dump.hpp"
#include "report.hpp"
#include "runtime/modules.hpp"
#include "runtime/ranges.hpp"
#include "runtime/streams.hpp"

namespace emu {
namespace {

struct CallConfiguration {
  dim3 grid, block;
  std::size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<CallConfiguration> configurations;  // of <<<...>>>

std::string shown(dim3 d) { return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")"; }

/// Checks the limits of a launch. The messages include its configuration.
cudaError_t check_limits(const Kernel& k, const Program& p, dim3 grid, dim3 block, std::size_t shared) {
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const std::string what = p.display_name + " with grid " + shown(grid) + ", block " + shown(block) + ", " + std::to_string(shared) +
                           " bytes of dynamic shared memory: ";
  if (threads == 0 || threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64)
    return refuse(cudaErrorInvalidConfiguration, what + "expected 1 to 1024 threads in a block, at most 64 in z");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
    return refuse(cudaErrorInvalidConfiguration, what + "expected 1 to 2^31-1 blocks in x, 1 to 65535 in y and z");
  if (p.max_threads && threads > static_cast<std::uint64_t>(p.max_threads))
    return refuse(cudaErrorInvalidValue, what + "__launch_bounds__ allows " + std::to_string(p.max_threads) + " threads");
  // Without the attribute, static and dynamic shared memory together are limited to 48 KiB.
  const auto dynamic_limit = static_cast<std::size_t>(k.max_dynamic_shared);
  const std::size_t total_limit = std::max<std::size_t>(48 * 1024, dynamic_limit + p.static_shared);
  if (shared > dynamic_limit || shared + p.static_shared > total_limit)
    return refuse(cudaErrorInvalidValue, what + "static shared memory is " + std::to_string(p.static_shared) +
                                             " bytes; cudaFuncAttributeMaxDynamicSharedMemorySize is " + std::to_string(dynamic_limit));
  return cudaSuccess;
}

cudaError_t launch(Kernel& k, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t stream) {
  Lock lock;
  Program* p;
  try {
    p = &program_of(k, current_device);
  } catch (const ParseError& e) {
    report("kernel", std::string(e.what()) + " (kernel " + k.name + ")");
    return fail(cudaErrorInvalidPtx);
  }
  if (const cudaError_t e = check_limits(k, *p, grid, block, shared)) return e;
  const auto s = stream_of(stream);
  if (!s) {
    misuse("launch of " + p->display_name + " in a stream that does not exist");
    return fail(cudaErrorInvalidResourceHandle);
  }
  if (s->device != current_device)
    return refuse(cudaErrorInvalidResourceHandle, p->display_name + ": the stream belongs to device " + std::to_string(s->device) +
                                                      "; expected the current device, " + std::to_string(current_device));
  if (const cudaError_t e = check_use(s)) return fail(e);
  auto l = std::make_shared<Launch>();
  l->program = p;
  l->range = current_range();
  l->device = &device(current_device);
  l->grid = {grid.x, grid.y, grid.z};
  l->block = {block.x, block.y, block.z};
  l->dynamic_shared = static_cast<std::uint32_t>(shared);
  l->parameters.assign(p->parameter_bytes, 0);
  for (std::size_t i = 0; i < p->parameters.size(); ++i)
    std::memcpy(l->parameters.data() + p->parameters[i].first, arguments[i], p->parameters[i].second);
  enqueue(s, [l](Work& work) {
    start_work(work, title_of(*l));
    l->work = work;
    l->count = counters_of(*l);
    LaunchDump dump(*l);
    try {
      if (options().execute) run(*l);
    } catch (const LaunchAborted&) {
    }
    dump.finish();
    return true;
  });
  return cudaSuccess;
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, struct CUstream_st* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  if (configurations.empty()) return fail(cudaErrorMissingConfiguration);
  *grid = configurations.back().grid;
  *block = configurations.back().block;
  *shared = configurations.back().shared;
  *static_cast<cudaStream_t*>(stream) = configurations.back().stream;
  configurations.pop_back();
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t stream) {
  return launch(*reinterpret_cast<Kernel*>(kernel), grid, block, arguments, shared, stream);
}
cudaError_t cudaLaunchKernel(const void* host, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t stream) {
  Lock lock;
  Kernel* k = find_kernel(host);
  return k ? launch(*k, grid, block, arguments, shared, stream) : fail(cudaErrorInvalidDeviceFunction);
}
cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute attribute, int value) {
  Lock lock;
  Kernel* k = find_kernel(host);
  if (!k) return fail(cudaErrorInvalidDeviceFunction);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const int most = device_model().shared_block;
  if (value < 0 || value > most)
    return refuse(cudaErrorInvalidValue, "cudaFuncAttributeMaxDynamicSharedMemorySize is " + std::to_string(value) + "; expected 0 to " +
                                             std::to_string(most) + " on sm_" + std::to_string(device_arch()));
  k->max_dynamic_shared = value;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* host) {
  Lock lock;
  Kernel* k = find_kernel(host);
  if (!k) return fail(cudaErrorInvalidDeviceFunction);
  std::memset(attributes, 0, sizeof *attributes);
  const Program& p = program_of(*k, current_device);
  attributes->sharedSizeBytes = p.static_shared;
  attributes->localSizeBytes = p.local_bytes;
  attributes->maxThreadsPerBlock = p.max_threads ? p.max_threads : 1024;
  attributes->numRegs = p.live_registers;
  attributes->ptxVersion = attributes->binaryVersion = k->binary->arch;
  attributes->maxDynamicSharedSizeBytes = k->max_dynamic_shared;
  return cudaSuccess;
}

}  // extern "C"
