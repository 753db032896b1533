#include "runtime/streams.hpp"

#include <utility>

#include "memory.hpp"
#include "options.hpp"

namespace emu {
namespace {

std::map<void*, std::shared_ptr<Stream>>& streams() {
  static auto* all = new std::map<void*, std::shared_ptr<Stream>>;
  return *all;
}
std::shared_ptr<Stream> make_stream(int device, bool blocking) {
  static std::uint32_t ids = 0;
  auto s = std::make_shared<Stream>();
  s->id = ids++;
  s->device = device;
  s->blocking = blocking;
  return s;
}
std::shared_ptr<Stream> legacy_stream(int device) {
  static auto* all = new std::map<int, std::shared_ptr<Stream>>;
  auto& s = (*all)[device];
  if (!s) {
    s = make_stream(device, true);
    s->legacy = true;
  }
  return s;
}

/// Calls f for the device's streams, except its legacy stream.
template <class F>
void for_streams(int device, F f) {
  std::vector<std::shared_ptr<Stream>> all;  // tasks may create or destroy streams
  for (const auto& [handle, s] : streams())
    if (s->device == device) all.push_back(s);
  for (const auto& s : all) f(s);
}

// --- order ---

// Work that the host knows to be complete. Work queued later is ordered after it.
Clock& host_clock() {
  static auto* clock = new Clock;  // never destroyed: streams run while the process exits
  return *clock;
}
std::uint64_t host_version = 0;

void merge_into(Stream& s, const Clock& clock) {
  Clock merged = *s.clock;
  if (merge(merged, clock)) s.clock = std::make_shared<const Clock>(std::move(merged));
}
/// Converts a mark to a clock that includes all work before it.
Clock clock_of(const Mark& mark) {
  Clock clock = *mark.clock;
  if (clock.size() <= mark.stream->id) clock.resize(mark.stream->id + 1);
  clock[mark.stream->id] = std::max(clock[mark.stream->id], mark.ticket);
  return clock;
}

Work next_work(Stream& s) {
  if (s.host_version != host_version) {
    merge_into(s, host_clock());
    s.host_version = host_version;
  }
  Work work;
  work.stream = s.id;
  work.ticket = ++s.issued;
  work.before = s.clock;
  return work;
}

void enqueue_legacy(const std::shared_ptr<Stream>& s, const Task& task) {
  for_streams(s->device, [&](const std::shared_ptr<Stream>& other) {
    if (!other->blocking) return;
    const Mark mark = mark_of(other);
    wait_for([&] { return advance(*other, mark.ticket); });
    merge_into(*s, clock_of(mark));
  });
  Work work = next_work(*s);
  wait_for([&] { return task(work); });
  s->done = s->issued;
  const Clock clock = clock_of(mark_of(s));
  for_streams(s->device, [&](const std::shared_ptr<Stream>& other) {
    if (other->blocking) merge_into(*other, clock);
  });
}

/// Invalidates the capture; returns `error`.
cudaError_t invalidate(Capture& capture, cudaError_t error) {
  capture.valid = false;
  return error;
}

}  // namespace

Graph::~Graph() {
  for (void* p : memory) {
    const auto address = reinterpret_cast<std::uint64_t>(p);
    device(device_of(address)).release(address);
  }
}

std::shared_ptr<Stream> new_stream(int device, bool blocking, void** handle) {
  auto s = make_stream(device, blocking);
  if (blocking) merge_into(*s, clock_of(mark_of(legacy_stream(device))));
  *handle = new_handle();
  return streams()[*handle] = s;
}

std::shared_ptr<Stream> stream_of(void* handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) return legacy_stream(current_device);
  const auto found = streams().find(handle);
  return found == streams().end() || found->second->destroyed ? nullptr : found->second;
}

void destroy_stream(void* handle) {
  const auto found = streams().find(handle);
  if (found == streams().end()) return;
  found->second->destroyed = true;
  for (auto it = streams().begin(); it != streams().end();)  // erases those whose queue is empty
    it = it->second->destroyed && it->second->queue.empty() ? streams().erase(it) : std::next(it);
}

