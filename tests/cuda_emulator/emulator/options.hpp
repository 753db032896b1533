// Options, read from environment variables that the launcher sets. README.md describes them.
#pragma once

#include <cstdint>
#include <string>

namespace emu {

struct Options {
  // Checks (EMU_CHECK)
  bool initialised = true, race = true, sync = true, streams = true;
  bool keep_going = false;  // EMU_ON_ERROR: report errors and continue

  // Schedule
  std::uint64_t seed = 0;                                             // EMU_SEED
  enum Schedule { kRandom, kRoundRobin, kWhole } schedule = kRandom;  // EMU_SCHEDULE
  bool late_streams = true;                                           // EMU_STREAMS: queued work runs when the host waits for it
  std::uint64_t watchdog = 0;                                         // EMU_WATCHDOG: instructions until a warp counts as hung; 0: none

  // Machine
  int arch = 0;                           // EMU_ARCH: compute capability, 80 for 8.0; 0: that of the newest PTX
  int devices = 2;                        // EMU_DEVICES
  std::uint64_t memory = 16384ull << 20;  // EMU_MEMORY_MB: bytes of a device
  bool peer_access = true;                // EMU_PEER_ACCESS
  bool host_register = true;              // EMU_HOST_REGISTER
  bool perturb = false;                   // EMU_PERTURB: approximate functions err by up to their documented bound
  double collective_timeout = 600;        // EMU_NCCL_TIMEOUT: seconds

  // Output
  std::string stats;                       // EMU_STATS
  std::string dump, dump_kernel, dump_at;  // EMU_DUMP, EMU_DUMP_KERNEL, EMU_DUMP_AT
  std::uint64_t dump_most = ~0ull;         // EMU_DUMP_MOST: bytes
  bool execute = true;                     // EMU_EXECUTE: run kernels
};

extern const Options* const global_options;  // read when the library is loaded, never destroyed
inline const Options& options() { return *global_options; }

}  // namespace emu
