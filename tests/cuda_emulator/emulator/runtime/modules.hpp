// Device code of the program: fat binaries, kernels and variables, as nvcc's host code registers them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptx/program.hpp"
#include "runtime/fatbinary.hpp"

namespace emu {

/// The device code of one file that nvcc compiled.
struct Binary {
  std::vector<PtxImage> images;
  std::unique_ptr<Module> module;  // null until a kernel is launched
  int arch = 0;
  std::map<int, Addresses> addresses;            // by device
  std::map<const void*, std::string> variables;  // names by host address
};

struct Kernel {
  Binary* binary;
  std::string name;
  std::map<int, std::unique_ptr<Program>> programs;  // by device
  int max_dynamic_shared = 48 * 1024;
};

/// The kernel of a host function or of a cudaKernel_t; null: none.
Kernel* find_kernel(const void* handle);

/// The decoded kernel for a device. Parses the PTX and allocates the module's variables at the first call. Throws ParseError.
Program& program_of(Kernel& kernel, int device);

}  // namespace emu
