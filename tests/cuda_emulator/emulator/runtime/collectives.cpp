// An all-reduce queues two tasks in its stream. The first publishes this rank's data. The second waits for the data of all ranks and sums
// it in rank order, so that every rank gets the same bits.
//
// With --streams late, a task runs only when the host waits for it. If the host of a rank does not wait, for example because it is blocked
// in MPI, the other ranks would wait forever; on a GPU the rank's work would proceed. Therefore a background thread runs the stream up to
// the first task when another rank wants the data.
#include "runtime/collectives.hpp"

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <thread>

#include "floats.hpp"
#include "memory.hpp"
#include "options.hpp"
#include "report.hpp"
#include "runtime/copies.hpp"
#include "runtime/exchange.hpp"
#include "runtime/streams.hpp"

namespace emu {
namespace {

// --- arithmetic ---

// NCCL's enumerators
enum ElementType : std::int32_t { kInt8, kUint8, kInt32, kUint32, kInt64, kUint64, kFloat16, kFloat32, kFloat64, kBfloat16, kTypes };
enum Operation : std::int32_t { kSum, kProd, kMax, kMin, kOperations };

std::size_t element_bytes(std::int32_t type) {
  static constexpr std::size_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return kBytes[type];
}

template <class T>
T combine(T a, T b, std::int32_t op) {
  switch (op) {
    case kSum:
      return static_cast<T>(a + b);
    case kProd:
      return static_cast<T>(a * b);
    case kMax:
      return b > a ? b : a;
    default:
      return b < a ? b : a;
  }
}
template <class T>
void reduce_as(std::uint8_t* total, const std::uint8_t* more, std::size_t count, std::int32_t op) {
  for (std::size_t i = 0; i < count; ++i) {
    T a, b;
    std::memcpy(&a, total + i * sizeof(T), sizeof(T));
    std::memcpy(&b, more + i * sizeof(T), sizeof(T));
    a = combine(a, b, op);
    std::memcpy(total + i * sizeof(T), &a, sizeof(T));
  }
}
template <bool kBrain>
void reduce_halves(std::uint8_t* total, const std::uint8_t* more, std::size_t count, std::int32_t op) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t a, b;
    std::memcpy(&a, total + 2 * i, 2);
    std::memcpy(&b, more + 2 * i, 2);
    a = static_cast<std::uint16_t>(half_bits<kBrain>(combine(half_value<kBrain>(a), half_value<kBrain>(b), op)));
    std::memcpy(total + 2 * i, &a, 2);
  }
}
void reduce(std::uint8_t* total, const std::uint8_t* more, std::size_t count, std::int32_t type, std::int32_t op) {
  switch (type) {
    case kInt8:
      return reduce_as<std::int8_t>(total, more, count, op);
    case kUint8:
      return reduce_as<std::uint8_t>(total, more, count, op);
    case kInt32:
      return reduce_as<std::int32_t>(total, more, count, op);
    case kUint32:
      return reduce_as<std::uint32_t>(total, more, count, op);
    case kInt64:
      return reduce_as<std::int64_t>(total, more, count, op);
    case kUint64:
      return reduce_as<std::uint64_t>(total, more, count, op);
    case kFloat16:
      return reduce_halves<false>(total, more, count, op);
    case kFloat32:
      return reduce_as<float>(total, more, count, op);
    case kFloat64:
      return reduce_as<double>(total, more, count, op);
    default:
      return reduce_halves<true>(total, more, count, op);
  }
}

// --- communicators ---

struct Reduction {
  std::uint64_t number;  // 1, 2, ... in the order of the calls
  std::uint64_t send, receive, count;
  std::int32_t type, op;
  std::uint64_t bytes() const { return count * element_bytes(type); }
  std::string shown() const {
    return std::to_string(count) + " elements of type " + std::to_string(type) + " with operation " + std::to_string(op);
  }
};
/// The start of a message; the data follows.
struct Header {
  std::uint64_t count;
  std::int32_t type, op;
};

class Communicator {
 public:
  Communicator(const std::string& folder, int size, int rank) : exchange_(folder, size, rank), device_(current_device) {}

