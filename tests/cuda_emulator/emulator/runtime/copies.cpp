// Allocation, copies, memsets and pinned host memory.
#include "runtime/copies.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "execution/races.hpp"
#include "memory.hpp"
#include "report.hpp"
#include "runtime/streams.hpp"

namespace emu {

std::uint8_t* access_device(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access) {
  const int owner = device_of(address);
  const auto what = [&] { return name + ": " + verb(access) + " of " + std::to_string(bytes) + " bytes at " + hex(address); };
  if (!is_device(owner)) {
    misuse(what() + ": no device's memory");
    return nullptr;
  }
  const Allocation* a = device(owner).find(address);
  if (!a || a->freed || address + bytes > a->end()) {
    misuse(what() + ": " + device(owner).describe(a ? address + bytes - 1 : address));
    return nullptr;
  }
  check_copy_race(work, name, address, bytes, access);
  if (access == Access::kStore) device(owner).mark(address, bytes);
  return device(owner).host(address);
}

std::uint64_t first_unwritten(std::uint64_t address, std::uint64_t bytes) {
  Device& d = device(device_of(address));
  const Allocation* a = d.find(address);
  if (a->written >= a->bytes) return bytes;
  const void* first = std::memchr(d.init_of(address), 0, bytes);
  return first ? static_cast<std::uint64_t>(static_cast<const std::uint8_t*>(first) - d.init_of(address)) : bytes;
}

namespace {

bool is_device_address(const void* p) { return device_of(reinterpret_cast<std::uint64_t>(p)) >= 0; }

// --- pinned host memory ---

std::map<std::uintptr_t, std::size_t>& pinned() {
  static auto* ranges = new std::map<std::uintptr_t, std::size_t>;
  return *ranges;
}
bool is_pinned(const void* p, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  auto it = pinned().upper_bound(at);
  if (it == pinned().begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}
bool overlaps_pinned(std::uintptr_t at, std::size_t bytes) {
  const auto it = pinned().upper_bound(at + bytes - 1);
  return it != pinned().begin() && std::prev(it)->first + std::prev(it)->second > at;
}

// --- copies ---

/// Copies the initialisation state: bytes that are unwritten in the source become unwritten in the destination.
void copy_initialisation(std::uint64_t to, std::uint64_t from, std::uint64_t bytes) {
  Device &target = device(device_of(to)), &source = device(device_of(from));
  Allocation* a = target.find(to);
  const std::uint8_t* s = source.init_of(from);
  std::uint8_t* t = target.init_of(to);
  for (std::uint64_t i = 0; i < bytes; ++i) {
    a->written += s[i] ? 1u : 0u;
    a->written -= t[i] ? 1u : 0u;
    t[i] = s[i];
  }
}

void copy_now(Work& work, void* to, const void* from, std::size_t bytes, const std::vector<std::uint8_t>* staged) {
  const bool to_device = is_device_address(to), from_device = !staged && is_device_address(from);
  const auto to_address = reinterpret_cast<std::uint64_t>(to), from_address = reinterpret_cast<std::uint64_t>(from);
  start_work(work, "a copy");
  const std::uint8_t* s = staged ? staged->data() : static_cast<const std::uint8_t*>(from);
  auto* t = static_cast<std::uint8_t*>(to);
  std::uint64_t written = bytes;
  if (from_device) {
    if (!(s = access_device(work, "a copy", from_address, bytes, Access::kLoad))) return;
    written = first_unwritten(from_address, bytes);
  }
  if (to_device && !(t = access_device(work, "a copy", to_address, bytes, Access::kStore))) return;
  std::memmove(t, s, bytes);
  if (written == bytes) return;
  if (to_device)
    copy_initialisation(to_address, from_address, bytes);
  else if (options().initialised)
    std::fprintf(stderr,
                 "cuda-emulator: note: a copy of %zu bytes to the host includes bytes that have never been written, starting at %s\n",
                 bytes, device(device_of(from_address)).describe(from_address + written).c_str());
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream, bool wait) {
  Lock lock;
  if (bytes == 0) return cudaSuccess;
  const auto s = stream_of(stream);
  if (!s) {
    misuse("a copy in a stream that does not exist");
    return fail(cudaErrorInvalidResourceHandle);
  }
  if (const cudaError_t e = wait ? check_wait(s) : check_use(s)) return fail(e);
  // CUDA Runtime API, "API synchronization behavior": pageable memory is read and written before the call returns. Pinned memory, and
  // pageable memory in a graph, is read and written when the copy runs. The host does not wait for a copy within device memory.
  const bool pageable_source = !is_device_address(from) && !is_pinned(from, bytes);
  const bool pageable_target = !is_device_address(to) && !is_pinned(to, bytes);
  std::shared_ptr<std::vector<std::uint8_t>> staged;
  if (pageable_source && !s->capture) {
    const auto* p = static_cast<const std::uint8_t*>(from);
    staged = std::make_shared<std::vector<std::uint8_t>>(p, p + bytes);
  }
  enqueue(s, [=](Work& work) {
    copy_now(work, to, from, bytes, staged.get());
    return true;
  });
  const bool within_devices = is_device_address(from) && is_device_address(to);
  if (((wait && !within_devices) || pageable_target) && !s->capture) wait_on_host(mark_of(s));
  return cudaSuccess;
}

cudaError_t set_bytes(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  Lock lock;
  if (bytes == 0) return cudaSuccess;
  const auto s = stream_of(stream);
  if (!s) {
    misuse("a memset in a stream that does not exist");
    return fail(cudaErrorInvalidResourceHandle);
  }
  if (const cudaError_t e = check_use(s)) return fail(e);
  enqueue(s, [=](Work& work) {
    start_work(work, "a memset");
    std::uint8_t* at = access_device(work, "a memset", reinterpret_cast<std::uint64_t>(p), bytes, Access::kStore);
    if (at) std::memset(at, value, bytes);
    return true;
  });
  return cudaSuccess;
}

void release_now(void* p) {
  const auto at = reinterpret_cast<std::uint64_t>(p);
  const int owner = device_of(at);
  if (!is_device(owner) || !device(owner).release(at)) misuse("free of " + hex(at) + ", which is not allocated");
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  Lock lock;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t e = check_unsafe_call()) return fail(e);
  const std::uint64_t at = device(current_device).allocate(bytes);
  if (!at) return fail(cudaErrorMemoryAllocation);
  *p = reinterpret_cast<void*>(at);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  Lock lock;
  if (!p) return cudaSuccess;
  if (const cudaError_t e = check_unsafe_call()) return fail(e);
  const int owner = device_of(reinterpret_cast<std::uint64_t>(p));
  if (is_device(owner)) wait_for_device(owner);
  release_now(p);
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t) { return cudaMalloc(p, bytes); }
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  Lock lock;
  if (!p) return cudaSuccess;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    s->capture->graph->memory.push_back(p);  // the graph's launches use it
    return cudaSuccess;
  }
  enqueue(s, [p](Work&) {
    release_now(p);
    return true;
  });
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) { return copy(to, from, bytes, nullptr, true); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return copy(to, from, bytes, stream, false);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, std::size_t bytes, cudaStream_t stream) {
  if (bytes &&
      (device_of(reinterpret_cast<std::uint64_t>(to)) != to_device || device_of(reinterpret_cast<std::uint64_t>(from)) != from_device))
    return refuse(cudaErrorInvalidValue, "cudaMemcpyPeerAsync: an address is not on the given device");
  return copy(to, from, bytes, stream, false);
}
cudaError_t cudaMemcpyPeer(void* to, int to_device, const void* from, int from_device, std::size_t bytes) {
  return cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, nullptr);
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) { return set_bytes(p, value, bytes, nullptr); }
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) { return set_bytes(p, value, bytes, stream); }