void enqueue(const std::shared_ptr<Stream>& s, Task task) {
  if (s->capture) {
    s->capture->graph->tasks.push_back(std::move(task));
    ++s->captured[s.get()];
    return;
  }
  if (s->legacy) return enqueue_legacy(s, task);
  s->queue.push_back({std::move(task), next_work(*s)});
  if (!options().late_streams) wait_for([&] { return advance(*s, s->issued); });
}

Mark mark_of(const std::shared_ptr<Stream>& s) { return {s, s->issued, s->clock}; }

bool is_pending(const Mark& mark) { return mark.stream && mark.stream->done < mark.ticket; }

void wait_in_stream(const std::shared_ptr<Stream>& s, const Mark& mark) {
  if (!mark.stream || mark.stream == s) return;
  enqueue(s, [mark](Work&) { return advance(*mark.stream, mark.ticket); });
  merge_into(*s, clock_of(mark));
}

void wait_on_host(const Mark& mark) {
  wait_for([&] { return advance(*mark.stream, mark.ticket); });
  if (merge(host_clock(), clock_of(mark))) ++host_version;
}

void wait_for_device(int device) {
  for_streams(device, [](const std::shared_ptr<Stream>& s) { wait_on_host(mark_of(s)); });
  wait_on_host(mark_of(legacy_stream(device)));
}

bool advance(Stream& s, std::uint64_t ticket) {
  if (s.running) return s.done >= ticket;
  while (s.done < ticket && !s.queue.empty()) {
    s.running = true;
    const bool finished = s.queue.front().task(s.queue.front().work);
    s.running = false;
    if (!finished) return false;
    s.queue.pop_front();
    ++s.done;
  }
  return true;
}

void advance_once(Stream& s) { advance(s, s.done + 1); }

void run_all_streams() {
  for_all_streams([](const std::shared_ptr<Stream>& s) {
    const std::uint64_t last = s->issued;
    wait_for([&] { return advance(*s, last); });
  });
}

void finish_all_streams() {
  std::uint64_t done = 1, before = 0;
  while (done != before) {
    before = std::exchange(done, 0);
    for_all_streams([&](const std::shared_ptr<Stream>& s) {
      advance(*s, s->issued);
      done += s->done;
    });
  }
}

void for_all_streams(const std::function<void(const std::shared_ptr<Stream>&)>& f) {
  for (std::size_t i = 0; i < devices().size(); ++i) for_streams(static_cast<int>(i), f);
}

// --- capture ---

cudaError_t check_use(const std::shared_ptr<Stream>& s) {
  if (s->capture && !s->capture->valid) return cudaErrorStreamCaptureInvalidated;
  if (!s->legacy) return cudaSuccess;
  // The legacy stream would have to synchronise with a blocking stream that is capturing.
  cudaError_t result = cudaSuccess;
  for_streams(s->device, [&](const std::shared_ptr<Stream>& other) {
    if (other->blocking && other->capture) result = invalidate(*other->capture, cudaErrorStreamCaptureImplicit);
  });
  return result;
}

cudaError_t check_wait(const std::shared_ptr<Stream>& s) {
  if (s->capture) return invalidate(*s->capture, cudaErrorStreamCaptureUnsupported);
  return check_use(s);
}

cudaError_t check_device_wait(int device) {
  cudaError_t result = cudaSuccess;
  for_streams(device, [&](const std::shared_ptr<Stream>& s) {
    if (s->capture) result = invalidate(*s->capture, cudaErrorStreamCaptureUnsupported);
  });
  return result;
}

cudaError_t check_unsafe_call() {
  for (const auto& [handle, s] : streams())
    if (s->capture && s->capture->mode != cudaStreamCaptureModeRelaxed) return invalidate(*s->capture, cudaErrorStreamCaptureUnsupported);
  return cudaSuccess;
}

}  // namespace emu
