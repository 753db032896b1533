// The fat binary: the container of device code in an object file.
#pragma once

#include <string>
#include <vector>

namespace emu {

struct PtxImage {
  int arch;  // 90 for compute_90
  std::string text;
};

/// The PTX in a fat binary, decompressed. `data` points to the container's header. Throws std::runtime_error.
std::vector<PtxImage> ptx_images(const void* data);

}  // namespace emu
