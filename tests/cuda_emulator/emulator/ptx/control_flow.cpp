#include "ptx/control_flow.hpp"

#include <map>
#include <set>

namespace emu {

std::vector<BasicBlock> blocks_of(const std::vector<Op>& ops) {
  const int n = static_cast<int>(ops.size());
  std::set<int> leaders{0};
  for (int i = 0; i < n; ++i) {
    if (ops[i].control == Control::kBranch) leaders.insert(ops[i].target);
    if (ops[i].control == Control::kBranch || ops[i].control == Control::kExit) leaders.insert(i + 1);
  }
  leaders.erase(n);
  std::vector<BasicBlock> blocks;
  std::map<int, int> at;
  for (auto it = leaders.begin(); it != leaders.end(); ++it) {
    const auto after = std::next(it);
    at[*it] = static_cast<int>(blocks.size());
    blocks.push_back({*it, after == leaders.end() ? n : *after, {}, {}});
  }
  const int exit = static_cast<int>(blocks.size());
  for (int b = 0; b < exit; ++b) {
    const Op& last = ops[blocks[b].end - 1];
    const int fall = blocks[b].end < n ? at[blocks[b].end] : exit;
    if (last.control == Control::kBranch) {
      blocks[b].next.push_back(at[last.target]);
      if (last.guard >= 0) blocks[b].next.push_back(fall);
    } else if (last.control == Control::kExit) {
      blocks[b].next.push_back(exit);
      if (last.guard >= 0) blocks[b].next.push_back(fall);
    } else {
      blocks[b].next.push_back(fall);
    }
  }
  blocks.push_back({n, n, {}, {}});  // the exit
  for (int b = 0; b < exit; ++b)
    for (int to : blocks[b].next) blocks[to].previous.push_back(b);
  return blocks;
}

std::vector<int> post_dominators(const std::vector<BasicBlock>& blocks) {
  const int exit = static_cast<int>(blocks.size()) - 1;
  std::vector<int> order, number(blocks.size(), -1), state(blocks.size(), 0);
  std::vector<std::pair<int, std::size_t>> stack{{exit, 0}};
  state[exit] = 1;
  while (!stack.empty()) {
    auto& [b, i] = stack.back();
    if (i < blocks[b].previous.size()) {
      const int to = blocks[b].previous[i++];
      if (!state[to]) {
        state[to] = 1;
        stack.push_back({to, 0});
      }
    } else {
      number[b] = static_cast<int>(order.size());
      order.push_back(b);
      stack.pop_back();
    }
  }
  std::vector<int> dom(blocks.size(), -1);
  dom[exit] = exit;
  const auto meet = [&](int a, int b) {
    while (a != b) {
      while (number[a] < number[b]) a = dom[a];
      while (number[b] < number[a]) b = dom[b];
    }
    return a;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = order.size(); i-- > 0;) {
      const int b = order[i];
      if (b == exit) continue;
      int found = -1;
      for (int to : blocks[b].next)
        if (number[to] >= 0 && dom[to] >= 0) found = found < 0 ? to : meet(found, to);
      if (found != dom[b]) {
        dom[b] = found;
        changed = true;
      }
    }
  }
  return dom;
}

}  // namespace emu
