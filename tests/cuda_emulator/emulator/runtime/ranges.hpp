// The NVTX ranges that the program opens around its launches (nvtxRangePushA, nvtxRangePop), as names for reports and counters.
#pragma once

#include <string>

namespace emu {

/// The innermost open range of this thread; empty: none.
std::string current_range();

}  // namespace emu
