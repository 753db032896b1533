// Register allocation.
#pragma once

#include <set>
#include <vector>

#include "ptx/control_flow.hpp"

namespace emu {

/// Assigns one place to registers that are never live together, so that a warp's registers fit in the cache: PTX has almost one name for
/// each value. Divergence does not matter, as the liveness of a lane's registers follows that lane's path. Sets Program::live_registers.
///
/// permanent: registers that keep a place of their own.
void allocate_registers(Program& program, const std::vector<BasicBlock>& blocks, const std::vector<RegisterClass>& classes,
                        const std::set<std::uint32_t>& permanent);

}  // namespace emu
