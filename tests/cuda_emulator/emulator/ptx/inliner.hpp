// Inlining of calls. PTX without recursion needs no call stack.
#pragma once

#include "ptx/parser.hpp"

namespace emu {

/// The function with all its calls inlined. Throws ParseError for recursion and for indirect calls.
Function inlined(const Module& module, const Function& function);

}  // namespace emu
