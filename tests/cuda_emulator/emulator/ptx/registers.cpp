#include "ptx/registers.hpp"

#include <algorithm>

namespace emu {
namespace {

using Bits = std::vector<std::uint64_t>;

bool test(const Bits& b, std::uint32_t i) { return b[i / 64] >> (i % 64) & 1; }
void set(Bits& b, std::uint32_t i) { b[i / 64] |= 1ull << (i % 64); }
void reset(Bits& b, std::uint32_t i) { b[i / 64] &= ~(1ull << (i % 64)); }

class Allocator {
 public:
  Allocator(Program& program, const std::vector<BasicBlock>& blocks, const std::vector<RegisterClass>& classes)
      : p_(program), blocks_(blocks), classes_(classes), words_((classes.size() + 63) / 64) {}

  void run(const std::set<std::uint32_t>& permanent) {
    find_liveness();
    find_intervals();
    for (std::uint32_t v : permanent) first_[v] = -1, last_[v] = kForever;
    assign();
    rewrite();
  }

 private:
  static constexpr int kForever = 1 << 30;

  bool has_guard_register(const Op& op) const { return op.guard >= 0 && !(op.guard & 1); }

  /// Turns the registers that are live after the op into those live before it. A guarded op may leave its result unchanged.
  void step_back(const Op& op, Bits& live) const {
    if (op.guard < 0)
      for (int i = 0; i < op.writes; ++i) reset(live, p_.refs[op.first_ref + i] >> 1);
    for (int i = op.writes; i < op.writes + op.reads; ++i)
      if (!is_constant(p_.refs[op.first_ref + i])) set(live, p_.refs[op.first_ref + i] >> 1);
    if (has_guard_register(op)) set(live, static_cast<Ref>(op.guard) >> 1);
  }

  /// Live registers at block boundaries, by iteration to a fixed point.
  void find_liveness() {
    live_in_.assign(blocks_.size(), Bits(words_));
    live_out_ = live_in_;
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t b = blocks_.size(); b-- > 0;) {
        Bits live(words_);
        for (int to : blocks_[b].next)
          for (std::size_t w = 0; w < words_; ++w) live[w] |= live_in_[to][w];
        live_out_[b] = live;
        for (int i = blocks_[b].end; i-- > blocks_[b].begin;) step_back(p_.ops[i], live);
        if (live != live_in_[b]) {
          live_in_[b] = std::move(live);
          changed = true;
        }
      }
    }
  }

  void extend(std::uint32_t v, int at) {
    first_[v] = std::min(first_[v], at);
    last_[v] = std::max(last_[v], at);
  }

  /// Number of 32-bit registers for these live values.
  int pressure(const Bits& live) const {
    int count = 0;
    for (std::size_t w = 0; w < words_; ++w)
      for (std::uint64_t rest = live[w]; rest; rest &= rest - 1) {
        const RegisterClass cls = classes_[w * 64 + static_cast<std::size_t>(__builtin_ctzll(rest))];
        count += cls == RegisterClass::k64 ? 2 : cls == RegisterClass::k32 ? 1 : 0;
      }
    return count;
  }

  /// The first and the last op of each register's live range.
  void find_intervals() {
    first_.assign(classes_.size(), kForever);
    last_.assign(classes_.size(), -1);
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      for (std::uint32_t v = 0; v < classes_.size(); ++v) {
        if (test(live_in_[b], v)) extend(v, blocks_[b].begin);
        if (test(live_out_[b], v)) extend(v, blocks_[b].end - 1);
      }
      Bits live = live_out_[b];
      for (int i = blocks_[b].end; i-- > blocks_[b].begin;) {
        const Op& op = p_.ops[i];
        p_.live_registers = std::max(p_.live_registers, pressure(live));
        for (int j = 0; j < op.writes + op.reads; ++j)
          if (!is_constant(p_.refs[op.first_ref + j])) extend(p_.refs[op.first_ref + j] >> 1, i);
        if (has_guard_register(op)) extend(static_cast<Ref>(op.guard) >> 1, i);
        step_back(op, live);
      }
    }
  }

  /// Linear scan: a place is reused after its register's live range.
  void assign() {
    std::vector<std::uint32_t> order;
    for (std::uint32_t v = 0; v < classes_.size(); ++v)
      if (last_[v] >= 0) order.push_back(v);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return first_[a] != first_[b] ? first_[a] < first_[b] : a < b; });
    place_.assign(classes_.size(), 0);
    std::set<std::pair<int, std::uint32_t>> active;  // end of live range, register
    std::vector<Ref> free[3];
    std::size_t bytes = 0;
    for (std::uint32_t v : order) {
      while (!active.empty() && active.begin()->first < first_[v]) {
        const std::uint32_t old = active.begin()->second;
        free[static_cast<int>(classes_[old])].push_back(place_[old]);
        active.erase(active.begin());
      }
      auto& list = free[static_cast<int>(classes_[v])];
      if (!list.empty()) {
        place_[v] = list.back();
        list.pop_back();
      } else {
        const std::size_t size = classes_[v] == RegisterClass::k64 ? 8 * kLanes : classes_[v] == RegisterClass::k32 ? 4 * kLanes : 4;
        if (classes_[v] != RegisterClass::kPredicate) bytes = (bytes + 63) / 64 * 64;
        place_[v] = static_cast<Ref>(bytes);
        bytes += size;
      }
      active.insert({last_[v], v});
    }
    p_.register_bytes = (bytes + 63) / 64 * 64;
  }

  void rewrite() {
    for (auto& ref : p_.refs)
      if (!is_constant(ref)) ref = place_[ref >> 1];
    for (auto& op : p_.ops)
      if (has_guard_register(op)) op.guard = static_cast<std::int32_t>(place_[static_cast<Ref>(op.guard) >> 1]);
    for (auto& special : p_.specials) special.ref = place_[special.ref >> 1];
  }

  Program& p_;
  const std::vector<BasicBlock>& blocks_;
  const std::vector<RegisterClass>& classes_;
  const std::size_t words_;  // of a bit set
  std::vector<Bits> live_in_, live_out_;
  std::vector<int> first_, last_;
  std::vector<Ref> place_;
};

}  // namespace

void allocate_registers(Program& program, const std::vector<BasicBlock>& blocks, const std::vector<RegisterClass>& classes,
                        const std::set<std::uint32_t>& permanent) {
  Allocator(program, blocks, classes).run(permanent);
}

}  // namespace emu
