// The module's entry. It is compiled for any processor of the architecture and uses only C, so that it can say that the rest of the module,
// compiled for PYALEXNET_HOST_ARCH, does not run here. (An inline function of the standard library might be the rest's copy.)
#include <Python.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "processor.hpp"

extern "C" PyObject* PyInit__kernels();  // bindings.cpp

namespace {

#if defined(__x86_64__)
/// 2 if the system saves AVX-512's registers, 1 if AVX's, else 0.
int saved_state() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsxsave = 1u << 27, kAvx = 0x6, kAvx512 = 0xe6;
  if (__get_cpuid_count(1, 0, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) return 0;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (a & kAvx512) == kAvx512 ? 2 : (a & kAvx) == kAvx ? 1 : 0;
}

bool has(const pyalexnet::ProcessorFeature& feature, int saved) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(feature.leaf, feature.subleaf, &a, &b, &c, &d) == 0) return false;
  const unsigned word = feature.reg == 'a' ? a : feature.reg == 'b' ? b : feature.reg == 'c' ? c : d;
  return (word >> feature.bit & 1u) != 0 && saved >= feature.state;
}

/// Sets ImportError and returns false if the processor lacks a feature that the module needs.
bool check_processor() {
  const int saved = saved_state();
  char missing[512] = "";
  bool avx2 = true;  // whether a build for AVX2 would run
  int length = 0;
  for (const pyalexnet::ProcessorFeature* feature = pyalexnet::kProcessorFeatures; feature->name[0] != '\0'; ++feature) {
    if (has(*feature, saved)) continue;
    if (feature->in_avx2) avx2 = false;
    if (feature->needed)
      length +=
          PyOS_snprintf(missing + length, sizeof missing - static_cast<unsigned>(length), "%s%s", length > 0 ? ", " : "", feature->name);
  }
  if (length == 0) return true;
  PyErr_Format(PyExc_ImportError,
               "it was built for another processor: this one lacks %s; install pyalexnet again on this machine, or with "
               "PYALEXNET_HOST_ARCH=%s for both",
               missing, avx2 ? "avx2" : "portable");
  return false;
}
#else
bool check_processor() { return true; }
#endif

/// Sets ImportError and returns false in a subinterpreter: pybind11's state and the kernels' threads belong to the main one.
bool check_interpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return true;
  PyErr_SetString(PyExc_ImportError, "it does not run in subinterpreters; expected the main interpreter");
  return false;
}

}  // namespace

#if defined(PYALEXNET_CUDA)
PyMODINIT_FUNC PyInit__cuda() {
#else
PyMODINIT_FUNC PyInit__host() {
#endif
  return check_interpreter() && check_processor() ? PyInit__kernels() : nullptr;
}
