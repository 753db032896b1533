// Executes a launch: blocks one after another, their warps in turns, an instruction for all lanes of a warp at a time.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// Thrown to abandon a launch whose error has been reported.
struct LaunchAborted {};

/// Executes the launch. Throws LaunchAborted.
void run(const Launch& launch);

}  // namespace emu
