// Memory traffic of one instruction.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// Global memory moves in sectors of 32 bytes. Ideal: as many sectors as the distinct bytes of the lanes fill.
void count_sectors(OpCount& count, Mask mask, const std::uint64_t* addresses, int bytes);

/// Shared memory delivers 32 banks of 4 bytes in a wavefront. Accesses of 8 bytes are split into half-warps, of 16 bytes into
/// quarter-warps; two such parts share a wavefront if each lane has the address of lane ^ 1, or each lane that of lane ^ 2 (measured on
/// hardware by others; NVIDIA does not document it). Ideal: one wavefront for each part.
void count_wavefronts(OpCount& count, Mask mask, const std::uint64_t* addresses, int bytes);

}  // namespace emu
