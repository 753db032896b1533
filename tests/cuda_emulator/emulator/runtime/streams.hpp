// Streams: queues of work. By default (option --streams late) a queue runs only when the host waits for it, so that a missing wait, which
// may go unnoticed on a GPU, causes wrong results here.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "ordering.hpp"
#include "runtime/state.hpp"

namespace emu {

/// Queued work. Returns false if it must wait for another process; it is then called again later.
using Task = std::function<bool(Work&)>;

/// Captured work, in the order of its capture.
struct Graph {
  std::vector<Task> tasks;
  std::vector<void*> memory;  // freed during the capture; released with the graph
  ~Graph();
};

struct Stream;

struct Capture {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  Stream* origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool valid = true;
};
/// The captured work on which a stream or an event depends: the number of tasks in each stream.
using CaptureClock = std::map<const Stream*, std::uint64_t>;

struct Queued {
  Task task;
  Work work;
};

struct Stream {
  std::uint32_t id = 0;
  int device = 0;
  bool blocking = true;  // synchronises with the legacy stream
  bool legacy = false;
  bool destroyed = false;
  bool running = false;  // a task of this stream is on the call stack
  std::deque<Queued> queue;
  std::uint64_t issued = 0, done = 0;
  std::shared_ptr<const Clock> clock = std::make_shared<Clock>();  // work that is complete before the next task
  std::uint64_t host_version = 0;                                  // version of the host's clock merged into `clock`
  std::shared_ptr<Capture> capture;
  CaptureClock captured;
};

/// A position in a stream.
struct Mark {
  std::shared_ptr<Stream> stream;
  std::uint64_t ticket = 0;
  std::shared_ptr<const Clock> clock;
};

/// Creates a stream on the device, and its handle. `blocking`: it synchronises with the legacy stream.
std::shared_ptr<Stream> new_stream(int device, bool blocking, void** handle);
/// The stream of a handle; a null handle is the current device's legacy stream. Null: there is no such stream.
std::shared_ptr<Stream> stream_of(void* handle);
/// Destroys the stream once its work is done.
void destroy_stream(void* handle);

/// Queues work, or captures it. In a legacy stream, runs it immediately, after all work in the device's blocking streams.
void enqueue(const std::shared_ptr<Stream>& stream, Task task);

/// The position after all work queued so far.
Mark mark_of(const std::shared_ptr<Stream>& stream);
/// Whether work before the mark is unfinished.
bool is_pending(const Mark& mark);
/// Makes later work in the stream wait for the mark.
void wait_in_stream(const std::shared_ptr<Stream>& stream, const Mark& mark);
/// Makes the host wait for the mark.
void wait_on_host(const Mark& mark);
/// Makes the host wait for all streams of the device.
void wait_for_device(int device);

/// Runs tasks up to a ticket. Returns false if one of them must wait for another process.
bool advance(Stream& stream, std::uint64_t ticket);
/// Runs one task, so that a polling host sees progress.
void advance_once(Stream& stream);
/// Runs all queued work on all devices. Does not advance the host's clock, so it orders nothing.
void run_all_streams();
/// The same, as far as possible without waiting for other processes.
void finish_all_streams();

/// Calls f for all streams except the legacy ones.
void for_all_streams(const std::function<void(const std::shared_ptr<Stream>&)>& f);

// --- capture ---

/// Checks a use of this stream against active captures: returns cudaSuccess or the error. An invalid use invalidates the capture.
cudaError_t check_use(const std::shared_ptr<Stream>& stream);
/// The same for calls that wait for the stream; for calls that wait for the device; for calls that are unsafe during a capture, such as
/// cudaMalloc.
cudaError_t check_wait(const std::shared_ptr<Stream>& stream);
cudaError_t check_device_wait(int device);
cudaError_t check_unsafe_call();

}  // namespace emu
