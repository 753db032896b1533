// NCCL's all-reduce over emulated devices of one machine. The CuPy stand-in calls it; README.md describes the design.
#pragma once

namespace emu {

/// Tells the other ranks of all communicators that this process has ended.
void leave_communicators();

}  // namespace emu
