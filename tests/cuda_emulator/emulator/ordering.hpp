// The order of work on the devices: launches, copies, memsets and collectives. Work A happened before work B if streams, events or the
// host's waits order them so. Vector clocks record that; accesses to one address by unordered work are a race between streams.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace emu {

/// For each stream: the number of its last unit of work that is known to be complete.
using Clock = std::vector<std::uint64_t>;

/// Raises `clock` to at least `other`. True if that changed it.
bool merge(Clock& clock, const Clock& other);

/// A unit of work, while it executes.
struct Work {
  std::uint32_t number = 0;             // 1, 2, ... in the order of execution
  std::uint32_t stream = 0;             // Stream::id
  std::uint64_t ticket = 0;             // position in the stream
  std::shared_ptr<const Clock> before;  // completed work
};

/// Gives the work its number. `name` is for messages.
void start_work(Work& work, const std::string& name);

/// Whether work `earlier`, a number or 0 for none, happened before `later` (or is the same).
bool happened_before(std::uint32_t earlier, const Work& later);

/// Name and stream of a work.
std::string describe_work(std::uint32_t number);

}  // namespace emu
