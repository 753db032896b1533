// Exchange of data between the ranks of a communicator, in one process or in several, through files in a shared folder.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace emu {

/// One rank's end of the exchange. The folder holds a table of all ranks, mapped into each process, and a file for each message.
class Exchange {
 public:
  /// Joins the communicator. Throws std::runtime_error.
  Exchange(const std::string& folder, int size, int rank);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  /// Tells the other ranks that this one has left. The last rank removes the folder.
  void leave();

  int size() const { return size_; }
  int rank() const { return rank_; }

  /// The first rank that has not joined; -1: none.
  int missing() const;
  /// The communicator size that a joined rank expects.
  int size_of(int rank) const;
  /// False: the rank has left, or its process has exited.
  bool is_alive(int rank) const;

  /// Publishes message number `number` (1, 2, ...) to all ranks.
  void publish(std::uint64_t number, const std::vector<std::uint8_t>& message);
  bool has_published(int rank, std::uint64_t number) const;
  std::vector<std::uint8_t> message(int rank, std::uint64_t number) const;
  /// Records that this rank has read all messages up to `number`.
  void consumed(std::uint64_t number);

  /// Records that this rank waits for messages up to `number`.
  void want(std::uint64_t number);
  /// The highest message number that another rank waits for.
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
  std::uint64_t oldest_ = 1;  // number of this rank's oldest message that has not been removed
};

}  // namespace emu