  int device() const { return device_; }
  const Exchange& exchange() const { return exchange_; }

  static void all_reduce(const std::shared_ptr<Communicator>& self, const std::shared_ptr<Stream>& stream, Reduction r) {
    r.number = ++self->issued_;
    enqueue(stream, [self, r](Work& work) {
      self->contribute(work, r);
      return true;
    });
    self->pending_.push_back({r.number, mark_of(stream)});
    enqueue(stream, [self, r](Work& work) { return self->complete(work, r); });
  }

  void leave() { exchange_.leave(); }

  /// A communicator that the program has destroyed is kept until its reductions are done.
  bool destroyed = false;
  bool is_idle() const { return completed_ == issued_; }

  /// Runs streams up to the tasks whose data other ranks want.
  void serve() {
    const std::uint64_t wanted = exchange_.wanted();
    while (!pending_.empty() && pending_.front().first <= wanted) {
      const Mark& mark = pending_.front().second;
      if (!advance(*mark.stream, mark.ticket)) return;
      pending_.pop_front();
    }
  }

 private:
  void contribute(Work& work, const Reduction& r) {
    start_work(work, kName);
    const Header header{r.count, r.type, r.op};
    std::vector<std::uint8_t> message(sizeof header + r.bytes());
    std::memcpy(message.data(), &header, sizeof header);
    if (const std::uint8_t* data = access_device(work, kName, r.send, r.bytes(), Access::kLoad)) {
      const std::uint64_t unwritten = options().initialised ? first_unwritten(r.send, r.bytes()) : r.bytes();
      if (unwritten < r.bytes())
        report("uninitialised memory", std::string(kName) + " reads " + hex(r.send + unwritten) + ", " +
                                           emu::device(device_of(r.send)).describe(r.send + unwritten) + ", which has never been written");
      std::memcpy(message.data() + sizeof header, data, r.bytes());
    }
    try {
      exchange_.publish(r.number, message);
    } catch (const std::exception& e) {
      abandon(e.what());
    }
  }

  bool complete(Work& work, const Reduction& r) {
    const bool finished = failed_ || try_to_complete(work, r);
    completed_ += finished ? 1u : 0u;
    return finished;
  }
  bool try_to_complete(Work& work, const Reduction& r) {
    exchange_.want(r.number);
    for (int rank = 0; rank < exchange_.size(); ++rank)
      if (!exchange_.has_published(rank, r.number)) return wait_for_rank(rank, r);
    std::vector<std::uint8_t> total;
    for (int rank = 0; rank < exchange_.size(); ++rank) {
      const std::vector<std::uint8_t> message = exchange_.message(rank, r.number);
      Header h{};
      if (message.size() >= sizeof h) std::memcpy(&h, message.data(), sizeof h);
      if (h.count != r.count || h.type != r.type || h.op != r.op)
        return abandon(place(r) + ": rank " + std::to_string(exchange_.rank()) + " reduces " + r.shown() + ", rank " +
                       std::to_string(rank) + " reduces " + Reduction{0, 0, 0, h.count, h.type, h.op}.shown());
      if (rank == 0)
        total.assign(message.begin() + sizeof h, message.end());
      else
        reduce(total.data(), message.data() + sizeof h, r.count, r.type, r.op);
    }
    exchange_.consumed(r.number);
    start_work(work, kName);
    if (std::uint8_t* to = access_device(work, kName, r.receive, r.bytes(), Access::kStore)) std::memcpy(to, total.data(), r.bytes());
    waiting_since_ = {};
    return true;
  }

  /// Handles a rank whose data is missing. Returns false while it may still arrive; reports an error otherwise.
  bool wait_for_rank(int rank, const Reduction& r) {
    const auto now = Clock::now();
    if (waiting_since_ == Clock::time_point{}) waiting_since_ = now;
    if (!exchange_.is_alive(rank) && !exchange_.has_published(rank, r.number))
      return abandon(place(r) + ": rank " + std::to_string(rank) + " has exited before it");
    const double waited = std::chrono::duration<double>(now - waiting_since_).count();
    if (waited < options().collective_timeout) return false;
    return abandon(place(r) + ": rank " + std::to_string(rank) + " did not join it within " +
                   std::to_string(static_cast<int>(options().collective_timeout)) + " s (EMU_NCCL_TIMEOUT)");
  }

