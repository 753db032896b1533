#include "execution/interpreter.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "execution/memory_access.hpp"
#include "report.hpp"

namespace emu {
namespace {

// --- barriers ---

int alive_threads(const Block& b) {
  int n = 0;
  for (int i = 0; i < b.warp_count; ++i) n += __builtin_popcount(b.warps[i].alive);
  return n;
}

/// Releases the waiting warps if all expected threads have arrived.
void check_barrier(Block& b, int id) {
  Barrier& bar = b.barriers[id];
  if (bar.warps == 0) return;
  const int needed = bar.expected ? bar.expected : alive_threads(b);
  if (bar.arrived < needed) return;
  for (int i = 0; i < b.warp_count; ++i) {
    Warp& w = b.warps[i];
    if (!(bar.warps >> i & 1) || w.state != Warp::kWaiting || w.barrier != id) continue;
    for (int j = 0; j < b.warp_count; ++j) w.clock[j] = std::max(w.clock[j], bar.clock[j]);
    w.advance_clock();
    w.state = Warp::kReady;
  }
  bar = {};
}

/// bar.sync (`waits`) and bar.arrive. Operands: the barrier and, optionally, a thread count.
void arrive(Warp& w, const Op& op, Mask mask, bool waits) {
  Block& b = *w.block;
  const int lane = first_lane(mask);
  const auto id = static_cast<int>(w.row<std::uint32_t>(op.o[op.writes])[lane]);
  const int expected = op.reads > 1 ? static_cast<int>(w.row<std::uint32_t>(op.o[op.writes + 1])[lane]) : 0;
  if (id < 0 || id >= kBarriers) return report(w, op, lane, "barrier", "the barrier is " + std::to_string(id) + "; expected 0 to 15");
  if (options().sync && mask != w.alive)
    report(w, op, first_lane(w.alive & ~mask), "barrier divergence",
           "only lanes " + hex(mask) + " of " + hex(w.alive) + " reach the barrier together");
  if (options().sync && expected % kLanes != 0)
    report(w, op, lane, "barrier", "the thread count is " + std::to_string(expected) + "; expected a multiple of 32");
  Barrier& bar = b.barriers[id];
  if (bar.warps && bar.expected != expected)
    report(w, op, lane, "barrier",
           "two thread counts for one barrier: " + std::to_string(bar.expected) + " and " + std::to_string(expected));
  bar.expected = expected;
  bar.arrived += expected ? kLanes : __builtin_popcount(w.alive);
  bar.warps |= 1u << w.index;
  for (int j = 0; j < b.warp_count; ++j) bar.clock[j] = std::max(bar.clock[j], w.clock[j]);
  if (waits) {
    w.state = Warp::kWaiting;
    w.barrier = id;
  } else {
    w.advance_clock();
  }
  check_barrier(b, id);
}

void report_hang(Block& b) {
  for (int i = 0; i < b.warp_count; ++i) {
    Warp& w = b.warps[i];
    if (w.state != Warp::kWaiting) continue;
    const Op& op = b.launch->program->ops[static_cast<std::size_t>(std::max(0, w.stack.back().pc - 1))];
    const Barrier& bar = b.barriers[w.barrier];
    report(w, op, first_lane(w.alive), "barrier divergence",
           "the block hangs: " + std::to_string(bar.arrived) + " of " + std::to_string(bar.expected ? bar.expected : alive_threads(b)) +
               " threads have reached barrier " + std::to_string(w.barrier) + "; the others have exited or wait elsewhere");
    throw LaunchAborted{};
  }
}

// --- control flow ---

void exit_lanes(Warp& w, Mask mask) {
  w.alive &= ~mask;
  for (auto& frame : w.stack) frame.mask &= ~mask;
  if (w.alive == 0) {
    w.state = Warp::kDone;
    std::array<std::int32_t, kLanes> all;
    all.fill(kAllGroups);
    finish_copies(w, kAllLanes, all);
  }
  for (int id = 0; id < kBarriers; ++id) check_barrier(*w.block, id);
}

void branch(Warp& w, const Op& op, Mask taken) {
  Frame& top = w.stack.back();
  const Mask fall = top.mask & ~taken;
  const std::int32_t next = static_cast<std::int32_t>(op.number) + 1;
  if (!taken) {
    top.pc = next;
  } else if (!fall) {
    top.pc = op.target;
  } else {
    const std::int32_t meet = op.reconverge;
    // This frame becomes the reconvergence frame, unless the frame below already is.
    if (top.reconverge == meet)
      w.stack.pop_back();
    else
      top.pc = meet;
    Frame sides[2] = {{op.target, meet, taken}, {next, meet, fall}};
    if (w.block->random() & 1) std::swap(sides[0], sides[1]);
    for (const Frame& f : sides)
      if (f.pc != meet) w.stack.push_back(f);
  }
}

/// Some lanes are at a barrier. Lanes of the warp that never reconverge with them may be about to exit; if so, runs those first and returns
/// true.
bool defer(Warp& w, Mask mask) {
  if (mask == w.alive || w.stack.back().reconverge != -1) return false;
  const auto& ops = w.block->launch->program->ops;
  for (std::size_t i = 0; i + 1 < w.stack.size(); ++i) {
    const Frame& f = w.stack[i];
    if (f.mask == 0 || f.reconverge != -1 || ops[static_cast<std::size_t>(f.pc)].control == Control::kBarrier) continue;
    std::swap(w.stack[i], w.stack.back());
    return true;
  }
  return false;
}

/// Executes an op that affects control flow. Returns false if the warp's turn ends.
bool control(Warp& w, const Op& op, Mask mask) {
  Frame& top = w.stack.back();
  switch (op.control) {
    case Control::kBranch:
      branch(w, op, mask);
      return true;
    case Control::kExit:
      ++top.pc;
      if (mask) exit_lanes(w, mask);
      return w.state != Warp::kDone;
    case Control::kBarrier:
      if (defer(w, mask)) return true;
      ++top.pc;
      if (mask) arrive(w, op, mask, true);
      return w.state == Warp::kReady;
    case Control::kArrive:
      ++top.pc;
      if (mask) arrive(w, op, mask, false);
      return true;
    case Control::kYield:
      ++top.pc;
      return false;
    case Control::kNone:
      break;
  }
  return true;
}

/// Runs the warp for `turn` instructions, or until it waits or exits.
void run_warp(Warp& w, std::int64_t turn) {
  const Op* const ops = w.block->launch->program->ops.data();
  KernelCount* const count = w.block->launch->count;
  while (turn-- > 0) {
    Frame* top = &w.stack.back();
    while (top->mask == 0 || top->pc == top->reconverge) {
      w.stack.pop_back();
      if (w.stack.empty()) {
        w.state = Warp::kDone;
        return;
      }
      top = &w.stack.back();
    }
    const Op& op = ops[top->pc];
    ++w.executed;
    Mask mask = top->mask;
    if (op.guard >= 0) {
      const Mask guard = *reinterpret_cast<const Mask*>(w.registers + op.guard);
      mask &= op.guard_negated ? ~guard : guard;
    }
    if (count) {
      ++count->ops[op.number].runs;
      count->ops[op.number].lanes += static_cast<std::uint64_t>(__builtin_popcount(mask));
    }
    if (op.control == Control::kNone) {
      ++top->pc;
      if (mask) op.run(w, op, mask);
    } else if (!control(w, op, mask)) {
      return;
    }
  }
}

// --- schedules ---

void check_watchdog(Block& b) {
  for (int i = 0; i < b.warp_count; ++i) {
    Warp& w = b.warps[i];
    if (w.executed <= options().watchdog || w.state != Warp::kReady) continue;
    const Op& op = b.launch->program->ops[static_cast<std::size_t>(w.stack.back().pc)];
    report(w, op, first_lane(w.alive), "hang", "the warp has executed " + std::to_string(w.executed) + " instructions");
    throw LaunchAborted{};
  }
}

void run_block(Block& b) {
  int order[kMaxWarps];
  const int n = b.warp_count;
  for (int i = 0; i < n; ++i) order[i] = i;
  if (options().schedule != Options::kRoundRobin)
    for (int i = n - 1; i > 0; --i) std::swap(order[i], order[b.random() % static_cast<std::uint32_t>(i + 1)]);
  for (;;) {
    int ready[kMaxWarps], count = 0, done = 0;
    for (int i = 0; i < n; ++i) {
      if (b.warps[order[i]].state == Warp::kReady) ready[count++] = order[i];
      if (b.warps[order[i]].state == Warp::kDone) ++done;
    }
    if (done == n) return;
    if (count == 0) return report_hang(b);
    switch (options().schedule) {
      case Options::kWhole:
        run_warp(b.warps[ready[0]], options().watchdog ? 1ll << 10 : 1ll << 60);
        break;
      case Options::kRoundRobin:
        for (int i = 0; i < count; ++i) run_warp(b.warps[ready[i]], 16);
        break;
      case Options::kRandom: {
        const std::uint32_t r = b.random();
        run_warp(b.warps[ready[r % static_cast<std::uint32_t>(count)]], 1ll << (r >> 8) % 11);  // turns of 1 to 1024 instructions
        break;
      }
    }
    if (options().watchdog) check_watchdog(b);
  }
}

/// Block order, which depends on the seed: from a random start, in steps coprime to the number of blocks.
struct BlockOrder {
  std::uint64_t at = 0, step = 1;
  BlockOrder(std::uint32_t blocks, std::uint32_t launch) {
    if (options().schedule == Options::kRoundRobin || blocks <= 1) return;
    std::mt19937_64 random(options().seed * 1000003 + launch);
    at = random() % blocks;
    do step = random() % blocks;
    while (std::gcd<std::uint64_t, std::uint64_t>(step, blocks) != 1);
  }
};

void count_launch(const Launch& l) {
  l.count->launches += 1;
  l.count->blocks += l.grid.count();
  l.count->threads += l.grid.count() * l.block.count();
  l.count->shared_bytes = std::max(l.count->shared_bytes, l.program->static_shared + l.dynamic_shared);
}

}  // namespace

void run(const Launch& launch) {
  static Block& block = *new Block;  // never destroyed: launches may run while the process exits
  static std::uint32_t epoch = 1;
  static int warps = 0;
  if (launch.count) count_launch(launch);
  const auto clear = [&](auto& table) { std::fill(table.begin(), table.end(), typename std::decay_t<decltype(table)>::value_type{}); };
  if (const int n = static_cast<int>((launch.block.count() + kLanes - 1) / kLanes); n != warps) {
    clear(block.reads);  // its row length has changed
    warps = n;
  }
  const auto blocks = static_cast<std::uint32_t>(launch.grid.count());
  BlockOrder order(blocks, launch.work.number);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    if (epoch > 1u << 25) {  // Block::reads holds times of 26 bits
      epoch = 1;
      clear(block.words);
      clear(block.reads);
      for (Warp& w : block.warps) w.clock.fill(0);
    }
    set_up(block, launch, static_cast<std::uint32_t>(order.at), epoch);
    run_block(block);
    for (int w = 0; w < block.warp_count; ++w) epoch = std::max(epoch, block.warps[w].clock[w]);
    order.at = (order.at + order.step) % blocks;
  }
}

}  // namespace emu
