// Memory traffic of one instruction.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// Global memory is transferred in sectors of 32 bytes. Ideal: the number of sectors that the lanes' distinct bytes fill.
void count_sectors(OpCount& count, Mask mask, const std::uint64_t* addresses, int bytes);

/// A wavefront accesses the 32 banks of shared memory, 4 bytes each. Accesses of 8 bytes are split into half-warps, of 16 bytes into
/// quarter-warps; two such parts share a wavefront if each lane has the address of lane ^ 1, or each lane that of lane ^ 2 (not documented
/// by NVIDIA; see Sources in README.md). Ideal: one wavefront for each part.
void count_wavefronts(OpCount& count, Mask mask, const std::uint64_t* addresses, int bytes);

}  // namespace emu
