#include "runtime/exchange.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace emu {

Exchange::Exchange(const std::string& folder, int size, int rank) : folder_(folder), size_(size), rank_(rank) {
  if (size < 1 || size > kMaxRanks || rank < 0 || rank >= size)
    throw std::runtime_error("rank " + std::to_string(rank) + " of " + std::to_string(size) +
                             "; expected 0 <= rank < size <= " + std::to_string(kMaxRanks));
  std::error_code ignored;  // another rank may create the folder at the same time
  std::filesystem::create_directories(folder_, ignored);
  const int file = open((folder_ / "control").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(Control)) != 0)
    throw std::runtime_error("cannot write " + folder_.string() + ": " + std::strerror(errno));
  void* p = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (p == MAP_FAILED) throw std::runtime_error("cannot map " + folder_.string() + ": " + std::strerror(errno));
  control_ = static_cast<Control*>(p);  // a new file is all zeros, the initial value of every field
  mine().size = size;
  std::int32_t nobody = 0;
  if (!mine().process.compare_exchange_strong(nobody, getpid())) {
    munmap(control_, sizeof(Control));
    throw std::runtime_error("rank " + std::to_string(rank) + " already exists, in process " + std::to_string(nobody));
  }
}

Exchange::~Exchange() {
  leave();
  munmap(control_, sizeof(Control));
}

void Exchange::leave() {
  mine().left = 1;
  for (int r = 0; r < size_; ++r)
    if (control_->slots[r].process != 0 && !control_->slots[r].left) return;
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

int Exchange::missing() const {
  for (int r = 0; r < size_; ++r)
    if (control_->slots[r].process == 0) return r;
  return -1;
}
int Exchange::size_of(int rank) const { return control_->slots[rank].size; }

bool Exchange::is_alive(int rank) const {
  const pid_t process = control_->slots[rank].process;
  if (control_->slots[rank].left) return false;
  if (process == 0 || process == getpid()) return true;
  if (kill(process, 0) != 0 && errno == ESRCH) return false;
  // kill() succeeds for a zombie too. The state is the letter after the parenthesised name.
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const std::size_t end = stat.rfind(')');
  return end == std::string::npos || end + 2 >= stat.size() || (stat[end + 2] != 'Z' && stat[end + 2] != 'X');
}

std::filesystem::path Exchange::path(int rank, std::uint64_t number) const {
  return folder_ / (std::to_string(rank) + "." + std::to_string(number));
}

void Exchange::publish(std::uint64_t number, const std::vector<std::uint8_t>& message) {
  std::ofstream file(path(rank_, number), std::ios::binary);
  file.write(reinterpret_cast<const char*>(message.data()), static_cast<std::streamsize>(message.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path(rank_, number).string());
  mine().published = number;
  remove_read_messages();
}
bool Exchange::has_published(int rank, std::uint64_t number) const { return control_->slots[rank].published >= number; }
std::vector<std::uint8_t> Exchange::message(int rank, std::uint64_t number) const {
  std::ifstream file(path(rank, number), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void Exchange::consumed(std::uint64_t number) { mine().consumed = number; }

void Exchange::remove_read_messages() {
  std::uint64_t read = ~0ull;
  for (int r = 0; r < size_; ++r) read = std::min<std::uint64_t>(read, control_->slots[r].consumed);
  std::error_code ignored;
  for (; oldest_ <= read; ++oldest_) std::filesystem::remove(path(rank_, oldest_), ignored);
}

void Exchange::want(std::uint64_t number) { mine().wanted = std::max<std::uint64_t>(number, mine().wanted); }
std::uint64_t Exchange::wanted() const {
  std::uint64_t most = 0;
  for (int r = 0; r < size_; ++r)
    if (r != rank_) most = std::max<std::uint64_t>(most, control_->slots[r].wanted);
  return most;
}

}  // namespace emu
