// Executes a launch: one block after another, the warps of a block in turns, each instruction for all lanes of a warp.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// Thrown to abort a launch after an error has been reported.
struct LaunchAborted {};

/// Executes the launch. Throws LaunchAborted.
void run(const Launch& launch);

}  // namespace emu
