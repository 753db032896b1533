#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "options.hpp"
#include "report.hpp"

namespace emu {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kGuard = 256;  // bytes between allocations: an access past the end of one does not reach the next

/// Freed addresses are reused as late as possible: a device has up to this many times more addresses than memory.
constexpr std::uint64_t kSpread = 16;

/// Reserves address space; pages are allocated when touched.
void* reserve(std::uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    give_up("cannot reserve " + std::to_string(bytes >> 30) + " GiB of address space for a device; set a smaller EMU_MEMORY_MB");
  return p;
}

std::uint64_t footprint(std::uint64_t bytes) { return (bytes + 255) / 256 * 256 + kGuard; }

}  // namespace

Device::Device(int i, std::uint64_t bytes)
    : index(i), base(kDeviceBase + static_cast<std::uint64_t>(i) * kDeviceSpan), capacity(bytes),
      span_(std::min(kSpread * bytes, kDeviceSpan)), next_(base + kPage) {
  if (bytes == 0 || bytes > kDeviceSpan / 2) give_up("EMU_MEMORY_MB is " + std::to_string(bytes >> 20) + "; expected 1 to 524288");
  memory = static_cast<std::uint8_t*>(reserve(span_));
  initialised = static_cast<std::uint8_t*>(reserve(span_));
  words = static_cast<GlobalWord*>(reserve(span_ / 4 * sizeof(GlobalWord)));
  // Keeps the host's own memory out of the device's range.
  void* const range = reinterpret_cast<void*>(base);
  if (mmap(range, span_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != range)
    give_up("the address range of device " + std::to_string(i) + ", from " + hex(base) + ", is in use");
}

/// Reuses a freed range. Returns 0 if none is large enough.
std::uint64_t Device::reuse(std::uint64_t size) {
  const auto found = free_.lower_bound(size);
  if (found == free_.end()) return 0;
  const auto [available, at] = *found;
  free_.erase(found);
  if (available > size) free_.insert({available - size, at + size});
  for (auto it = allocations.lower_bound(at); it != allocations.end() && it->first < at + size;) it = allocations.erase(it);
  std::memset(word_of(at), 0, size / 4 * sizeof(GlobalWord));
  return at;
}

std::uint64_t Device::allocate(std::uint64_t bytes, const std::string& name) {
  if (bytes == 0 || bytes > capacity || used + bytes > capacity) return 0;
  const std::uint64_t size = footprint(bytes);
  std::uint64_t at = next_;
  if (next_ + size <= base + span_)
    next_ += size;
  else if ((at = reuse(size)) == 0)
    return 0;
  Allocation& a = allocations[at];
  a.begin = at;
  a.bytes = bytes;
  a.name = name;
  used += bytes;
  std::memset(host(at), 0xff, bytes);  // NaN in every type
  std::memset(init_of(at), 0, bytes);
  return at;
}

bool Device::release(std::uint64_t address) {
  const auto found = allocations.find(address);
  if (found == allocations.end() || found->second.freed) return false;
  Allocation& a = found->second;
  a.freed = true;
  used -= a.bytes;
  // Returns whole pages to the system. The allocation stays listed, as freed.
  const std::uint64_t first = (a.begin - base + kPage - 1) / kPage * kPage, last = (a.begin - base + a.bytes) / kPage * kPage;
  if (last > first + 16 * kPage) {
    madvise(memory + first, last - first, MADV_DONTNEED);
    madvise(initialised + first, last - first, MADV_DONTNEED);
    madvise(words + first / 4, (last - first) / 4 * sizeof(GlobalWord), MADV_DONTNEED);
  }
  free_.insert({footprint(a.bytes), a.begin});
  return true;
}

Allocation* Device::find(std::uint64_t address) {
  auto it = allocations.upper_bound(address);
  if (it == allocations.begin()) return nullptr;
  --it;
  return address < it->second.end() ? &it->second : nullptr;
}

std::string Device::describe(std::uint64_t address) {
  auto it = allocations.upper_bound(address);
  if (it == allocations.begin()) return "before all allocations";
  --it;
  const Allocation& a = it->second;
  const std::string what = (a.freed ? "freed memory" : "the allocation") + std::string(a.name.empty() ? "" : " " + a.name) + " of " +
                           std::to_string(a.bytes) + " bytes";
  if (address < a.end()) return "byte " + std::to_string(address - a.begin) + " of " + what;
  return std::to_string(address - a.end()) + " bytes past the end of " + what;
}

void Device::mark(std::uint64_t address, std::uint64_t bytes) {
  Allocation* a = find(address);
  if (a == nullptr || a->written >= a->bytes) return;
  std::uint8_t* p = init_of(address);
  for (std::uint64_t i = 0; i < bytes; ++i) a->written += !p[i];
  std::memset(p, 1, bytes);
}

std::vector<Device*>& devices() {
  static auto* all = [] {
    auto* v = new std::vector<Device*>;
    for (int i = 0; i < options().devices && i < kMaxDevices; ++i) v->push_back(new Device(i, options().memory));
    return v;
  }();
  return *all;
}

}  // namespace emu
