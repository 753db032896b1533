// Writes launches to files (option --dump-launches), for tools that simulate or time the kernel's machine code.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "execution/block.hpp"

namespace emu {

/// The folder of one launch. README.md describes the files.
class LaunchDump {
 public:
  /// Writes the launch and the memory before it, if the options select the launch.
  explicit LaunchDump(const Launch& launch);
  /// Writes the memory that the launch changed.
  void finish();

 private:
  struct Page {
    std::uint64_t address;
    std::size_t bytes, at;  // at: index in before_
  };
  const Launch& launch_;
  std::string folder_;  // empty: the launch is not selected
  std::vector<Page> pages_;
  std::vector<std::uint8_t> before_;
};

}  // namespace emu
