#include "options.hpp"

#include <cstdlib>

namespace emu {
namespace {

std::string text(const char* name, const char* otherwise = "") {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}
std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const std::string value = text(name);
  return value.empty() ? otherwise : std::strtoull(value.c_str(), nullptr, 0);
}
bool flag(const char* name, bool otherwise) { return text(name, otherwise ? "1" : "0") != "0"; }

Options from_environment() {
  Options o;
  const std::string checks = text("EMU_CHECK", "all");
  if (checks != "all") {
    const auto has = [&](const char* word) { return ("," + checks + ",").find(std::string(",") + word + ",") != std::string::npos; };
    o.initialised = has("init"), o.race = has("race"), o.sync = has("sync"), o.streams = has("streams");
  }
  o.keep_going = text("EMU_ON_ERROR", "stop") == "continue";
  o.seed = number("EMU_SEED", o.seed);
  const std::string schedule = text("EMU_SCHEDULE", "random");
  o.schedule = schedule == "whole" ? Options::kWhole : schedule == "roundrobin" ? Options::kRoundRobin : Options::kRandom;
  o.late_streams = text("EMU_STREAMS", "late") == "late";
  o.watchdog = number("EMU_WATCHDOG", o.watchdog);
  o.arch = static_cast<int>(number("EMU_ARCH", 0));
  o.devices = static_cast<int>(number("EMU_DEVICES", 2));
  o.memory = number("EMU_MEMORY_MB", o.memory >> 20) << 20;
  o.peer_access = flag("EMU_PEER_ACCESS", true);
  o.host_register = flag("EMU_HOST_REGISTER", true);
  o.perturb = flag("EMU_PERTURB", false);
  o.collective_timeout = std::strtod(text("EMU_NCCL_TIMEOUT", "600").c_str(), nullptr);
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
