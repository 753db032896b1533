// Error reports.
#pragma once

#include <functional>
#include <string>

#include "execution/block.hpp"

namespace emu {

/// Reports an error at an instruction, with kernel, block, thread, PTX line and source line. A repeated error (same kind and instruction)
/// is counted but not printed again. Ends the process unless option --keep-going is set.
void report(const Warp& w, const Op& op, int lane, const std::string& kind, const std::string& what);

/// Reports an error outside a kernel.
void report(const std::string& kind, const std::string& what);

/// Ends the process: an option is wrong or a resource is missing.
[[noreturn]] void give_up(const std::string& what);

/// Registers f to be called before a report ends the process.
void before_abort(std::function<void()> f);

/// "PTX line 12 'bar.sync' (softmax.cu:34)"
std::string place_of(const Program& program, const Op& op);

/// "softmax.cu:34"
std::string source_of(const Program& program, const Op& op);

/// Prints all errors with their counts. Returns the number of errors.
std::uint64_t print_summary();

/// "0x1f"
std::string hex(std::uint64_t value);

/// The process's exit status after an error.
constexpr int kErrorStatus = 86;

}  // namespace emu
