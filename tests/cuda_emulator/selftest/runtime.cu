// The CUDA runtime: streams, events, graphs, devices, memory.
#include "framework.cuh"

namespace {

__global__ void scale_kernel(float* y, float by) { y[threadIdx.x] *= by; }
__global__ void fill_kernel(float* y, float value) { y[threadIdx.x] = value; }

struct Stream {
  cudaStream_t s;
  explicit Stream(unsigned flags = 0) { CHECK(cudaStreamCreateWithFlags(&s, flags)); }
  ~Stream() { cudaStreamDestroy(s); }
};
struct Event {
  cudaEvent_t e;
  Event() { CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(e); }
};
void expect_all(const Buffer<float>& y, float value) {
  for (float v : y.get()) EXPECT(v == value);
}

// --- streams ---

const Add streams("streams", [] {
  Stream one, two;
  Event event;
  Buffer<float> y(std::vector<float>(32, 1.0f));
  scale_kernel<<<1, 32, 0, one.s>>>(y.p, 2.0f);
  CHECK(cudaEventRecord(event.e, one.s));
  CHECK(cudaStreamWaitEvent(two.s, event.e, 0));
  scale_kernel<<<1, 32, 0, two.s>>>(y.p, 3.0f);
  CHECK(cudaStreamSynchronize(two.s));
  expect_all(y, 6.0f);
  scale_kernel<<<1, 32, 0, one.s>>>(y.p, 2.0f);  // ordered by the host's wait
  EXPECT_ERROR(cudaStreamQuery(one.s), cudaSuccess);
  expect_all(y, 12.0f);
});
const Add legacy("legacy_stream", [] {
  Stream blocking;
  Buffer<float> y(std::vector<float>(32, 1.0f));
  scale_kernel<<<1, 32, 0, blocking.s>>>(y.p, 2.0f);
  scale_kernel<<<1, 32>>>(y.p, 3.0f);  // waits for the blocking stream, which then waits for it
  scale_kernel<<<1, 32, 0, blocking.s>>>(y.p, 5.0f);
  expect_all(y, 30.0f);
});
const Add missing_wait("bad_missing_wait", "race between streams", [] {
  Stream one, two;
  Buffer<float> y(32);
  fill_kernel<<<1, 32, 0, one.s>>>(y.p, 1.0f);
  CHECK(cudaStreamSynchronize(one.s));
  scale_kernel<<<1, 32, 0, one.s>>>(y.p, 2.0f);
  scale_kernel<<<1, 32, 0, two.s>>>(y.p, 3.0f);
  CHECK(cudaDeviceSynchronize());
});
const Add early_event("bad_event_recorded_too_early", "race between streams", [] {
  Stream one, two;
  Event event;
  Buffer<float> y(std::vector<float>(32, 1.0f));
  CHECK(cudaEventRecord(event.e, one.s));
  scale_kernel<<<1, 32, 0, one.s>>>(y.p, 2.0f);
  CHECK(cudaStreamWaitEvent(two.s, event.e, 0));
  scale_kernel<<<1, 32, 0, two.s>>>(y.p, 3.0f);
  CHECK(cudaDeviceSynchronize());
});
const Add non_blocking("bad_non_blocking_after_legacy", "race between streams", [] {
  Stream other(cudaStreamNonBlocking);
  Buffer<float> y(32);
  fill_kernel<<<1, 32>>>(y.p, 1.0f);
  scale_kernel<<<1, 32, 0, other.s>>>(y.p, 2.0f);
  CHECK(cudaStreamSynchronize(other.s));
});
const Add unordered_copy("bad_unordered_copy", "race between streams", [] {
  Stream one, two;
  Buffer<float> x(32), y(std::vector<float>(32));
  fill_kernel<<<1, 32, 0, one.s>>>(x.p, 1.0f);
  CHECK(cudaMemcpyAsync(y.p, x.p, sizeof(float) * 32, cudaMemcpyDefault, two.s));
  CHECK(cudaDeviceSynchronize());
});
const Add device_copy("bad_device_copy_does_not_wait", "race between streams", [] {
  Stream other(cudaStreamNonBlocking);
  Buffer<float> x(std::vector<float>(32)), y(32);
  CHECK(cudaMemcpy(y.p, x.p, sizeof(float) * 32, cudaMemcpyDefault));
  scale_kernel<<<1, 32, 0, other.s>>>(y.p, 2.0f);
  CHECK(cudaStreamSynchronize(other.s));
});
const Add late("late_pinned_copies", [] {
  float* host;
  CHECK(cudaMallocHost(&host, 4));
  Stream one;
  Buffer<float> y(1);
  *host = 1.0f;
  CHECK(cudaMemcpyAsync(y.p, host, 4, cudaMemcpyDefault, one.s));
  *host = 2.0f;  // an error on a GPU too: the copy has not run
  CHECK(cudaStreamSynchronize(one.s));
  expect_all(y, 2.0f);
  float pageable = 3.0f;
  CHECK(cudaMemcpyAsync(y.p, &pageable, 4, cudaMemcpyDefault, one.s));
  pageable = 4.0f;  // allowed: the runtime has staged the value
  CHECK(cudaStreamSynchronize(one.s));
  expect_all(y, 3.0f);
  CHECK(cudaFreeHost(host));
});
const Add timing("event_errors", [] {
  cudaEvent_t a, b;
  Event untimed;
  float milliseconds;
  CHECK(cudaEventCreate(&a));
  CHECK(cudaEventCreate(&b));
  EXPECT_ERROR(cudaEventElapsedTime(&milliseconds, a, b), cudaErrorInvalidResourceHandle);  // not recorded
  CHECK(cudaEventRecord(a, nullptr));
  CHECK(cudaEventRecord(b, nullptr));
  CHECK(cudaEventElapsedTime(&milliseconds, a, b));
  CHECK(cudaEventRecord(untimed.e, nullptr));
  EXPECT_ERROR(cudaEventElapsedTime(&milliseconds, a, untimed.e), cudaErrorInvalidResourceHandle);
  CHECK(cudaEventDestroy(a));
  EXPECT_ERROR(cudaEventRecord(a, nullptr), cudaErrorInvalidResourceHandle);
});

// --- graphs ---

cudaGraphExec_t instantiated(cudaGraph_t graph) {
  cudaGraphExec_t executable;
  CHECK(cudaGraphInstantiate(&executable, graph, 0));
  return executable;
}
const Add graphs("graphs", [] {
  Stream one, two, three;
  Event fork, join;
  Buffer<float> x(std::vector<float>(32, 1.0f)), y(std::vector<float>(32, 1.0f));
  CHECK(cudaStreamBeginCapture(one.s, cudaStreamCaptureModeGlobal));
  cudaStreamCaptureStatus status;
  CHECK(cudaStreamIsCapturing(one.s, &status));
  EXPECT(status == cudaStreamCaptureStatusActive);
  scale_kernel<<<1, 32, 0, one.s>>>(x.p, 2.0f);
  CHECK(cudaEventRecord(fork.e, one.s));
  CHECK(cudaStreamWaitEvent(two.s, fork.e, 0));
  scale_kernel<<<1, 32, 0, two.s>>>(y.p, 3.0f);
  CHECK(cudaEventRecord(join.e, two.s));
  CHECK(cudaStreamWaitEvent(one.s, join.e, 0));
  cudaGraph_t graph;
  CHECK(cudaStreamEndCapture(one.s, &graph));
  expect_all(x, 1.0f);  // capturing executes nothing
  const cudaGraphExec_t executable = instantiated(graph);
  for (int i = 0; i < 3; ++i) CHECK(cudaGraphLaunch(executable, three.s));
  CHECK(cudaStreamSynchronize(three.s));
  expect_all(x, 8.0f);
  expect_all(y, 27.0f);
  CHECK(cudaGraphExecDestroy(executable));
  CHECK(cudaGraphDestroy(graph));
});

/// Captures `body` in a stream, and expects an error from the disallowed call and another when the capture ends.
template <class F>
void expect_invalid(cudaError_t error, F body) {
  Stream s;
  cudaGraph_t graph;
  CHECK(cudaStreamBeginCapture(s.s, cudaStreamCaptureModeGlobal));
  EXPECT_ERROR(body(s.s), error);
  EXPECT_ERROR(cudaStreamEndCapture(s.s, &graph), cudaErrorStreamCaptureInvalidated);
  CHECK(cudaStreamSynchronize(s.s));
}
const Add capture_errors("capture_errors", [] {
  Buffer<float> y(std::vector<float>(32));
  Stream other;
  Event before;
  float* p;
  CHECK(cudaEventRecord(before.e, other.s));
  expect_invalid(cudaErrorStreamCaptureUnsupported, [](auto s) { return cudaStreamSynchronize(s); });
  expect_invalid(cudaErrorStreamCaptureUnsupported, [](auto s) { return cudaStreamQuery(s); });
  expect_invalid(cudaErrorStreamCaptureUnsupported, [](auto) { return cudaDeviceSynchronize(); });
  expect_invalid(cudaErrorStreamCaptureUnsupported, [&](auto) { return cudaMalloc(&p, 4); });
  expect_invalid(cudaErrorStreamCaptureImplicit, [&](auto) { return cudaMemset(y.p, 0, 4); });
  expect_invalid(cudaErrorStreamCaptureIsolation, [&](auto s) { return cudaStreamWaitEvent(s, before.e, 0); });
  Stream one, two;
  Event event;
  cudaGraph_t graph;
  EXPECT_ERROR(cudaStreamEndCapture(one.s, &graph), cudaErrorIllegalState);
  EXPECT_ERROR(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
  CHECK(cudaStreamBeginCapture(one.s, cudaStreamCaptureModeRelaxed));
  CHECK(cudaMalloc(&p, 4));  // allowed in this mode
  CHECK(cudaEventRecord(event.e, one.s));
  EXPECT_ERROR(cudaEventSynchronize(event.e), cudaErrorCapturedEvent);
  CHECK(cudaStreamWaitEvent(two.s, event.e, 0));
  scale_kernel<<<1, 32, 0, two.s>>>(y.p, 2.0f);
  EXPECT_ERROR(cudaStreamEndCapture(two.s, &graph), cudaErrorStreamCaptureUnmatched);
  EXPECT_ERROR(cudaStreamEndCapture(one.s, &graph), cudaErrorStreamCaptureUnjoined);
  CHECK(cudaDeviceSynchronize());
});

// --- devices ---

const Add attributes("attributes", [] {
  int count, value, arch = std::atoi(std::getenv("EMU_ARCH"));
  CHECK(cudaGetDeviceCount(&count));
  EXPECT(count == 2);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
  EXPECT(value == arch / 10);
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  EXPECT(value == (arch < 80 ? 64 : arch == 80 ? 163 : 227) * 1024);
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 1));
  EXPECT(properties.major == arch / 10 && static_cast<int>(properties.sharedMemPerBlockOptin) == value);
  EXPECT_ERROR(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_ERROR(cudaGetLastError(), cudaErrorInvalidDevice);
});
const Add peers("peers", [] {
  Buffer<float> near(std::vector<float>(32, 1.0f));
  CHECK(cudaSetDevice(1));
  Buffer<float> far(std::vector<float>(32, 5.0f));
  CHECK(cudaSetDevice(0));
  Stream s;
  CHECK(cudaMemcpyPeerAsync(near.p, 0, far.p, 1, sizeof(float) * 32, s.s));  // needs no peer access
  CHECK(cudaStreamSynchronize(s.s));
  expect_all(near, 5.0f);
  EXPECT_ERROR(cudaMemcpyPeerAsync(near.p, 1, far.p, 1, 4, s.s), cudaErrorInvalidValue);
  int can;
  CHECK(cudaDeviceCanAccessPeer(&can, 0, 1));
  EXPECT(can == 1);
  CHECK(cudaDeviceEnablePeerAccess(1, 0));
  EXPECT_ERROR(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  fill_kernel<<<1, 32>>>(far.p, 7.0f);
  CHECK(cudaDeviceSynchronize());
  expect_all(far, 7.0f);
  CHECK(cudaDeviceDisablePeerAccess(1));
  EXPECT_ERROR(cudaDeviceDisablePeerAccess(1), cudaErrorPeerAccessNotEnabled);
});
const Add no_access("bad_peer_without_access", "access to another device", [] {
  CHECK(cudaSetDevice(1));
  Buffer<float> far(32);
  CHECK(cudaSetDevice(0));
  fill_kernel<<<1, 32>>>(far.p, 7.0f);
  CHECK(cudaDeviceSynchronize());
});

// --- memory ---

const Add memory("memory", [] {
  std::size_t free, total, after;
  CHECK(cudaMemGetInfo(&free, &total));
  EXPECT(total == 16384ull << 20 && free == total);
  void* p;
  EXPECT_ERROR(cudaMalloc(&p, total + 1), cudaErrorMemoryAllocation);
  EXPECT(p == nullptr);
  CHECK(cudaMalloc(&p, 1000));
  CHECK(cudaMemGetInfo(&after, &total));
  EXPECT(after == free - 1000);
  cudaPointerAttributes a;
  CHECK(cudaPointerGetAttributes(&a, p));
  EXPECT(a.type == cudaMemoryTypeDevice && a.device == 0);
  CHECK(cudaFree(p));
  std::vector<char> host(8192);
  CHECK(cudaHostRegister(host.data(), host.size(), 0));
  EXPECT_ERROR(cudaHostRegister(host.data() + 100, 100, 0), cudaErrorHostMemoryAlreadyRegistered);
  CHECK(cudaPointerGetAttributes(&a, host.data()));
  EXPECT(a.type == cudaMemoryTypeHost);
  CHECK(cudaHostUnregister(host.data()));
  EXPECT_ERROR(cudaHostUnregister(host.data()), cudaErrorHostMemoryNotRegistered);
});
const Add double_free("bad_double_free", "misuse of the runtime", [] {
  void* p;
  CHECK(cudaMalloc(&p, 4));
  CHECK(cudaFree(p));
  cudaFree(p);
});
const Add copy_bounds("bad_copy_out_of_bounds", "misuse of the runtime", [] {
  Buffer<float> x(std::vector<float>(8)), y(4);
  cudaMemcpy(y.p, x.p, 8 * sizeof(float), cudaMemcpyDefault);
});

}  // namespace
