// NVTX ranges that the program opens around launches (nvtxRangePushA, nvtxRangePop). Reports and counters show their names.
#pragma once

#include <string>

namespace emu {

/// The innermost open range of this thread; empty: none.
std::string current_range();

}  // namespace emu
