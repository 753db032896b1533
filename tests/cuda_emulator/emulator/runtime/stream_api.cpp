// Streams, events and graphs.
#include <chrono>
#include <memory>

#include "memory.hpp"
#include "runtime/streams.hpp"

namespace emu {
namespace {

struct Event {
  int device = 0;
  bool timing = true;
  Mark mark;        // of the last record; no stream: never recorded
  double when = 0;  // host time of the record, in seconds
  std::shared_ptr<Capture> capture;
  CaptureClock captured;
};

std::map<void*, std::shared_ptr<Event>>& events() {
  static auto* all = new std::map<void*, std::shared_ptr<Event>>;
  return *all;
}
std::shared_ptr<Event> event_of(cudaEvent_t handle) {
  const auto found = events().find(handle);
  return found == events().end() ? nullptr : found->second;
}

std::map<void*, std::shared_ptr<Graph>>& graphs() {
  static auto* all = new std::map<void*, std::shared_ptr<Graph>>;
  return *all;
}
void* add_graph(std::shared_ptr<Graph> graph) {
  void* handle = new_handle();
  graphs()[handle] = std::move(graph);
  return handle;
}

void merge(CaptureClock& clock, const CaptureClock& other) {
  for (const auto& [stream, count] : other) clock[stream] = std::max(clock[stream], count);
}

/// cudaStreamWaitEvent if the stream or the event belongs to a capture.
cudaError_t wait_in_capture(Stream& s, const Event& e) {
  if (!s.capture) {  // the stream joins the event's capture
    s.capture = e.capture;
    s.captured = e.captured;
    return cudaSuccess;
  }
  if (s.capture != e.capture) {
    s.capture->valid = false;
    return e.capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation;
  }
  merge(s.captured, e.captured);
  return cudaSuccess;
}

/// Ends the capture in all of its streams. Returns false if a stream has captured work on which the origin does not depend.
bool end_capture(const std::shared_ptr<Stream>& origin) {
  const std::shared_ptr<Capture> capture = origin->capture;
  CaptureClock joined = origin->captured;
  bool all_joined = true;
  for_all_streams([&](const std::shared_ptr<Stream>& s) {
    if (s->capture != capture) return;
    all_joined = all_joined && joined[s.get()] >= s->captured[s.get()];
    s->capture = nullptr;
    s->captured.clear();
  });
  return all_joined;
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

// --- streams ---

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  Lock lock;
  void* handle;
  new_stream(current_device, !(flags & cudaStreamNonBlocking), &handle);
  *stream = static_cast<cudaStream_t>(handle);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock;
  if (!stream_of(stream)) return fail(cudaErrorInvalidResourceHandle);
  destroy_stream(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t e = check_wait(s)) return fail(e);
  if (s->legacy) enqueue(s, [](Work&) { return true; });  // runs the work that the legacy stream waits for
  wait_on_host(mark_of(s));
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t e = check_wait(s)) return fail(e);
  advance_once(*s);
  if (!s->queue.empty()) return cudaErrorNotReady;
  wait_on_host(mark_of(s));
  return cudaSuccess;
}
cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  *flags = s->blocking ? cudaStreamDefault : cudaStreamNonBlocking;
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void* data) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t e = check_use(s)) return fail(e);
  enqueue(s, [=](Work&) {
    f(data);
    return true;
  });
  return cudaSuccess;
}

