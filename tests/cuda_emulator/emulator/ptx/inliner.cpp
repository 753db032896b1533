#include "ptx/inliner.hpp"

#include <algorithm>

namespace emu {
namespace {

class Inliner {
 public:
  explicit Inliner(const Module& module) : module_(module) {}

  Function run(const Function& f) {
    Function out = f;
    out.body.clear();
    expand(f, "", out, {}, "", 0);
    return out;
  }

 private:
  using Names = std::map<std::string, std::string>;

  void rename(Operand& o, const Names& names) {
    const auto found = names.find(o.name);
    if (found != names.end()) o.name = found->second;
    for (auto& part : o.parts) rename(part, names);
  }

  void expand(const Function& f, const std::string& prefix, Function& out, Names names, const std::string& end, int depth) {
    if (depth > 32) throw ParseError("function " + f.name + ": calls nest too deeply; recursion is not emulated");
    if (depth > 0) {
      for (const auto& [name, type] : f.registers) {
        names.try_emplace(name, prefix + name);
        out.registers[names[name]] = type;
      }
      for (Variable v : f.variables) {
        names[v.name] = prefix + v.name;
        if (v.space == "shared") names[v.name] = v.name;  // shared by all calls
        v.name = names[v.name];
        if (v.space != "shared" || std::none_of(out.variables.begin(), out.variables.end(), [&](auto& w) { return w.name == v.name; }))
          out.variables.push_back(v);
      }
    }
    Names labels;
    for (const auto& s : f.body)
      if (!s.label.empty()) labels[s.label] = prefix + s.label;
    for (Statement s : f.body) {
      if (!s.label.empty()) {
        s.label = labels[s.label];
      } else if (s.parts[0] == "call") {
        call(s, prefix, out, names, depth);
        continue;
      } else {
        const bool branch = s.parts[0] == "bra";
        for (auto& o : s.operands) rename(o, branch ? labels : names);
        const auto guard = names.find(s.guard);
        if (guard != names.end()) s.guard = guard->second;
        if (depth > 0 && s.parts[0] == "ret") {
          s.opcode = "bra";
          s.parts = {"bra"};
          Operand o;
          o.kind = Operand::kSymbol;
          o.name = end;
          s.operands = {o};
        }
      }
      out.body.push_back(std::move(s));
    }
  }

  void call(const Statement& s, const std::string& prefix, Function& out, const Names& names, int depth) {
    std::vector<const Operand*> lists;
    std::string callee;
    for (const auto& o : s.operands) {
      if (o.kind == Operand::kList)
        lists.push_back(&o);
      else if (callee.empty())
        callee = o.name;
    }
    const auto found = module_.functions.find(callee);
    if (found == module_.functions.end())
      throw ParseError("PTX line " + std::to_string(s.line) + ": call of '" + callee + "', which is not a function of the module");
    if (!s.guard.empty()) throw ParseError("PTX line " + std::to_string(s.line) + ": predicated calls are not emulated");
    const Function& f = found->second;
    if (!f.has_body) {  // provided by the driver: vprintf, __assertfail, malloc
      Statement t = s;
      t.opcode = "system_call." + callee;
      t.parts = {"system_call", callee};
      t.operands.clear();
      for (const Operand* list : lists)
        for (Operand o : list->parts) {
          rename(o, names);
          t.operands.push_back(o);
        }
      out.body.push_back(std::move(t));
      return;
    }
    const std::string inner = prefix + f.name + "#" + std::to_string(++calls_) + ".";
    Names arguments;
    std::size_t list = 0;
    const auto bind = [&](const std::vector<Variable>& formal) {
      if (formal.empty()) return;
      if (list >= lists.size()) throw ParseError("PTX line " + std::to_string(s.line) + ": call with too few argument lists");
      const auto& actual = lists[list++]->parts;
      for (std::size_t i = 0; i < formal.size(); ++i) {
        Operand o = actual.at(i);
        rename(o, names);
        arguments[formal[i].name] = o.name;
      }
    };
    bind(f.results);
    bind(f.parameters);
    const std::string end = inner + "end";
    expand(f, inner, out, arguments, end, depth + 1);
    Statement label;
    label.label = end;
    label.line = s.line;
    label.location = s.location;
    out.body.push_back(label);
  }

  const Module& module_;
  int calls_ = 0;
};

}  // namespace

Function inlined(const Module& module, const Function& function) { return Inliner(module).run(function); }

}  // namespace emu
