#include "runtime/ranges.hpp"

#include <utility>
#include <vector>

#include "runtime/state.hpp"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define EMU_NVTX 1
#else
#define EMU_NVTX 0
#endif

namespace emu {
namespace {

thread_local std::vector<std::string> open_ranges;

/// The ranges opened by any thread since the last emu_take_ranges().
struct Record {
  bool wanted = false;
  std::string names;
};
Record& record() {
  static auto* r = new Record;
  return *r;
}

#if EMU_NVTX
int push(const char* name) {
  open_ranges.emplace_back(name ? name : "");
  Lock lock;
  if (record().wanted) record().names += open_ranges.back() + "\n";
  return static_cast<int>(open_ranges.size()) - 1;
}
int pop() {
  if (open_ranges.empty()) return NVTX_NO_PUSH_POP_TRACKING;
  open_ranges.pop_back();
  return static_cast<int>(open_ranges.size());
}
#endif

}  // namespace

std::string current_range() { return open_ranges.empty() ? std::string() : open_ranges.back(); }

}  // namespace emu

using namespace emu;

extern "C" {

#if EMU_NVTX
/// NVTX, a header in the program, calls this function in the library that NVTX_INJECTION64_PATH names. Installs push() and pop() in the
/// program's function table. Returns 1 on success.
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned count = 0;
  if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &count) || count <= NVTX_CBID_CORE_RangePop)
    return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}
#endif

/// The names of the ranges opened since the last call, each followed by a newline. Recording starts with the first call. Null: the toolkit
/// has no NVTX.
const char* emu_take_ranges() {
  if (!EMU_NVTX) return nullptr;
  static thread_local std::string taken;
  Lock lock;
  taken = std::move(record().names);
  record() = {true, ""};
  return taken.c_str();
}

}  // extern "C"
