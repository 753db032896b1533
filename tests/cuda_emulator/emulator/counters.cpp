#include "counters.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "report.hpp"

namespace emu {
namespace {

constexpr int kClasses = static_cast<int>(Class::kCount);

std::map<std::string, std::unique_ptr<KernelCount>>& kernels() {
  static auto* all = new std::map<std::string, std::unique_ptr<KernelCount>>;
  return *all;
}

// --- summary of a kernel ---

struct Traffic {
  const char *name, *unit;
  std::uint64_t requests = 0, units = 0, ideal = 0, bytes = 0;
  void add(const OpCount& c) { requests += c.units ? c.runs : 0, units += c.units, ideal += c.ideal, bytes += c.bytes; }
};

/// Warp instructions of a source line.
struct Line {
  std::string at;
  std::uint64_t total = 0, runs[kClasses] = {};
};

struct Summary {
  const KernelCount& kernel;
  std::uint64_t runs[kClasses] = {}, total = 0, lanes = 0;
  Traffic traffic[5] = {{"global_loads", "sectors"},
                        {"global_stores", "sectors"},
                        {"async_copies", "sectors"},
                        {"shared_loads", "wavefronts"},
                        {"shared_stores", "wavefronts"}};
  std::vector<Line> lines;          // most instructions first
  std::vector<const Op*> wasteful;  // accesses with more units than ideal, worst first

  explicit Summary(const KernelCount& k) : kernel(k) {
    std::map<std::string, Line> by_place;
    for (const Op& op : k.program->ops) {
      const OpCount& c = count(op);
      runs[static_cast<int>(op.cls)] += c.runs;
      total += c.runs;
      lanes += c.lanes;
      if (c.runs) {
        Line& line = by_place[source_of(*k.program, op)];
        line.total += c.runs;
        line.runs[static_cast<int>(op.cls)] += c.runs;
      }
      if (Traffic* t = traffic_of(op)) t->add(c);
      if (c.units > c.ideal) wasteful.push_back(&op);
    }
    for (auto& [at, line] : by_place) {
      line.at = at;
      lines.push_back(line);
    }
    std::stable_sort(lines.begin(), lines.end(), [](const auto& a, const auto& b) { return a.total > b.total; });
    const auto excess = [this](const Op* op) { return count(*op).units - count(*op).ideal; };
    std::stable_sort(wasteful.begin(), wasteful.end(), [&](const Op* a, const Op* b) { return excess(a) > excess(b); });
  }

  const OpCount& count(const Op& op) const { return kernel.ops[op.number]; }
  double active_lanes() const { return total ? static_cast<double>(lanes) / static_cast<double>(total) : 0.0; }
  static const char* unit_of(const Op& op) { return op.space == Space::kShared ? "wavefronts" : "sectors"; }

 private:
  Traffic* traffic_of(const Op& op) {
    switch (op.cls) {
      case Class::kGlobalLoad:
        return &traffic[0];
      case Class::kGlobalStore:
        return &traffic[1];
      case Class::kAsyncCopy:
        return op.bytes ? &traffic[2] : nullptr;
      case Class::kSharedLoad:
        return &traffic[3];
      case Class::kSharedStore:
        return &traffic[4];
      default:
        return nullptr;
    }
  }
};

// --- output ---

using Number = unsigned long long;

class Output {
 public:
  explicit Output(std::FILE* file) : file_(file) {}
  __attribute__((format(printf, 2, 3))) void print(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vfprintf(file_, format, arguments);
    va_end(arguments);
  }

  void json() {
    print("{\n");
    const char* separator = "";
    for (const auto& [name, k] : kernels()) {
      print("%s", separator);
      json(Summary(*k));
      separator = ",\n";
    }
    print("\n}\n");
  }
  void table() {
    for (const auto& [name, k] : kernels()) table(Summary(*k));
  }

