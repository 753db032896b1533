// Shared by the self-test's files: checks, device buffers, the list of tests.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#define CHECK(call)                                                                                                        \
  do {                                                                                                                     \
    const cudaError_t check_result = (call);                                                                               \
    if (check_result != cudaSuccess) fail(__FILE__, __LINE__, std::string(#call) + ": " + cudaGetErrorName(check_result)); \
  } while (0)
#define EXPECT(condition)                                               \
  do {                                                                  \
    if (!(condition)) fail(__FILE__, __LINE__, "expected " #condition); \
  } while (0)
#define EXPECT_ERROR(call, error)                                                                                                     \
  do {                                                                                                                                \
    const cudaError_t check_result = (call);                                                                                          \
    if (check_result != (error))                                                                                                      \
      fail(__FILE__, __LINE__, std::string(#call) + ": " + cudaGetErrorName(check_result) + "; expected " + cudaGetErrorName(error)); \
  } while (0)

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::printf("%s:%d: %s\n", file, line, what.c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

template <class T>
struct Buffer {
  T* p = nullptr;
  std::size_t n;
  explicit Buffer(std::size_t n) : n(n) { CHECK(cudaMalloc(&p, n * sizeof(T))); }
  explicit Buffer(const std::vector<T>& v) : Buffer(v.size()) { CHECK(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice)); }
  ~Buffer() { cudaFree(p); }
  Buffer(const Buffer&) = delete;
  std::vector<T> get() const {
    std::vector<T> v(n);
    CHECK(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
    return v;
  }
};

/// {f(0), f(1), ..., f(n - 1)}
template <class T, class F>
std::vector<T> filled(std::size_t n, F f) {
  std::vector<T> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<T>(f(i));
  return v;
}

inline void synchronize() {
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
}

/// A test. Names that start with sm80_ or sm90_ need that architecture. With `error`, the emulator must report an error of this kind; "|"
/// separates accepted kinds.
struct Test {
  std::function<void()> run;
  std::string error;
};
inline std::map<std::string, Test>& tests() {
  static std::map<std::string, Test> all;
  return all;
}
struct Add {
  Add(const char* name, std::function<void()> run) { tests()[name] = {std::move(run), ""}; }
  Add(const char* name, const char* error, std::function<void()> run) { tests()[name] = {std::move(run), error}; }
};

inline __device__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }
