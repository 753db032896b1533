#include "ptx/program.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "ptx/control_flow.hpp"
#include "ptx/decoder.hpp"
#include "ptx/inliner.hpp"
#include "ptx/registers.hpp"

namespace emu {
namespace {

void erase_all(std::string& s, const std::string& word) {
  for (std::size_t at; (at = s.find(word)) != std::string::npos;) s.erase(at, word.size());
}

std::string display_name_of(const std::string& mangled) {
  int status = 0;
  char* demangled = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string s = status == 0 ? demangled : mangled;
  std::free(demangled);
  // nvcc's name for an anonymous namespace
  for (std::size_t at; (at = s.find("_GLOBAL__N__")) != std::string::npos;) {
    const std::size_t end = s.find("::", at);
    s.erase(at, end == std::string::npos ? std::string::npos : end + 2 - at);
  }
  erase_all(s, "pyalexnet::");
  erase_all(s, "(anonymous namespace)::");
  if (s.compare(0, 5, "void ") == 0) s.erase(0, 5);
  int depth = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '<') ++depth;
    if (s[i] == '>') --depth;
    if (s[i] == '(' && depth == 0) return s.substr(0, i);
  }
  return s;
}

std::uint64_t aligned(std::uint64_t n, std::int64_t to) {
  const auto a = static_cast<std::uint64_t>(to);
  return (n + a - 1) / a * a;
}

bool is_wide_special(const std::string& name) { return name == "%clock64" || name == "%globaltimer" || name == "%gridid"; }
bool is_known_special(const std::string& name) {
  static const std::set<std::string> known = {"%tid",
                                              "%tid.x",
                                              "%tid.y",
                                              "%tid.z",
                                              "%ntid",
                                              "%ntid.x",
                                              "%ntid.y",
                                              "%ntid.z",
                                              "%ctaid.x",
                                              "%ctaid.y",
                                              "%ctaid.z",
                                              "%nctaid.x",
                                              "%nctaid.y",
                                              "%nctaid.z",
                                              "%laneid",
                                              "%warpid",
                                              "%nwarpid",
                                              "%smid",
                                              "%nsmid",
                                              "%gridid",
                                              "%lanemask_eq",
                                              "%lanemask_lt",
                                              "%lanemask_le",
                                              "%lanemask_gt",
                                              "%lanemask_ge",
                                              "%clock",
                                              "%clock_hi",
                                              "%clock64",
                                              "%globaltimer",
                                              "%dynamic_smem_size",
                                              "%total_smem_size",
                                              "%is_explicit_cluster",
                                              "%cluster_ctaid.x",
                                              "%cluster_ctaid.y",
                                              "%cluster_ctaid.z",
                                              "%cluster_nctaid.x",
                                              "%cluster_nctaid.y",
                                              "%cluster_nctaid.z",
                                              "%cluster_ctarank",
                                              "%cluster_nctarank"};
  return known.count(name) != 0;
}

/// Builds a Program from a function whose calls have been inlined.
class Builder {
 public:
  Builder(const Module& module, const Function& function, const Addresses& addresses)
      : module_(module), f_(function), symbols_(addresses.begin(), addresses.end()) {
    p_.name = f_.name;
    p_.display_name = display_name_of(f_.name);
    p_.files = module.files;
    p_.max_threads = f_.max_threads;
    p_.arch = std::atoi(module.target.c_str() + module.target.find('_') + 1);
  }

  Program run() {
    place_parameters();
    place_variables();
    name_registers();
    for (const auto& s : f_.body) instruction(s);
    add_exit();
    connect();
    return std::move(p_);
  }

 private:
  // --- memory ---