  std::string place(const Reduction& r) const {
    return "all-reduce " + std::to_string(r.number) + " of rank " + std::to_string(exchange_.rank()) + " among " +
           std::to_string(exchange_.size());
  }

  /// Reports the error; later reductions do nothing. Returns true.
  bool abandon(const std::string& what) {
    failed_ = true;
    report("NCCL", what);
    return true;
  }

  using Clock = std::chrono::steady_clock;
  static constexpr const char* kName = "an all-reduce";
  Exchange exchange_;
  const int device_;
  std::uint64_t issued_ = 0, completed_ = 0;            // reductions
  std::deque<std::pair<std::uint64_t, Mark>> pending_;  // number, position after the first task
  Clock::time_point waiting_since_{};
  bool failed_ = false;
};

std::set<std::shared_ptr<Communicator>>& communicators() {
  static auto* all = new std::set<std::shared_ptr<Communicator>>;
  return *all;
}
bool ending = false;

void serve_for_ever() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    Lock lock;
    if (ending) return;
    for (auto it = communicators().begin(); it != communicators().end();) {
      const auto c = *it++;
      c->serve();
      if (c->destroyed && c->is_idle()) communicators().erase(c);
    }
  }
}

std::shared_ptr<Communicator> find(const void* handle) {
  for (const auto& c : communicators())
    if (c.get() == handle && !c->destroyed) return c;
  return nullptr;
}

}  // namespace

void leave_communicators() {
  ending = true;
  for (const auto& c : communicators()) c->leave();
}

}  // namespace emu

using namespace emu;

extern "C" {

/// Creates a communicator on the current device. On failure, returns null and writes the reason to `problem` (512 bytes).
void* emu_communicator_create(const char* folder, int size, int rank, char* problem) {
  Lock lock;
  static const bool started = [] {
    before_abort(leave_communicators);
    std::thread(serve_for_ever).detach();
    return true;
  }();
  (void)started;
  try {
    auto c = std::make_shared<Communicator>(folder, size, rank);
    communicators().insert(c);
    return c.get();
  } catch (const std::exception& e) {
    std::snprintf(problem, 512, "%s", e.what());
    return nullptr;
  }
}
/// The first rank that has not joined; -1: none.
int emu_communicator_missing(void* handle) {
  Lock lock;
  return find(handle)->exchange().missing();
}
/// The communicator size that a rank expects.
int emu_communicator_size_of(void* handle, int rank) {
  Lock lock;
  return find(handle)->exchange().size_of(rank);
}
int emu_communicator_device(void* handle) {
  Lock lock;
  return find(handle)->device();
}
/// Queues an all-reduce. Returns NCCL's status: 0, or 4 for an invalid argument.
int emu_all_reduce(void* handle, std::uint64_t send, std::uint64_t receive, std::uint64_t count, int type, int op, void* stream) {
  constexpr int kInvalidArgument = 4;
  Lock lock;
  const auto c = find(handle);
  const auto s = stream_of(stream);
  if (!c || !s || type < 0 || type >= kTypes || op < 0 || op >= kOperations) return kInvalidArgument;
  if (s->device != c->device()) {
    misuse("an all-reduce of device " + std::to_string(c->device()) + " in a stream of device " + std::to_string(s->device));
    return kInvalidArgument;
  }
  if (s->capture) {
    misuse("an all-reduce in a capture, which is not emulated");
    return kInvalidArgument;
  }
  if (count) Communicator::all_reduce(c, s, {0, send, receive, count, type, op});
  return 0;
}
void emu_communicator_destroy(void* handle) {
  Lock lock;
  const auto c = find(handle);
  if (!c) return;
  c->destroyed = true;
  if (c->is_idle()) communicators().erase(c);
}

}  // extern "C"
