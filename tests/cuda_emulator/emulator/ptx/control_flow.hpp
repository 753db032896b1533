// Control flow graph of a kernel.
#pragma once

#include <vector>

#include "ptx/program.hpp"

namespace emu {

struct BasicBlock {
  int begin, end;  // ops
  std::vector<int> next, previous;
};

/// Splits ops into basic blocks. The last block is empty, the common successor of all exits.
std::vector<BasicBlock> blocks_of(const std::vector<Op>& ops);

/// Immediate post-dominator of every block: dominators of the reversed graph (Cooper, Harvey, Kennedy, "A Simple, Fast Dominance
/// Algorithm", 2001). -1: no path leads to the exit.
std::vector<int> post_dominators(const std::vector<BasicBlock>& blocks);

}  // namespace emu