// --- events ---

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  Lock lock;
  void* handle = new_handle();
  auto e = std::make_shared<Event>();
  e->device = current_device;
  e->timing = !(flags & cudaEventDisableTiming);
  events()[handle] = e;
  *event = static_cast<cudaEvent_t>(handle);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock;
  return events().erase(event) ? cudaSuccess : fail(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock;
  const auto e = event_of(event);
  const auto s = stream_of(stream);
  if (!e || !s) return fail(cudaErrorInvalidResourceHandle);
  if (s->device != e->device)
    return refuse(cudaErrorInvalidResourceHandle, "cudaEventRecord: the event belongs to device " + std::to_string(e->device) +
                                                      ", the stream to device " + std::to_string(s->device));
  if (const cudaError_t error = check_use(s)) return fail(error);
  if (s->legacy) enqueue(s, [](Work&) { return true; });
  e->capture = s->capture;
  e->captured = s->captured;
  e->mark = mark_of(s);
  e->when = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) { return cudaEventRecord(event, stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Lock lock;
  const auto e = event_of(event);
  const auto s = stream_of(stream);
  if (!e || !s) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = check_use(s)) return fail(error);
  if (s->capture || e->capture) {
    const cudaError_t error = wait_in_capture(*s, *e);
    return error ? fail(error) : cudaSuccess;
  }
  wait_in_stream(s, e->mark);  // a later record does not change this wait
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock;
  const auto e = event_of(event);
  if (!e) return fail(cudaErrorInvalidResourceHandle);
  if (e->capture) return fail(cudaErrorCapturedEvent);
  if (e->mark.stream) wait_on_host(e->mark);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  Lock lock;
  const auto e = event_of(event);
  if (!e) return fail(cudaErrorInvalidResourceHandle);
  if (e->capture) return fail(cudaErrorCapturedEvent);
  if (!e->mark.stream) return cudaSuccess;
  if (is_pending(e->mark)) advance_once(*e->mark.stream);
  if (is_pending(e->mark)) return cudaErrorNotReady;
  wait_on_host(e->mark);
  return cudaSuccess;
}
/// Devices have no clock: this is the time between the host's calls to cudaEventRecord.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  Lock lock;
  const auto a = event_of(from), b = event_of(to);
  if (!a || !b || !a->timing || !b->timing || !a->mark.stream || !b->mark.stream) return fail(cudaErrorInvalidResourceHandle);
  if (is_pending(a->mark) || is_pending(b->mark)) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(1000.0 * (b->when - a->when));
  return cudaSuccess;
}

// --- graphs ---

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->legacy) return fail(cudaErrorStreamCaptureUnsupported);
  if (s->capture) return fail(cudaErrorIllegalState);
  s->capture = std::make_shared<Capture>();
  s->capture->origin = s.get();
  s->capture->mode = mode;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Lock lock;
  *graph = nullptr;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (!s->capture) return fail(cudaErrorIllegalState);
  const std::shared_ptr<Capture> capture = s->capture;
  if (capture->origin != s.get()) return fail(cudaErrorStreamCaptureUnmatched);
  const bool joined = end_capture(s);
  if (!capture->valid) return fail(cudaErrorStreamCaptureInvalidated);
  if (!joined) return fail(cudaErrorStreamCaptureUnjoined);
  *graph = static_cast<cudaGraph_t>(add_graph(capture->graph));
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Lock lock;
  const auto s = stream_of(stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->legacy)
    if (const cudaError_t e = check_use(s)) return fail(e);
  *status = !s->capture         ? cudaStreamCaptureStatusNone
            : s->capture->valid ? cudaStreamCaptureStatusActive
                                : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  Lock lock;
  const auto found = graphs().find(graph);
  if (found == graphs().end()) return fail(cudaErrorInvalidValue);
  *executable = static_cast<cudaGraphExec_t>(add_graph(found->second));
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  Lock lock;
  return graphs().count(executable) ? cudaSuccess : fail(cudaErrorInvalidValue);
}
/// Captured work runs in the order of its capture, even if the graph has parallel branches.
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Lock lock;
  const auto found = graphs().find(executable);
  const auto s = stream_of(stream);
  if (found == graphs().end()) return fail(cudaErrorInvalidValue);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t e = check_use(s)) return fail(e);
  const auto graph = found->second;  // kept until its work is done
  for (std::size_t i = 0; i < graph->tasks.size(); ++i) enqueue(s, [graph, i](Work& work) { return graph->tasks[i](work); });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Lock lock;
  return graphs().erase(graph) ? cudaSuccess : fail(cudaErrorInvalidValue);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  Lock lock;
  return graphs().erase(graph) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

}  // extern "C"
