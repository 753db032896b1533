// A launch and the state of the block that executes it.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"
#include "options.hpp"
#include "ordering.hpp"
#include "ptx/program.hpp"

namespace emu {

constexpr int kMaxWarps = 32;  // 1024 threads
constexpr int kBarriers = 16;

struct Dim3 {
  std::uint32_t x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

/// Counters of one instruction.
struct OpCount {
  std::uint64_t runs = 0, lanes = 0;
  std::uint64_t bytes = 0, units = 0, ideal = 0;  // units: sectors of global memory, wavefronts of shared memory
};

/// Counters of one kernel in one range.
struct KernelCount {
  const Program* program = nullptr;
  std::string title;  // title_of() of its launches
  std::uint64_t launches = 0, blocks = 0, threads = 0;
  std::uint32_t shared_bytes = 0;
  std::vector<OpCount> ops;
};

struct Launch {
  const Program* program = nullptr;
  std::string range;  // current_range() of the launching thread
  Device* device = nullptr;
  Dim3 grid, block;
  std::uint32_t dynamic_shared = 0;
  std::vector<std::uint8_t> parameters;
  KernelCount* count = nullptr;
  Work work;
};

/// The range, if any, and the kernel: "conv_forward: tile_gemm_kernel<...>".
std::string title_of(const Launch& launch);

struct Block;

/// Lanes at the same instruction. The frame is popped when pc reaches `reconverge`.
struct Frame {
  std::int32_t pc, reconverge;
  Mask mask;
};

/// A lane's cp.async in flight.
struct AsyncCopy {
  std::uint64_t from;
  std::uint32_t to;
  std::uint8_t lane, bytes, source_bytes;
  std::int32_t group;  // of the lane, counted from 0; -1: not committed
  std::uint32_t op;
};
constexpr std::int32_t kAllGroups = 1 << 30;  // for finish_copies(): uncommitted copies as well

struct Warp {
  std::uint8_t* registers = nullptr;
  const std::uint8_t* constants = nullptr;
  Block* block = nullptr;
  int index = 0;
  Mask alive = 0;  // lanes that have not exited
  std::vector<Frame> stack;
  enum State { kReady, kWaiting, kDone } state = kReady;
  int barrier = 0;                               // kWaiting: at which barrier
  std::array<std::uint32_t, kMaxWarps> clock{};  // vector clock: latest known time of each warp
  std::uint32_t floor = 0;                       // everything up to this time, in any warp, happened before now
  std::vector<AsyncCopy> copies;
  std::array<std::int32_t, kLanes> committed{};  // cp.async groups committed by each lane
  std::uint64_t executed = 0;                    // instructions
  std::vector<std::uint8_t> local;               // local memory, lane by lane

  template <class T>
  T* row(Ref ref) const {
    return reinterpret_cast<T*>((is_constant(ref) ? const_cast<std::uint8_t*>(constants) : registers) + (ref & ~1u));
  }
  Mask predicate(Ref ref) const { return *row<Mask>(ref); }

  void update_floor(int warps) {
    floor = clock[static_cast<std::size_t>(index)] - 1;
    for (int i = 0; i < warps; ++i)
      if (i != index) floor = std::min(floor, clock[static_cast<std::size_t>(i)]);
  }
  /// Starts a new time step of this warp: earlier accesses happened before later ones.
  void advance_clock();
};

struct Barrier {
  int arrived = 0, expected = 0;  // threads; expected 0: all of the block
  std::uint32_t warps = 0;        // bit i: warp i has arrived
  std::array<std::uint32_t, kMaxWarps> clock{};
};

/// The last write to four bytes of shared memory. Times are those of the warps' clocks, which increase from block to block, so tables need
/// not be cleared.
struct SharedWord {
  std::uint32_t write_time;
  std::uint16_t writer;      // thread
  std::uint8_t write_bytes;  // bits 0 to 3: the bytes; bit 7: by an atomic
  std::uint8_t written;      // bytes that have been written since the block started
  std::uint32_t block;       // generation of the block to which the fields belong
  std::uint16_t pending;     // cp.async copies in flight to these bytes
  std::uint16_t padding;
};

struct Block {
  const Launch* launch = nullptr;
  std::uint32_t id = 0, generation = 0;
  Dim3 at;  // blockIdx
  std::vector<Warp> warps;
  int warp_count = 0, threads = 0;
  std::array<Barrier, kBarriers> barriers;
  std::vector<std::uint8_t> shared;  // indexed by address, starting at kFirstShared
  std::uint32_t shared_end = 0;
  std::vector<SharedWord> words;     // of shared memory
  std::vector<std::uint32_t> reads;  // [word][warp]: last read: time << 6 | lane (kManyLanes: several)
  std::vector<std::uint8_t> register_file;
  std::uint64_t random_state = 0;

  /// State of a word of shared memory, reset when the block first uses it.
  SharedWord& word_state(std::uint32_t index) {
    SharedWord& word = words[index];
    if (word.block != generation) {
      word.block = generation;
      word.written = word.write_bytes = 0;
      word.pending = 0;
    }
    return word;
  }
  std::uint32_t random() {  // xorshift
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<std::uint32_t>(random_state >> 16);
  }
};

inline void Warp::advance_clock() {
  ++clock[static_cast<std::size_t>(index)];
  update_floor(block->warp_count);
}

/// Prepares block number `id` of the launch. `epoch` is later than all times so far, and is advanced.
void set_up(Block& block, const Launch& launch, std::uint32_t id, std::uint32_t& epoch);

// --- for instruction handlers ---

inline std::uint32_t thread_of(const Warp& w, int lane) { return static_cast<std::uint32_t>(w.index * kLanes + lane); }

/// Counters of the instruction; null without --stats.
inline OpCount* count_of(const Warp& w, const Op& op) {
  KernelCount* count = w.block->launch->count;
  return count ? &count->ops[op.number] : nullptr;
}

/// Calls f(lane) for the lanes of the mask.
template <class F>
inline void for_lanes(Mask mask, F f) {
  for (; mask; mask &= mask - 1) f(__builtin_ctz(mask));
}

}  // namespace emu
