#include "execution/block.hpp"

#include <cstring>

namespace emu {
namespace {

/// Value of a special register.
std::uint64_t special_value(const std::string& name, const Warp& w, int lane) {
  const Block& b = *w.block;
  const Launch& l = *b.launch;
  const std::uint32_t t = thread_of(w, lane), bit = 1u << lane;
  if (name == "%tid.x" || name == "%tid") return t % l.block.x;
  if (name == "%tid.y") return t / l.block.x % l.block.y;
  if (name == "%tid.z") return t / l.block.x / l.block.y;
  if (name == "%ntid.x" || name == "%ntid") return l.block.x;
  if (name == "%ntid.y") return l.block.y;
  if (name == "%ntid.z") return l.block.z;
  if (name == "%ctaid.x") return b.at.x;
  if (name == "%ctaid.y") return b.at.y;
  if (name == "%ctaid.z") return b.at.z;
  if (name == "%nctaid.x") return l.grid.x;
  if (name == "%nctaid.y") return l.grid.y;
  if (name == "%nctaid.z") return l.grid.z;
  if (name == "%laneid") return static_cast<std::uint64_t>(lane);
  if (name == "%warpid") return static_cast<std::uint64_t>(w.index);
  if (name == "%nwarpid") return static_cast<std::uint64_t>(b.warp_count);
  if (name == "%nsmid" || name.find("%cluster_nctaid") == 0 || name == "%cluster_nctarank") return 1;
  if (name == "%lanemask_eq") return bit;
  if (name == "%lanemask_lt") return bit - 1;
  if (name == "%lanemask_le") return bit | (bit - 1);
  if (name == "%lanemask_gt") return ~(bit | (bit - 1));
  if (name == "%lanemask_ge") return ~(bit - 1);
  if (name == "%dynamic_smem_size") return l.dynamic_shared;
  if (name == "%total_smem_size") return l.program->static_shared + l.dynamic_shared;
  return 0;
}
void fill_specials(Warp& w) {
  for (const auto& [name, ref, wide] : w.block->launch->program->specials) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::uint64_t v = special_value(name, w, lane);
      if (wide)
        w.row<std::uint64_t>(ref)[lane] = v;
      else
        w.row<std::uint32_t>(ref)[lane] = static_cast<std::uint32_t>(v);
    }
  }
}

/// Starts the clocks after all times of the previous block.
void start_clocks(Block& b, std::uint32_t& epoch) {
  std::uint32_t latest = epoch;
  for (int i = 0; i < b.warp_count; ++i) latest = std::max(latest, b.warps[i].clock[i]);
  epoch = latest + 2;
  for (int i = 0; i < b.warp_count; ++i) {
    b.warps[i].clock.fill(epoch);
    b.warps[i].clock[i] = epoch + 1;
    b.warps[i].index = i;
    b.warps[i].update_floor(b.warp_count);
  }
}

template <class T>
void grow(std::vector<T>& v, std::size_t size, T value = {}) {
  if (v.size() < size) v.resize(size, value);
}

void set_up_shared_memory(Block& b, const Launch& l) {
  const Program& p = *l.program;
  b.shared_end = l.dynamic_shared ? p.shared_begin + l.dynamic_shared : kFirstShared + p.static_shared;
  grow(b.shared, b.shared_end);
  std::memset(b.shared.data(), 0xff, b.shared_end);  // NaN
  const std::size_t words = b.shared_end / 4 + 1;
  grow(b.words, words);
  grow(b.reads, words * static_cast<std::size_t>(b.warp_count));
}

void set_up_warp(Block& b, int index, std::uint8_t* registers) {
  const Program& p = *b.launch->program;
  Warp& w = b.warps[index];
  w.registers = registers + p.register_bytes * static_cast<std::size_t>(index);
  w.constants = p.constants.data();
  w.block = &b;
  w.index = index;
  const int lanes = std::min(kLanes, b.threads - index * kLanes);
  w.alive = lanes == kLanes ? kAllLanes : (1u << lanes) - 1;
  w.stack.assign(1, {0, -1, w.alive});
  w.state = Warp::kReady;
  w.copies.clear();
  w.committed.fill(0);
  w.executed = 0;
  w.local.assign(static_cast<std::size_t>(p.local_bytes) * kLanes, 0xff);
  fill_specials(w);
}

}  // namespace

std::string title_of(const Launch& launch) { return (launch.range.empty() ? "" : launch.range + ": ") + launch.program->display_name; }

void set_up(Block& b, const Launch& l, std::uint32_t id, std::uint32_t& epoch) {
  b.launch = &l;
  b.id = id;
  ++b.generation;
  b.at = {id % l.grid.x, id / l.grid.x % l.grid.y, id / l.grid.x / l.grid.y};
  b.threads = static_cast<int>(l.block.count());
  b.warp_count = (b.threads + kLanes - 1) / kLanes;
  if (b.warps.size() < static_cast<std::size_t>(b.warp_count)) b.warps.resize(static_cast<std::size_t>(b.warp_count));
  b.barriers.fill({});
  b.random_state = (options().seed + 1) * 0x9e3779b97f4a7c15ull ^ (std::uint64_t{l.work.number} << 32 | id) * 0xd1342543de82ef95ull;
  if (b.random_state == 0) b.random_state = 1;
  set_up_shared_memory(b, l);
  grow(b.register_file, l.program->register_bytes * static_cast<std::size_t>(b.warp_count) + 64, std::uint8_t{0xff});
  auto* registers = reinterpret_cast<std::uint8_t*>((reinterpret_cast<std::uintptr_t>(b.register_file.data()) + 63) / 64 * 64);
  start_clocks(b, epoch);
  for (int i = 0; i < b.warp_count; ++i) set_up_warp(b, i, registers);
}

}  // namespace emu
