// Modifiers of instructions that access memory.
#pragma once

#include "ptx/decoder.hpp"

namespace emu {

/// Consumes the state space; kGeneric: none is named.
Space take_space(Decoder& d);
/// Consumes memory order, scope and cache hints. They have no effect: every access is visible to all threads at once.
void take_hints(Decoder& d);

}  // namespace emu
