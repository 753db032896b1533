#include "execution/races.hpp"

#include "report.hpp"

namespace emu {
namespace {

// --- global memory ---

/// Bit mask of the bytes that an access touches in the word at `at`.
std::uint32_t bytes_touched(std::uint64_t at, std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t from = address > at ? address - at : 0, to = std::min<std::uint64_t>(4, address + bytes - at);
  return ((1u << to) - 1) & ~((1u << from) - 1);
}

/// Whether work `earlier` happened before `work`. Caches the last answer: the same work has usually written neighbouring words.
inline bool is_ordered(std::uint32_t earlier, const Work& work) {
  static thread_local std::uint32_t last_earlier = 0, last_work = 0;
  if (earlier == 0 || earlier == work.number || (earlier == last_earlier && work.number == last_work)) return true;
  if (!happened_before(earlier, work)) return false;
  last_earlier = earlier, last_work = work.number;
  return true;
}

/// The work whose access conflicts with this one and is unordered with it; 0: none.
inline std::uint32_t unordered_work(const GlobalWord& g, std::uint32_t touched, Access access, const Work& work) {
  const bool both_atomic = access == Access::kAtomic && g.write_block & kAtomicBit;
  if (!is_ordered(g.write_work, work) && g.write_block >> 24 & touched && !both_atomic) return g.write_work;
  if (access != Access::kLoad && !is_ordered(g.read_work, work) && g.read_block >> 24 & touched) return g.read_work;
  return 0;
}

std::string race_message(std::uint64_t address, Access access, const std::string& other) {
  return std::string(verb(access)) + " of " + hex(address) + ", " + device(device_of(address)).describe(address) + ", which " + other;
}
std::string stream_race_message(const GlobalWord& g, std::uint32_t other, std::uint64_t address, Access access) {
  return race_message(address, access,
                      describe_work(other) + (other == g.write_work ? " writes" : " reads") + "; no event or wait orders the two");
}

void record(GlobalWord& g, std::uint32_t work, std::uint32_t block, std::uint32_t touched, Access access) {
  if (access == Access::kLoad) {
    if (g.read_work != work) {
      g.read_work = work;
      g.read_block = block | touched << 24;
    } else {
      const bool same = (g.read_block & kBlockBits) == block;
      g.read_block = (same ? block : kManyBlocks) | (g.read_block & 0x0f000000u) | touched << 24;
    }
    return;
  }
  std::uint32_t written = touched;
  if (g.write_work == work && (g.write_block & kBlockBits) == block) written |= g.write_block >> 24 & 0xf;
  g.write_work = work;
  g.write_block = block | written << 24 | (access == Access::kAtomic ? kAtomicBit : 0);
}

// --- shared memory ---

const char* same_warp(const Warp& w, int other) { return other == w.index ? " (same warp: no __syncwarp in between)" : ""; }

/// Reports an access that is not ordered after the last write; returns whether it did. what() describes the access.
template <class F>
bool races_with_write(Warp& w, const Op& op, int lane, const SharedWord& word, Access access, F what) {
  const int writer_warp = word.writer / kLanes;
  const std::uint32_t now = w.clock[static_cast<std::size_t>(w.index)];
  const bool both_atomic = access == Access::kAtomic && word.write_bytes & 0x80;
  const bool ordered = writer_warp == w.index ? word.writer == thread_of(w, lane) || word.write_time < now
                                              : word.write_time <= w.clock[static_cast<std::size_t>(writer_warp)];
  if (ordered || both_atomic) return false;
  report(w, op, lane, "race in shared memory",
         what() + ", which thread " + std::to_string(word.writer) + " has written with no barrier in between" + same_warp(w, writer_warp));
  return true;
}
/// Reports a write that is not ordered after earlier reads; returns whether it did.
template <class F>
bool races_with_read(Warp& w, const Op& op, int lane, const SharedWord& word, const std::uint32_t* reads, Access access, F what) {
  const std::uint32_t now = w.clock[static_cast<std::size_t>(w.index)];
  for (int u = 0; u < w.block->warp_count; ++u) {
    const std::uint32_t time = reads[u] >> 6, reader = reads[u] & 63;
    const bool ordered =
        u == w.index ? time < now || reader == static_cast<std::uint32_t>(lane) : time <= w.clock[static_cast<std::size_t>(u)];
    if (ordered) continue;
    if (access == Access::kAtomic && word.write_bytes & 0x80) continue;  // the other access is an atomic as well
    const std::string who = reader == kManyLanes ? "lanes of warp " + std::to_string(u) + " have"
                                                 : "thread " + std::to_string(u * kLanes + static_cast<int>(reader)) + " has";
    report(w, op, lane, "race in shared memory", what() + ", which " + who + " read with no barrier in between" + same_warp(w, u));
    return true;
  }
  return false;
}

}  // namespace

void check_global_race(Warp& w, const Op& op, int lane, Device& device, std::uint64_t address, int bytes, Access access) {
  const Work& work = w.block->launch->work;
  const std::uint32_t block = w.block->id % kManyBlocks;
  for (std::uint64_t at = address & ~3ull; at < address + static_cast<std::uint64_t>(bytes); at += 4) {
    GlobalWord& g = *device.word_of(at);
    const std::uint32_t touched = bytes >= 4 ? 0xf : bytes_touched(at, address, static_cast<std::uint64_t>(bytes));
    if (options().race) {
      const std::uint32_t writer = g.write_block & kBlockBits, reader = g.read_block & kBlockBits;
      const bool both_atomic = access == Access::kAtomic && g.write_block & kAtomicBit;
      if (g.write_work == work.number && writer != block && g.write_block >> 24 & touched && !both_atomic)
        return report(w, op, lane, "race between blocks",
                      race_message(at, access, "block " + std::to_string(writer) + " writes in the same launch"));
      if (access != Access::kLoad && g.read_work == work.number && reader != block && g.read_block >> 24 & touched)
        return report(w, op, lane, "race between blocks",
                      race_message(at, access,
                                   (reader == kManyBlocks ? "other blocks read" : "block " + std::to_string(reader) + " reads") +
                                       std::string(" in the same launch")));
    }
    if (options().streams)
      if (const std::uint32_t other = unordered_work(g, touched, access, work))
        return report(w, op, lane, "race between streams",
                      "in stream " + std::to_string(work.stream) + ": " + stream_race_message(g, other, at, access));
    record(g, work.number, block, touched, access);
  }
}

void check_copy_race(const Work& work, const std::string& name, std::uint64_t address, std::uint64_t bytes, Access access) {
  if (!options().streams) return;
  Device& owner = device(device_of(address));
  for (std::uint64_t at = address & ~3ull; at < address + bytes; at += 4) {
    GlobalWord& g = *owner.word_of(at);
    const std::uint32_t touched = bytes_touched(at, address, bytes);
    if (const std::uint32_t other = unordered_work(g, touched, access, work))
      return report("race between streams",
                    name + " in stream " + std::to_string(work.stream) + ": " + stream_race_message(g, other, at, access));
    record(g, work.number, kManyBlocks, touched, access);
  }
}

void check_shared_word(Warp& w, const Op& op, int lane, std::uint32_t index, std::uint32_t touched, Access access, const char* how) {
  Block& b = *w.block;
  SharedWord& word = b.word_state(index);
  const auto me = static_cast<std::uint16_t>(thread_of(w, lane));
  const std::uint32_t now = w.clock[static_cast<std::size_t>(w.index)];
  const auto what = [&] { return std::string(how) + " of shared byte " + std::to_string(index * 4 - kFirstShared); };
  if (word.pending && options().race)
    return report(w, op, lane, "copy in flight", what() + " before a wait for the cp.async that writes it");
  if (access != Access::kStore && options().initialised && (word.written & touched) != touched)
    report(w, op, lane, "uninitialised shared memory", what() + ", which no thread has written");
  if (!options().race) {
    if (access != Access::kLoad) word.written |= static_cast<std::uint8_t>(touched);
    return;
  }
  std::uint32_t* const reads = &b.reads[static_cast<std::size_t>(index) * static_cast<std::size_t>(b.warp_count)];
  if (word.write_bytes & touched & 0xf && races_with_write(w, op, lane, word, access, what)) return;
  if (access == Access::kLoad) {
    std::uint32_t& mine = reads[w.index];
    const bool several = mine >> 6 == now && (mine & 63) != static_cast<std::uint32_t>(lane);
    mine = now << 6 | (several ? kManyLanes : static_cast<std::uint32_t>(lane));
    return;
  }
  if (races_with_read(w, op, lane, word, reads, access, what)) return;
  const bool mine = word.writer == me && word.write_time == now;
  word.write_bytes = static_cast<std::uint8_t>((mine ? word.write_bytes & 0xf : 0) | touched | (access == Access::kAtomic ? 0x80u : 0));
  word.writer = me;
  word.write_time = now;
  word.written |= static_cast<std::uint8_t>(touched);
}

bool quick_shared_read(Warp& w, std::uint32_t index, std::uint32_t lane) {
  Block& b = *w.block;
  const SharedWord& word = b.words[index];
  if (word.block != b.generation || word.pending || (word.written & 0xf) != 0xf || word.write_time > w.floor) return false;
  const std::uint32_t now = w.clock[static_cast<std::size_t>(w.index)];
  std::uint32_t& mine =
      b.reads[static_cast<std::size_t>(index) * static_cast<std::size_t>(b.warp_count) + static_cast<std::size_t>(w.index)];
  mine = now << 6 | (mine >> 6 == now && (mine & 63) != lane ? kManyLanes : lane);
  return true;
}
bool quick_shared_write(Warp& w, std::uint32_t index, int lane) {
  Block& b = *w.block;
  SharedWord& word = b.words[index];
  if (word.block != b.generation || word.pending || word.write_time > w.floor) return false;
  const std::uint32_t* const reads = &b.reads[static_cast<std::size_t>(index) * static_cast<std::size_t>(b.warp_count)];
  std::uint32_t latest = 0;
  for (int u = 0; u < b.warp_count; ++u) latest = std::max(latest, reads[u]);
  if (latest >> 6 > w.floor) return false;
  word.writer = static_cast<std::uint16_t>(thread_of(w, lane));
  word.write_time = w.clock[static_cast<std::size_t>(w.index)];
  word.write_bytes = word.written = 0xf;
  return true;
}

}  // namespace emu
