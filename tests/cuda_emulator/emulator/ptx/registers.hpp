// Register allocation.
#pragma once

#include <set>
#include <vector>

#include "ptx/control_flow.hpp"

namespace emu {

/// Assigns the same place to registers that are never live together, so that a warp's registers fit in the cache: PTX uses almost one
/// register per value. Divergence does not matter: liveness follows each lane's own path. Sets Program::live_registers.
///
/// permanent: registers whose place is not shared.
void allocate_registers(Program& program, const std::vector<BasicBlock>& blocks, const std::vector<RegisterClass>& classes,
                        const std::set<std::uint32_t>& permanent);

}  // namespace emu
