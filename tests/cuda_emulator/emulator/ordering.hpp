// Happened-before order of work on the devices: launches, copies, memsets and collectives. Streams, events and host waits order work;
// vector clocks record the order. Conflicting accesses by unordered work are a race between streams.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace emu {

/// For each stream, the ticket of the last unit of work known to be complete.
using Clock = std::vector<std::uint64_t>;

/// Raises each element of `clock` to at least that of `other`. Returns whether `clock` changed.
bool merge(Clock& clock, const Clock& other);

/// A unit of work, while it executes.
struct Work {
  std::uint32_t number = 0;             // 1, 2, ... in the order of execution
  std::uint32_t stream = 0;             // Stream::id
  std::uint64_t ticket = 0;             // position in the stream
  std::shared_ptr<const Clock> before;  // completed work
};

/// Assigns the work's number. `name` is for messages.
void start_work(Work& work, const std::string& name);

/// Whether work number `earlier` (0: none) happened before `later` or is the same.
bool happened_before(std::uint32_t earlier, const Work& later);

/// Name and stream of a unit of work, for messages.
std::string describe_work(std::uint32_t number);

}  // namespace emu