  void place_parameters() {
    std::uint64_t at = 0;
    for (const auto& v : f_.parameters) {
      at = aligned(at, v.align);
      symbols_[v.name] = at;
      p_.parameters.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(v.bytes)});
      at += static_cast<std::uint64_t>(v.bytes);
    }
    p_.parameter_bytes = static_cast<std::uint32_t>(at);
  }

  /// Calls f(operand) for every operand and every element of an operand.
  template <class F>
  void for_operands(F f) {
    for (const auto& s : f_.body)
      for (const auto& o : s.operands) {
        f(o);
        for (const auto& part : o.parts) f(part);
      }
  }

  void place_variables() {
    std::set<std::string> used;
    for_operands([&](const Operand& o) { used.insert(o.name); });
    std::uint64_t shared = kFirstShared, local = kFirstLocal;
    std::vector<std::string> dynamic;
    const auto place = [&](const Variable& v) {
      if (v.space == "shared") {
        if (!used.count(v.name)) return;
        if (v.is_extern || v.bytes == 0) {
          dynamic.push_back(v.name);
          p_.dynamic_align = std::max(p_.dynamic_align, static_cast<std::uint32_t>(v.align));
          return;
        }
        shared = aligned(shared, v.align);
        symbols_[v.name] = shared;
        shared += static_cast<std::uint64_t>(v.bytes);
      } else if (v.space == "local" || v.space == "param") {  // .param in a body: call parameters
        local = aligned(local, v.align);
        symbols_[v.name] = v.space == "param" ? kLocalWindow + local : local;
        local += static_cast<std::uint64_t>(v.bytes);
      }
    };
    for (const auto& v : module_.variables) place(v);
    for (const auto& v : f_.variables) place(v);
    p_.static_shared = static_cast<std::uint32_t>(shared - kFirstShared);
    p_.local_bytes = static_cast<std::uint32_t>(local - kFirstLocal);
    // Dynamic shared memory gets exactly its declared alignment, which catches code that needs more.
    std::uint64_t begin = aligned(shared, p_.dynamic_align);
    if (begin % (2 * p_.dynamic_align) == 0) begin += p_.dynamic_align;
    p_.shared_begin = static_cast<std::uint32_t>(begin);
    for (const auto& name : dynamic) symbols_[name] = begin;
  }

  // --- registers ---

  std::uint32_t add_register(const std::string& name, RegisterClass cls) {
    const auto number = static_cast<std::uint32_t>(classes_.size());
    registers_[name] = {number, cls};
    classes_.push_back(cls);
    return number;
  }

  void name_registers() {
    for (const auto& [name, type] : f_.registers) {
      if (type == "b128") throw ParseError("128-bit registers are not emulated");
      add_register(name, type == "pred" ? RegisterClass::kPredicate : size_of_type(type) == 8 ? RegisterClass::k64 : RegisterClass::k32);
    }
    for_operands([&](const Operand& o) {
      if (o.kind != Operand::kRegister || registers_.count(o.name)) return;
      if (!is_known_special(o.name)) throw ParseError("special register '" + o.name + "' is not emulated");
      const bool wide = is_wide_special(o.name);
      const std::uint32_t number = add_register(o.name, wide ? RegisterClass::k64 : RegisterClass::k32);
      permanent_.insert(number);
      p_.specials.push_back({o.name, static_cast<Ref>(number) << 1, wide});
    });
  }

  // --- instructions ---

  void instruction(const Statement& s) {
    if (!s.label.empty()) {
      labels_[s.label] = static_cast<int>(p_.ops.size());
      return;
    }
    const auto found = instructions().find(s.parts[0]);
    if (found == instructions().end())
      throw ParseError("PTX line " + std::to_string(s.line) + ": instruction '" + s.opcode + "' is not emulated");
    Decoder d(p_, s);
    d.registers = &registers_;
    d.symbols = &symbols_;
    d.constants = &constants_;
    d.classes = &classes_;
    found->second(d);
    for (std::size_t i = 0; i < d.taken.size(); ++i)
      if (!d.taken[i]) d.fail("modifier ." + s.parts[i] + " is not emulated");
    if (!s.guard.empty()) {
      const auto guard = registers_.find(s.guard);
      if (guard == registers_.end()) d.fail("unknown predicate '" + s.guard + "'");
      d.op.guard = static_cast<std::int32_t>(guard->second.first << 1);
      d.op.guard_negated = s.guard_negated;
    }
    if (d.op.control == Control::kBranch) branches_.push_back({p_.ops.size(), s.operands.at(0).name});
    d.op.number = static_cast<std::uint32_t>(p_.ops.size());
    d.op.statement = static_cast<std::uint32_t>(p_.statements.size());
    d.op.first_ref = static_cast<std::uint32_t>(p_.refs.size());
    p_.refs.insert(p_.refs.end(), d.refs.begin(), d.refs.end());
    p_.ops.push_back(d.op);
    p_.statements.push_back(s);
  }

  /// A body may end without ret, or with a label.
  void add_exit() {
    Statement ret;
    ret.opcode = "ret";
    ret.parts = {"ret"};
    instruction(ret);
  }

  /// Branch targets, reconvergence, registers.
  void connect() {
    for (const auto& [op, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) throw ParseError("unknown label '" + label + "'");
      p_.ops[op].target = found->second;
    }
    const auto blocks = blocks_of(p_.ops);
    const auto dominators = post_dominators(blocks);
    const int exit = static_cast<int>(blocks.size()) - 1;
    for (int b = 0; b < exit; ++b) {
      Op& last = p_.ops[blocks[b].end - 1];
      if (last.control != Control::kBranch || dominators[b] < 0 || dominators[b] == exit) continue;
      // Lanes that are about to exit do not wait for the others: machine code has EXIT there.
      const int meet = blocks[dominators[b]].begin;
      if (p_.ops[meet].control != Control::kExit || p_.ops[meet].guard >= 0) last.reconverge = meet;
    }
    allocate_registers(p_, blocks, classes_, permanent_);
    for (auto& op : p_.ops) op.o = p_.refs.data() + op.first_ref;
  }

  const Module& module_;
  const Function& f_;
  Program p_;
  std::map<std::string, std::uint64_t> symbols_;
  std::map<std::string, std::pair<std::uint32_t, RegisterClass>> registers_;
  std::vector<RegisterClass> classes_;
  std::set<std::uint32_t> permanent_;
  std::map<std::pair<std::uint64_t, bool>, Ref> constants_;
  std::map<std::string, int> labels_;
  std::vector<std::pair<std::size_t, std::string>> branches_;  // op, label
};

}  // namespace

Program decode(const Module& module, const Function& function, const Addresses& addresses) {
  const Function f = inlined(module, function);
  return Builder(module, f, addresses).run();
}

}  // namespace emu
