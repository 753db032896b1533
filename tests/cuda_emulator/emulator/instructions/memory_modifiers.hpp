// Modifiers of instructions that access memory.
#pragma once

#include "ptx/decoder.hpp"

namespace emu {

/// State space; kGeneric when none is named.
Space take_space(Decoder& d);
/// Takes memory order, scope and cache hints. All have no effect: every access is visible to all threads at once.
void take_hints(Decoder& d);

}  // namespace emu
