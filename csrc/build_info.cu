// Describes the build: version, architectures, compilers, vectors, and what it needs of the processor.
#include "kernels.hpp"
#include "processor.hpp"
#include "target.cuh"

#if !defined(PYALEXNET_VERSION)
#define PYALEXNET_VERSION "unknown"
#endif
#if !defined(PYALEXNET_ARCHITECTURES)
#define PYALEXNET_ARCHITECTURES "unknown"
#endif

namespace pyalexnet {

// Whether a macro is defined as 1: otherwise the text is the macro's own name.
#define TEXT(x) #x
#define NEEDED(macro) (TEXT(macro)[0] == '1')
const ProcessorFeature kProcessorFeatures[] = {{"sse3", NEEDED(__SSE3__), true, 0, 1, 0, 'c', 0},
                                               {"ssse3", NEEDED(__SSSE3__), true, 0, 1, 0, 'c', 9},
                                               {"sse4.1", NEEDED(__SSE4_1__), true, 0, 1, 0, 'c', 19},
                                               {"sse4.2", NEEDED(__SSE4_2__), true, 0, 1, 0, 'c', 20},
                                               {"popcnt", NEEDED(__POPCNT__), true, 0, 1, 0, 'c', 23},
                                               {"movbe", NEEDED(__MOVBE__), true, 0, 1, 0, 'c', 22},
                                               {"lzcnt", NEEDED(__LZCNT__), true, 0, 0x80000001, 0, 'c', 5},
                                               {"bmi", NEEDED(__BMI__), true, 0, 7, 0, 'b', 3},
                                               {"bmi2", NEEDED(__BMI2__), true, 0, 7, 0, 'b', 8},
                                               {"avx", NEEDED(__AVX__), true, 1, 1, 0, 'c', 28},
                                               {"f16c", NEEDED(__F16C__), true, 1, 1, 0, 'c', 29},
                                               {"fma", NEEDED(__FMA__), true, 1, 1, 0, 'c', 12},
                                               {"avx2", NEEDED(__AVX2__), true, 1, 7, 0, 'b', 5},
                                               {"sse4a", NEEDED(__SSE4A__), false, 0, 0x80000001, 0, 'c', 6},
                                               {"fma4", NEEDED(__FMA4__), false, 1, 0x80000001, 0, 'c', 16},
                                               {"xop", NEEDED(__XOP__), false, 1, 0x80000001, 0, 'c', 11},
                                               {"tbm", NEEDED(__TBM__), false, 0, 0x80000001, 0, 'c', 21},
                                               {"gfni", NEEDED(__GFNI__), false, 0, 7, 0, 'c', 8},
                                               {"avxvnni", NEEDED(__AVXVNNI__), false, 1, 7, 1, 'a', 4},
                                               {"avxifma", NEEDED(__AVXIFMA__), false, 1, 7, 1, 'a', 23},
                                               {"avxvnniint8", NEEDED(__AVXVNNIINT8__), false, 1, 7, 1, 'd', 4},
                                               {"avxvnniint16", NEEDED(__AVXVNNIINT16__), false, 1, 7, 1, 'd', 10},
                                               {"avx512f", NEEDED(__AVX512F__), false, 2, 7, 0, 'b', 16},
                                               {"avx512cd", NEEDED(__AVX512CD__), false, 2, 7, 0, 'b', 28},
                                               {"avx512bw", NEEDED(__AVX512BW__), false, 2, 7, 0, 'b', 30},
                                               {"avx512dq", NEEDED(__AVX512DQ__), false, 2, 7, 0, 'b', 17},
                                               {"avx512vl", NEEDED(__AVX512VL__), false, 2, 7, 0, 'b', 31},
                                               {"avx512er", NEEDED(__AVX512ER__), false, 2, 7, 0, 'b', 27},
                                               {"avx512ifma", NEEDED(__AVX512IFMA__), false, 2, 7, 0, 'b', 21},
                                               {"avx512vbmi", NEEDED(__AVX512VBMI__), false, 2, 7, 0, 'c', 1},
                                               {"avx512vbmi2", NEEDED(__AVX512VBMI2__), false, 2, 7, 0, 'c', 6},
                                               {"avx512vnni", NEEDED(__AVX512VNNI__), false, 2, 7, 0, 'c', 11},
                                               {"avx512bitalg", NEEDED(__AVX512BITALG__), false, 2, 7, 0, 'c', 12},
                                               {"avx512vpopcntdq", NEEDED(__AVX512VPOPCNTDQ__), false, 2, 7, 0, 'c', 14},
                                               {"avx512bf16", NEEDED(__AVX512BF16__), false, 2, 7, 1, 'a', 5},
                                               {"avx512fp16", NEEDED(__AVX512FP16__), false, 2, 7, 0, 'd', 23},
                                               {"", false, false, 0, 0, 0, 'a', 0}};

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
