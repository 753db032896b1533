#include "options.hpp"

#include <cstdlib>
#include <initializer_list>

#include "report.hpp"

namespace emu {
namespace {

std::string text(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}
[[noreturn]] void refuse(const char* name, const std::string& value, const std::string& expected) {
  give_up(std::string(name) + " is '" + value + "'; expected " + expected);
}
std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const std::string value = text(name);
  if (value.empty()) return otherwise;
  char* end;
  const std::uint64_t n = std::strtoull(value.c_str(), &end, 0);
  if (*end) refuse(name, value, "a whole number");
  return n;
}
double seconds(const char* name, double otherwise) {
  const std::string value = text(name);
  if (value.empty()) return otherwise;
  char* end;
  const double n = std::strtod(value.c_str(), &end);
  if (*end) refuse(name, value, "a number of seconds");
  return n;
}
/// Index of the variable's value in `words`; 0 if the variable is not set.
int choice(const char* name, std::initializer_list<const char*> words) {
  const std::string value = text(name, *words.begin());
  std::string expected;
  int i = 0;
  for (const char* word : words) {
    if (value == word) return i;
    expected += (i++ ? ", " : "") + std::string(word);
  }
  refuse(name, value, "one of " + expected);
}
bool flag(const char* name, bool otherwise) { return text(name, otherwise ? "1" : "0") != "0"; }

Options from_environment() {
  Options o;
  const std::string checks = text("EMU_CHECK", "all");
  if (checks != "all") {
    const auto has = [&](const char* word) { return ("," + checks + ",").find(std::string(",") + word + ",") != std::string::npos; };
    o.initialised = has("init"), o.race = has("race"), o.sync = has("sync"), o.streams = has("streams");
  }
  o.keep_going = choice("EMU_ON_ERROR", {"stop", "continue"}) == 1;
  o.seed = number("EMU_SEED", o.seed);
  o.schedule = static_cast<Options::Schedule>(choice("EMU_SCHEDULE", {"random", "roundrobin", "whole"}));
  o.late_streams = choice("EMU_STREAMS", {"late", "eager"}) == 0;
  o.watchdog = number("EMU_WATCHDOG", o.watchdog);
  o.arch = static_cast<int>(number("EMU_ARCH", 0));
  o.devices = static_cast<int>(number("EMU_DEVICES", 2));
  o.memory = number("EMU_MEMORY_MB", o.memory >> 20) << 20;
  o.peer_access = flag("EMU_PEER_ACCESS", true);
  o.host_register = flag("EMU_HOST_REGISTER", true);
  o.perturb = flag("EMU_PERTURB", false);
  o.collective_timeout = seconds("EMU_NCCL_TIMEOUT", o.collective_timeout);
  o.stats = text("EMU_STATS");
  o.dump = text("EMU_DUMP");
  o.dump_kernel = text("EMU_DUMP_KERNEL");
  o.dump_at = text("EMU_DUMP_AT");
  o.dump_most = number("EMU_DUMP_MOST", o.dump_most);
  o.execute = flag("EMU_EXECUTE", true);
  return o;
}

}  // namespace

const Options* const global_options = new Options(from_environment());

}  // namespace emu
