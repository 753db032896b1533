// Counters of the kernels (option --stats), written when the process exits.
#pragma once

#include "execution/block.hpp"

namespace emu {

/// The counters of the launch's kernel in its range; null without --stats.
KernelCount* counters_of(const Launch& launch);

/// Writes JSON (if the file's name ends in .json) or a table. "-" is standard error; %p in the name is the process's number. False: the
/// file cannot be written.
bool write_counters();

}  // namespace emu
