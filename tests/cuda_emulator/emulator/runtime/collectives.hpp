// NCCL's all-reduce between emulated devices of one machine, called by the stand-in for CuPy.
#pragma once

namespace emu {

/// Tells the other ranks of all communicators that this process is exiting.
void leave_communicators();

}  // namespace emu
