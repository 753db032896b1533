#include "runtime/modules.hpp"

#include <cstring>

#include "memory.hpp"
#include "report.hpp"
#include "runtime/state.hpp"

namespace emu {
namespace {

std::vector<std::unique_ptr<Binary>>& binaries() {
  static auto* all = new std::vector<std::unique_ptr<Binary>>;
  return *all;
}
std::map<const void*, std::unique_ptr<Kernel>>& kernels() {
  static auto* all = new std::map<const void*, std::unique_ptr<Kernel>>;
  return *all;
}

void parse(Binary& b) {
  const PtxImage* best = nullptr;
  for (const auto& image : b.images)
    if (image.arch <= device_arch() && (!best || image.arch > best->arch)) best = &image;
  if (!best)
    throw ParseError("the program has no PTX for sm_" + std::to_string(device_arch()) +
                     " or older; compile with -gencode arch=compute_XY,code=compute_XY");
  b.module = std::make_unique<Module>(parse_ptx(best->text));
  b.arch = best->arch;
}

void allocate_variables(Binary& b, int index) {
  Addresses& a = b.addresses[index];
  Device& d = device(index);
  for (const auto& v : b.module->variables) {
    if (v.space == "shared" || v.is_extern || v.bytes == 0) continue;
    const auto bytes = static_cast<std::uint64_t>(v.bytes);
    const std::uint64_t at = d.allocate(bytes, v.name);
    if (at == 0) throw ParseError("out of memory for variable " + v.name);
    a[v.name] = at;
    std::memset(d.host(at), 0, bytes);
    if (!v.data.empty()) std::memcpy(d.host(at), v.data.data(), v.data.size());
    d.mark(at, bytes);
  }
  for (const auto& v : b.module->variables)
    for (const auto& patch : v.patches) {
      const std::uint64_t to = a.at(patch.symbol) + static_cast<std::uint64_t>(patch.offset);
      std::memcpy(d.host(a.at(v.name)) + patch.at, &to, 8);
    }
}

void load(Binary& b, int index) {
  if (!b.module) parse(b);
  if (!b.addresses.count(index)) allocate_variables(b, index);
}

}  // namespace

Kernel* find_kernel(const void* handle) {
  const auto found = kernels().find(handle);
  if (found != kernels().end()) return found->second.get();
  for (const auto& [host, kernel] : kernels())  // nvcc 13 also passes kernel handles
    if (kernel.get() == handle) return kernel.get();
  return nullptr;
}

Program& program_of(Kernel& k, int index) {
  auto& p = k.programs[index];
  if (!p) {
    load(*k.binary, index);
    const auto found = k.binary->module->functions.find(k.name);
    if (found == k.binary->module->functions.end()) throw ParseError("kernel " + k.name + " is not in the PTX");
    p = std::make_unique<Program>(decode(*k.binary->module, found->second, k.binary->addresses[index]));
  }
  return *p;
}

}  // namespace emu

using namespace emu;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  Lock lock;
  struct Wrapper {
    int magic, version;
    const void* data;
    void* other;
  };
  auto b = std::make_unique<Binary>();
  try {
    b->images = ptx_images(static_cast<Wrapper*>(wrapper)->data);
  } catch (const std::exception& e) {
    report("fat binary", e.what());
  }
  for (const auto& image : b->images) require_arch(image.arch);
  binaries().push_back(std::move(b));
  return reinterpret_cast<void**>(binaries().back().get());
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void** binary, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  Lock lock;
  auto k = std::make_unique<Kernel>();
  k->binary = reinterpret_cast<Binary*>(binary);
  k->name = name;
  kernels()[host] = std::move(k);
}
void __cudaRegisterVar(void** binary, char* host, char*, const char* name, int, std::size_t, int, int) {
  Lock lock;
  reinterpret_cast<Binary*>(binary)->variables[host] = name;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
  Lock lock;
  Kernel* k = find_kernel(host);
  if (!k) return fail(cudaErrorInvalidDeviceFunction);
  *kernel = reinterpret_cast<cudaKernel_t>(k);
  return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void** p, const void* symbol) {
  Lock lock;
  for (const auto& b : binaries()) {
    const auto found = b->variables.find(symbol);
    if (found == b->variables.end()) continue;
    load(*b, current_device);
    *p = reinterpret_cast<void*>(b->addresses[current_device].at(found->second));
    return cudaSuccess;
  }
  return fail(cudaErrorInvalidSymbol);
}
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t bytes, std::size_t offset, cudaMemcpyKind kind) {
  void* p;
  if (const cudaError_t e = cudaGetSymbolAddress(&p, symbol)) return e;
  return cudaMemcpy(static_cast<std::uint8_t*>(p) + offset, from, bytes, kind);
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, std::size_t bytes, std::size_t offset, cudaMemcpyKind kind) {
  void* p;
  if (const cudaError_t e = cudaGetSymbolAddress(&p, symbol)) return e;
  return cudaMemcpy(to, static_cast<std::uint8_t*>(p) + offset, bytes, kind);
}

}  // extern "C"
