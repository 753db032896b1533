// Exchange of data between the ranks of a communicator, which may be processes: files in a folder that all of them know.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace emu {

/// This rank's place in a communicator. The folder holds a table of all ranks, mapped into each process, and a file for each message.
class Exchange {
 public:
  /// Joins the communicator. Throws std::runtime_error.
  Exchange(const std::string& folder, int size, int rank);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  /// Tells the other ranks that this one has ended. The last rank removes the folder.
  void leave();

  int size() const { return size_; }
  int rank() const { return rank_; }

  /// The first rank that has not joined; -1: none.
  int missing() const;
  /// The number of ranks that a rank which has joined expects.
  int size_of(int rank) const;
  /// False: the rank's process has ended.
  bool is_alive(int rank) const;

  /// Gives message number `number` (1, 2, ...) to all ranks.
  void publish(std::uint64_t number, const std::vector<std::uint8_t>& message);
  bool has_published(int rank, std::uint64_t number) const;
  std::vector<std::uint8_t> message(int rank, std::uint64_t number) const;
  /// This rank has read all messages up to `number`.
  void consumed(std::uint64_t number);

  /// This rank waits for messages up to `number`.
  void want(std::uint64_t number);
  /// The last number that another rank waits for.
  std::uint64_t wanted() const;

 private:
  static constexpr int kMaxRanks = 256;
  struct Slot {
    std::atomic<std::int32_t> process, size, left;  // process 0: the rank has not joined
    std::atomic<std::uint64_t> published, consumed, wanted;
  };
  struct Control {
    Slot slots[kMaxRanks];
  };
  // The stand-in's _processes() reads this layout.
  static_assert(sizeof(Slot) == 40 && offsetof(Slot, process) == 0, "");

  Slot& mine() const { return control_->slots[rank_]; }
  std::filesystem::path path(int rank, std::uint64_t number) const;
  void remove_read_messages();

  const std::filesystem::path folder_;
  const int size_, rank_;
  Control* control_ = nullptr;
  std::uint64_t oldest_ = 1;  // of this rank's messages
};

}  // namespace emu
