// NCCL's all-reduce over emulated devices of one machine. The stand-in for CuPy calls its functions.
#pragma once

namespace emu {

/// Tells the other ranks of all communicators that this process has ended.
void leave_communicators();

}  // namespace emu