cudaError_t cudaHostRegister(void* p, std::size_t bytes, unsigned) {
  Lock lock;
  if (!options().host_register) return fail(cudaErrorNotSupported);
  if (!p || bytes == 0) return fail(cudaErrorInvalidValue);
  if (const cudaError_t e = check_unsafe_call()) return fail(e);
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  if (overlaps_pinned(at, bytes)) return fail(cudaErrorHostMemoryAlreadyRegistered);
  pinned()[at] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* p) {
  Lock lock;
  if (!pinned().count(reinterpret_cast<std::uintptr_t>(p))) return fail(cudaErrorHostMemoryNotRegistered);
  run_all_streams();  // as the driver does, although not documented
  pinned().erase(reinterpret_cast<std::uintptr_t>(p));
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  Lock lock;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t e = check_unsafe_call()) return fail(e);
  *p = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*p) return fail(cudaErrorMemoryAllocation);
  pinned()[reinterpret_cast<std::uintptr_t>(*p)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) { return cudaHostAlloc(p, bytes, 0); }
cudaError_t cudaFreeHost(void* p) {
  Lock lock;
  if (!p) return cudaSuccess;
  if (!pinned().count(reinterpret_cast<std::uintptr_t>(p))) return fail(cudaErrorInvalidValue);
  run_all_streams();  // as the driver does, although not documented
  pinned().erase(reinterpret_cast<std::uintptr_t>(p));
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  Lock lock;
  std::memset(a, 0, sizeof *a);
  const int owner = device_of(reinterpret_cast<std::uint64_t>(p));
  a->type = owner >= 0 ? cudaMemoryTypeDevice : is_pinned(p, 1) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  a->device = owner >= 0 ? owner : 0;
  a->devicePointer = owner >= 0 ? const_cast<void*>(p) : nullptr;
  return cudaSuccess;
}

}  // extern "C"
