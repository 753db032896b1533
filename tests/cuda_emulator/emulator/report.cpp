#include "report.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "options.hpp"

namespace emu {
namespace {

struct Error {
  std::uint64_t count = 0;
  std::string message;  // of the first occurrence
};
std::map<std::string, Error>& errors() {
  static auto* all = new std::map<std::string, Error>;
  return *all;
}
std::vector<std::function<void()>>& abort_hooks() {
  static auto* all = new std::vector<std::function<void()>>;
  return *all;
}

/// The standard error of `run`, or this process's if it has not inherited that. They differ if the program redirects its own, as pytest
/// does during a test.
int find_output() {
  int number;
  unsigned long long device, inode;
  struct stat s;
  const char* given = std::getenv("EMU_STDERR");
  const bool inherited = given && std::sscanf(given, "%d:%llu:%llu", &number, &device, &inode) == 3 && fstat(number, &s) == 0 &&
                         s.st_dev == device && s.st_ino == inode;
  return inherited ? number : STDERR_FILENO;
}
void print(const std::string& text) {
  static const int output = find_output();
  std::fflush(stderr);
  dprintf(output, "%s", text.c_str());
}

void add(const std::string& key, const std::string& message) {
  Error& e = errors()[key];
  if (e.count++ == 0) {
    const char* const test = std::getenv("PYTEST_CURRENT_TEST");  // set by pytest
    e.message = message + (test ? std::string("\n  during ") + test : "");
    print((test ? "\n" : "") + ("cuda-emulator: ERROR: " + e.message) + "\n");
  }
  if (options().keep_going) return;
  std::fflush(stdout);
  for (const auto& hook : abort_hooks()) hook();
  _exit(kErrorStatus);
}

std::string file_name(const Program& p, int file) {
  const auto found = p.files.find(file);
  if (found == p.files.end()) return "?";
  const std::size_t slash = found->second.rfind('/');
  return slash == std::string::npos ? found->second : found->second.substr(slash + 1);
}

}  // namespace

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string source_of(const Program& p, const Op& op) {
  const Location& l = p.statements[op.statement].location;
  return l.file ? file_name(p, l.file) + ":" + std::to_string(l.line) : "?";
}

std::string place_of(const Program& p, const Op& op) {
  const Statement& s = p.statements[op.statement];
  std::string text = "PTX line " + std::to_string(s.line) + " '" + s.opcode + "'";
  if (s.location.file) {
    text += " (" + source_of(p, op);
    if (s.location.inlined_file)
      text += ", inlined at " + file_name(p, s.location.inlined_file) + ":" + std::to_string(s.location.inlined_line);
    text += ")";
  }
  return text;
}

void report(const Warp& w, const Op& op, int lane, const std::string& kind, const std::string& what) {
  const Block& b = *w.block;
  const Dim3& d = b.launch->block;
  const std::uint32_t t = thread_of(w, lane);
  char where[160];
  std::snprintf(where, sizeof where, "block (%u,%u,%u) thread (%u,%u,%u)", b.at.x, b.at.y, b.at.z, t % d.x, t / d.x % d.y, t / d.x / d.y);
  const Program& p = *b.launch->program;
  add(kind + "\n" + p.name + "\n" + std::to_string(op.number),
      kind + ": " + what + "\n  in " + title_of(*b.launch) + ", " + where + "\n  at " + place_of(p, op));
}

void report(const std::string& kind, const std::string& what) { add(kind + "\n" + what, kind + ": " + what); }

void give_up(const std::string& what) {
  print("cuda-emulator: " + what + "\n");
  _exit(kErrorStatus);
}

void before_abort(std::function<void()> f) { abort_hooks().push_back(std::move(f)); }

std::uint64_t print_summary() {
  std::uint64_t total = 0;
  for (const auto& [key, e] : errors()) total += e.count;
  if (total == 0) return 0;
  const auto number = [](std::uint64_t n, const char* what) { return std::to_string(n) + " " + what + (n == 1 ? "" : "s"); };
  print("cuda-emulator: " + number(total, "error") + " at " + number(errors().size(), "place") + ":\n");
  for (const auto& [key, e] : errors()) print("  " + std::to_string(e.count) + " x " + e.message + "\n");
  return total;
}

}  // namespace emu
