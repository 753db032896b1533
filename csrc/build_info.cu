// Describes the build: version, architectures, compilers, vectors.
#include "kernels.hpp"
#include "target.cuh"

#if !defined(PYALEXNET_VERSION)
#define PYALEXNET_VERSION "unknown"
#endif
#if !defined(PYALEXNET_ARCHITECTURES)
#define PYALEXNET_ARCHITECTURES "unknown"
#endif

namespace pyalexnet {

int images_multiple() { return kImagesMultiple; }

std::map<std::string, std::string> build_info() {
  std::map<std::string, std::string> info;
  info["version"] = PYALEXNET_VERSION;
  info["architectures"] = PYALEXNET_ARCHITECTURES;
#if defined(__clang__)
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["vector"] = std::to_string(kImagesMultiple) + " floats";
#if defined(PYALEXNET_GPU_VECTORS)
  info["vector"] += ", as on a GPU";
#endif
#if defined(__CUDACC__)
  info["nvcc"] =
      std::to_string(__CUDACC_VER_MAJOR__) + "." + std::to_string(__CUDACC_VER_MINOR__) + "." + std::to_string(__CUDACC_VER_BUILD__);
#endif
  return info;
}

}  // namespace pyalexnet
