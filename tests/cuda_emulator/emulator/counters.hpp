// Kernel counters (option --stats), written when the process exits.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// Counters of the launch's kernel in its range; null without --stats.
KernelCount* counters_of(const Launch& launch);

/// Writes JSON (if the file's name ends in .json) or a table. "-" is standard error; %p in the name is replaced by the process ID. Returns
/// false if the file cannot be written.
bool write_counters();

}  // namespace emu