 private:
  static std::string quoted(const std::string& s) {
    std::string out = "\"";
    for (char c : s) out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return out + "\"";
  }
  void json_classes(const std::uint64_t* runs) {
    for (int i = 0; i < kClasses; ++i)
      if (runs[i]) print(", \"%s\": %llu", kClassNames[i], Number{runs[i]});
  }
  void json(const Summary& s) {
    const KernelCount& k = s.kernel;
    print("%s: {\"launches\": %llu, \"blocks\": %llu, \"threads\": %llu, \"live_registers\": %d, \"shared_bytes\": %u,\n",
          quoted(k.title).c_str(), Number{k.launches}, Number{k.blocks}, Number{k.threads}, k.program->live_registers, k.shared_bytes);
    print("  \"warp_instructions\": {\"total\": %llu", Number{s.total});
    json_classes(s.runs);
    print("},\n  \"active_lanes\": %.2f", s.active_lanes());
    for (const Traffic& t : s.traffic)
      if (t.requests)
        print(",\n  \"%s\": {\"requests\": %llu, \"bytes\": %llu, \"%s\": %llu, \"ideal\": %llu}", t.name, Number{t.requests},
              Number{t.bytes}, t.unit, Number{t.units}, Number{t.ideal});
    print(",\n  \"lines\": [");
    for (std::size_t i = 0; i < s.lines.size() && i < 20; ++i) {
      print("%s\n    {\"at\": %s, \"total\": %llu", i ? "," : "", quoted(s.lines[i].at).c_str(), Number{s.lines[i].total});
      json_classes(s.lines[i].runs);
      print("}");
    }
    print("],\n  \"wasteful\": [");
    for (std::size_t i = 0; i < s.wasteful.size() && i < 8; ++i) {
      const Op& op = *s.wasteful[i];
      const OpCount& c = s.count(op);
      print("%s\n    {\"at\": %s, \"requests\": %llu, \"%s\": %llu, \"ideal\": %llu}", i ? "," : "",
            quoted(place_of(*k.program, op)).c_str(), Number{c.runs}, Summary::unit_of(op), Number{c.units}, Number{c.ideal});
    }
    print("]}");
  }

  void table_classes(const std::uint64_t* runs, std::uint64_t total, int digits) {
    for (int i = 0; i < kClasses; ++i)
      if (runs[i]) print(" %s %.*f%%", kClassNames[i], digits, 100.0 * static_cast<double>(runs[i]) / static_cast<double>(total));
    print("\n");
  }
  void table(const Summary& s) {
    const KernelCount& k = s.kernel;
    print("%s\n  %llu launches, %llu blocks, %llu threads; at least %d registers, %u bytes of shared memory\n", k.title.c_str(),
          Number{k.launches}, Number{k.blocks}, Number{k.threads}, k.program->live_registers, k.shared_bytes);
    print("  %llu warp instructions, %.1f lanes active:", Number{s.total}, s.active_lanes());
    table_classes(s.runs, s.total, 1);
    for (const Traffic& t : s.traffic) {
      if (!t.requests) continue;
      std::string name = t.name;
      std::replace(name.begin(), name.end(), '_', ' ');
      print("  %-14s %12llu requests %14llu bytes %12llu %s, ideal %llu (%.2f times)\n", name.c_str(), Number{t.requests}, Number{t.bytes},
            Number{t.units}, t.unit, Number{t.ideal}, static_cast<double>(t.units) / static_cast<double>(t.ideal));
    }
    for (std::size_t i = 0; i < s.lines.size() && i < 6; ++i) {
      print("    %5.1f%% %s:", 100.0 * static_cast<double>(s.lines[i].total) / static_cast<double>(s.total), s.lines[i].at.c_str());
      table_classes(s.lines[i].runs, s.lines[i].total, 0);
    }
    for (std::size_t i = 0; i < s.wasteful.size() && i < 4; ++i) {
      const Op& op = *s.wasteful[i];
      const OpCount& c = s.count(op);
      print("    wasteful: %s: %llu requests, %llu %s, ideal %llu\n", place_of(*k.program, op).c_str(), Number{c.runs}, Number{c.units},
            Summary::unit_of(op), Number{c.ideal});
    }
  }

  std::FILE* file_;
};

}  // namespace

KernelCount* counters_of(const Launch& launch) {
  if (options().stats.empty()) return nullptr;
  auto& k = kernels()[launch.range + "\n" + launch.program->name];
  if (!k) {
    k = std::make_unique<KernelCount>();
    k->ops.resize(launch.program->ops.size());
    k->program = launch.program;
    k->title = title_of(launch);
  }
  return k.get();
}

bool write_counters() {
  if (options().stats.empty() || kernels().empty()) return true;
  std::string path = options().stats;
  const std::size_t at = path.find("%p");
  if (at != std::string::npos) path.replace(at, 2, std::to_string(getpid()));
  std::FILE* f = path == "-" ? stderr : std::fopen(path.c_str(), "w");
  if (!f) {
    std::fprintf(stderr, "cuda-emulator: cannot write the counters to %s: %s\n", path.c_str(), std::strerror(errno));
    return false;
  }
  if (path.size() > 5 && path.compare(path.size() - 5, 5, ".json") == 0)
    Output(f).json();
  else
    Output(f).table();
  if (f != stderr) std::fclose(f);
  return true;
}

}  // namespace emu
