// What the compiler may use of an x86-64 processor beyond its first version, and where CPUID tells of it. Only data: it is read before the
// rest of the module may run.
#pragma once

namespace pyalexnet {

struct ProcessorFeature {
  char name[16];
  bool needed;          // by this module: what its code was compiled for
  bool in_avx2;         // part of PYALEXNET_HOST_ARCH=avx2, x86-64-v3
  unsigned char state;  // of registers that the system must save too: 0 none, 1 AVX's, 2 AVX-512's
  unsigned leaf, subleaf;
  char reg;  // CPUID's register: 'a' to 'd'
  unsigned char bit;
};

/// Ends with an empty name. (build_info.cu)
extern const ProcessorFeature kProcessorFeatures[];

}  // namespace pyalexnet
