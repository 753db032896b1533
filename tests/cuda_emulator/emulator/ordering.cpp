#include "ordering.hpp"

#include <algorithm>

namespace emu {
namespace {

/// Work that has started, by number - 1. Entries are never removed: shadow memory refers to them.
struct Started {
  std::uint32_t stream, name;
  std::uint64_t ticket;
};
std::vector<Started>& started() {
  static auto* all = new std::vector<Started>;
  return *all;
}
std::vector<std::string>& names() {
  static auto* all = new std::vector<std::string>;
  return *all;
}

std::uint32_t index_of(const std::string& name) {
  const auto found = std::find(names().begin(), names().end(), name);
  if (found != names().end()) return static_cast<std::uint32_t>(found - names().begin());
  names().push_back(name);
  return static_cast<std::uint32_t>(names().size() - 1);
}

}  // namespace

bool merge(Clock& clock, const Clock& other) {
  bool changed = false;
  if (clock.size() < other.size()) clock.resize(other.size());
  for (std::size_t i = 0; i < other.size(); ++i)
    if (clock[i] < other[i]) clock[i] = other[i], changed = true;
  return changed;
}

void start_work(Work& work, const std::string& name) {
  started().push_back({work.stream, index_of(name), work.ticket});
  work.number = static_cast<std::uint32_t>(started().size());
}

bool happened_before(std::uint32_t earlier, const Work& later) {
  if (earlier == 0 || earlier == later.number) return true;
  const Started& e = started()[earlier - 1];
  if (e.stream == later.stream) return e.ticket <= later.ticket;
  return e.stream < later.before->size() && e.ticket <= (*later.before)[e.stream];
}

std::string describe_work(std::uint32_t number) {
  const Started& s = started()[number - 1];
  return names()[s.name] + " in stream " + std::to_string(s.stream);
}

}  // namespace emu
