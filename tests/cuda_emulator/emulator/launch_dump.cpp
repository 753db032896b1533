#include "launch_dump.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <regex>

#include "report.hpp"

namespace emu {
namespace {

constexpr std::uint64_t kPage = 4096;

std::regex kernel_pattern() {
  try {
    return std::regex(options().dump_kernel);
  } catch (const std::regex_error&) {
    give_up("--dump-kernel is '" + options().dump_kernel + "'; expected a regular expression");
  }
}

/// Whether the options select this launch. Counts the launches of matching kernels.
bool wanted(const std::string& name) {
  static const std::regex pattern = kernel_pattern();
  static std::uint64_t matching = 0;
  if (options().dump.empty() || !std::regex_search(name, pattern)) return false;
  ++matching;
  const std::string at = "," + options().dump_at + ",";
  return at == ",," || at.find("," + std::to_string(matching) + ",") != std::string::npos;
}

/// The function's name without template arguments, as a file name.
std::string short_name(const Program& program) {
  std::string name = program.display_name.substr(0, program.display_name.find_first_of("<("));
  name = name.substr(name.find_last_of(" :") + 1);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name.empty() ? "kernel" : name;
}

std::FILE* create(const std::string& path) {
  std::FILE* f = std::fopen(path.c_str(), "wb");
  if (!f) give_up("cannot write " + path + ": " + std::strerror(errno));
  return f;
}

void write_record(std::FILE* f, std::uint64_t address, const std::uint8_t* data, std::uint64_t bytes) {
  std::fwrite(&address, sizeof address, 1, f);
  std::fwrite(&bytes, sizeof bytes, 1, f);
  std::fwrite(data, 1, bytes, f);
}

/// Calls f(device, allocation) for all memory that the launch may access.
template <class F>
void for_allocations(const Launch& launch, F f) {
  for (Device* d : devices())
    if (d == launch.device || (launch.device->peers >> d->index & 1))
      for (auto& [begin, a] : d->allocations)
        if (!a.freed) f(*d, a);
}

/// Calls f(device, address, bytes) for all pages of allocations within --dump-most.
template <class F>
void for_pages(const Launch& launch, F f) {
  for_allocations(launch, [&](Device& d, const Allocation& a) {
    if (a.bytes > options().dump_most) return;
    for (std::uint64_t at = a.begin; at < a.end(); at += kPage) f(d, at, std::min(kPage, a.end() - at));
  });
}

void write_description(const std::string& path, const Launch& l) {
  std::FILE* f = create(path);
  std::fprintf(f, "{\n  \"kernel\": \"%s\",\n  \"range\": \"%s\",\n  \"launch\": %u,\n  \"arch\": %d,\n", l.program->name.c_str(),
               l.range.c_str(), l.work.number, l.program->arch);
  std::fprintf(f, "  \"grid\": [%u, %u, %u],\n  \"block\": [%u, %u, %u],\n", l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z);
  std::fprintf(f, "  \"dynamic_shared\": %u,\n  \"parameters\": \"", l.dynamic_shared);
  for (const std::uint8_t byte : l.parameters) std::fprintf(f, "%02x", byte);
  std::fprintf(f, "\",\n  \"allocations\": [");
  const char* separator = "\n";
  for_allocations(l, [&](Device&, const Allocation& a) {
    std::fprintf(f, "%s    {\"address\": %llu, \"bytes\": %llu, \"name\": \"%s\"}", separator, static_cast<unsigned long long>(a.begin),
                 static_cast<unsigned long long>(a.bytes), a.name.c_str());
    separator = ",\n";
  });
  std::fprintf(f, "\n  ]\n}\n");
  std::fclose(f);
}

}  // namespace

LaunchDump::LaunchDump(const Launch& launch) : launch_(launch) {
  if (!wanted(launch.program->name)) return;
  char number[16];
  std::snprintf(number, sizeof number, "%06u", launch.work.number);
  folder_ = options().dump + "/" + number + "-" + short_name(*launch.program);
  mkdir(options().dump.c_str(), 0777);
  mkdir(folder_.c_str(), 0777);
  write_description(folder_ + "/launch.json", launch);
  std::FILE* f = create(folder_ + "/before.bin");
  for_pages(launch, [&](Device& d, std::uint64_t at, std::uint64_t bytes) {
    if (!std::memchr(d.init_of(at), 1, bytes)) return;
    write_record(f, at, d.host(at), bytes);
    if (!options().execute) return;
    pages_.push_back({at, bytes, before_.size()});
    before_.insert(before_.end(), d.host(at), d.host(at) + bytes);
  });
  std::fclose(f);
}

void LaunchDump::finish() {
  if (folder_.empty() || !options().execute) return;
  std::FILE* f = create(folder_ + "/after.bin");
  auto page = pages_.begin();
  for_pages(launch_, [&](Device& d, std::uint64_t at, std::uint64_t bytes) {
    const bool known = page != pages_.end() && page->address == at;
    const bool changed =
        known ? std::memcmp(before_.data() + page->at, d.host(at), bytes) != 0 : std::memchr(d.init_of(at), 1, bytes) != nullptr;
    if (known) ++page;
    if (changed) write_record(f, at, d.host(at), bytes);
  });
  std::fclose(f);
}

}  // namespace emu
