// The instruction set: one table for each file in this folder.
#pragma once

#include <map>
#include <string>

#include "ptx/decoder.hpp"

namespace emu {

/// Each function adds the decode functions of its file.
void add_integer(InstructionTable& table);
void add_bits(InstructionTable& table);
void add_float(InstructionTable& table);
void add_compare(InstructionTable& table);
void add_move(InstructionTable& table);
void add_convert(InstructionTable& table);
void add_control(InstructionTable& table);
void add_warp(InstructionTable& table);
void add_matrix(InstructionTable& table);
void add_load_store(InstructionTable& table);
void add_atomic(InstructionTable& table);
void add_async_copy(InstructionTable& table);

}  // namespace emu
