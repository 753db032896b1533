// Device memory. Every device has an address range that the host cannot access: a host program that dereferences a device pointer faults,
// as it would with a GPU. Host memory of the same layout holds the contents; shadow memory records which bytes have been written and which
// work accessed them last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace emu {

constexpr std::uint64_t kDeviceBase = 0x00000a0000000000ull;  // of device 0
constexpr std::uint64_t kDeviceSpan = 1ull << 40;
constexpr int kMaxDevices = 16;

struct Allocation {
  std::uint64_t begin = 0, bytes = 0;
  std::uint64_t written = 0;  // number of bytes that have been written at least once
  bool freed = false;
  std::string name;  // of a module's .global or .const variable; else empty
  std::uint64_t end() const { return begin + bytes; }
};

/// The last write and the last read of four bytes of global memory. Work is identified by number (ordering.hpp).
struct GlobalWord {
  std::uint32_t write_work, write_block;
  std::uint32_t read_work, read_block;
};
// write_block and read_block: bits 0 to 23 are the block, bits 24 to 27 select the accessed bytes, bit 31 marks an atomic.
constexpr std::uint32_t kBlockBits = 0x00ffffffu;
constexpr std::uint32_t kManyBlocks = kBlockBits;
constexpr std::uint32_t kAtomicBit = 1u << 31;

class Device {
 public:
  Device(int index, std::uint64_t capacity);
  const int index;
  const std::uint64_t base, capacity;
  std::uint8_t* memory = nullptr;       // contents, starting at address `base`
  std::uint8_t* initialised = nullptr;  // one flag per byte
  GlobalWord* words = nullptr;          // one per four bytes
  std::uint32_t peers = 0;              // bit i: kernels on this device may access the memory of device i
  std::uint64_t used = 0;               // bytes

  /// Returns 0 if the memory is exhausted.
  std::uint64_t allocate(std::uint64_t bytes, const std::string& name = "");
  /// Returns false if no live allocation begins at the address.
  bool release(std::uint64_t address);
  /// The allocation that contains the address, freed or not; null: none.
  Allocation* find(std::uint64_t address);
  /// Describes the address relative to the nearest allocation, for messages.
  std::string describe(std::uint64_t address);
  std::uint8_t* host(std::uint64_t address) const { return memory + (address - base); }
  std::uint8_t* init_of(std::uint64_t address) const { return initialised + (address - base); }
  GlobalWord* word_of(std::uint64_t address) const { return words + (address - base) / 4; }
  /// Marks bytes of one allocation as written.
  void mark(std::uint64_t address, std::uint64_t bytes);
  std::map<std::uint64_t, Allocation> allocations;  // by begin

 private:
  std::uint64_t reuse(std::uint64_t size);
  const std::uint64_t span_;                          // size of the address range
  std::uint64_t next_;                                // first address that has never been used
  std::multimap<std::uint64_t, std::uint64_t> free_;  // begin by size
};

/// Index of the device whose range contains the address; -1: none.
inline int device_of(std::uint64_t address) {
  const std::uint64_t at = (address - kDeviceBase) / kDeviceSpan;
  return address >= kDeviceBase && at < kMaxDevices ? static_cast<int>(at) : -1;
}

/// All devices, created at the first call.
std::vector<Device*>& devices();
inline Device& device(int index) { return *devices()[static_cast<std::size_t>(index)]; }
inline bool is_device(int index) { return index >= 0 && index < static_cast<int>(devices().size()); }

}  // namespace emu
