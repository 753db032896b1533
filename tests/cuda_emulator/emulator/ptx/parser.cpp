#include "ptx/parser.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#include "ptx/lexer.hpp"

namespace emu {
namespace {

std::vector<std::string> split_at_dots(const std::string& s) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  for (;;) {
    const std::size_t to = s.find('.', from);
    parts.push_back(s.substr(from, to == std::string::npos ? to : to - from));
    if (to == std::string::npos) return parts;
    from = to + 1;
  }
}

class Parser {
 public:
  explicit Parser(const std::string& text) : tokens_(tokens_of(text)) {}

  Module run() {
    while (peek().kind != Token::kEnd) top_level();
    return std::move(module_);
  }

 private:
  const Token& peek(int ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool is(const char* text, int ahead = 0) const { return peek(ahead).text == text && peek(ahead).kind != Token::kString; }
  bool accept(const char* text) {
    if (!is(text)) return false;
    next();
    return true;
  }
  void expect(const char* text) {
    if (!accept(text)) fail(std::string("expected '") + text + "', found '" + peek().text + "'");
  }
  [[noreturn]] void fail(const std::string& what) const { throw ParseError("PTX line " + std::to_string(peek().line) + ": " + what); }
  std::string word() {
    if (peek().kind != Token::kWord) fail("expected a name, found '" + peek().text + "'");
    return next().text;
  }

  std::int64_t integer() {
    const bool minus = accept("-");
    if (peek().kind != Token::kNumber) fail("expected a number, found '" + peek().text + "'");
    const auto v = static_cast<std::int64_t>(std::strtoull(next().text.c_str(), nullptr, 0));
    return minus ? -v : v;
  }

  Operand number() {
    Operand o;
    o.kind = Operand::kImmediate;
    const bool minus = accept("-");
    const std::string t = next().text;
    if (t.size() > 2 && t[0] == '0' && (t[1] == 'f' || t[1] == 'F' || t[1] == 'd' || t[1] == 'D')) {
      o.number = static_cast<char>(std::tolower(t[1]));
      o.bits = std::strtoull(t.c_str() + 2, nullptr, 16);
      if (minus) o.bits ^= o.number == 'f' ? 0x80000000ull : 1ull << 63;
    } else if (t.find('.') != std::string::npos || (t.find_first_of("eE") != std::string::npos && t.compare(0, 2, "0x") != 0)) {
      const double v = minus ? -std::strtod(t.c_str(), nullptr) : std::strtod(t.c_str(), nullptr);
      o.number = 'd';
      std::memcpy(&o.bits, &v, 8);
    } else {
      o.bits = std::strtoull(t.c_str(), nullptr, 0);
      if (minus) o.bits = 0 - o.bits;
    }
    return o;
  }

  Operand operand() {
    Operand o;
    if (accept("!")) {
      o = operand();
      o.negated = true;
      return o;
    }
    if (accept("[")) {
      o.kind = Operand::kAddress;
      if (peek().kind == Token::kWord) {
        o.name = resolve(word());
        o.base_is_symbol = function_ == nullptr || !function_->registers.count(o.name);
        while (is("+") || is("-")) {
          const bool minus = next().text == "-";
          const std::int64_t v = integer();
          o.offset += minus ? -v : v;
        }
        // [a, {b, c}]: a tensor map with coordinates
        while (accept(",")) o.parts.push_back(operand());
      } else {
        o.offset = integer();
      }
      expect("]");
      return o;
    }
    if (accept("{")) {
      o.kind = Operand::kVector;
      do o.parts.push_back(operand());
      while (accept(","));
      expect("}");
      return o;
    }
    if (accept("(")) {
      o.kind = Operand::kList;
      if (!is(")")) do
          o.parts.push_back(operand());
        while (accept(","));
      expect(")");
      return o;
    }
    if (peek().kind == Token::kNumber || is("-")) return number();
    const std::string name = word();
    if (name == "_") {  // a discarded result
      if (accept("|")) o.parts.push_back(operand());
      return o;
    }
    if (name == "WARP_SZ") {
      o.kind = Operand::kImmediate;
      o.bits = 32;
      return o;
    }
    o.name = resolve(name);
    const bool is_register = name[0] == '%' || (function_ != nullptr && function_->registers.count(o.name));
    o.kind = is_register ? Operand::kRegister : Operand::kSymbol;
    if (accept("|")) {
      o.parts.push_back(operand());
    } else if (!is_register && (is("+") || is("-")) && peek(1).kind == Token::kNumber) {
      const bool minus = next().text == "-";
      const std::int64_t v = integer();
      o.offset = minus ? -v : v;
    }
    return o;
  }

  // --- names: a block { } within a body has its own scope ---

  std::string resolve(const std::string& name) const {
    for (std::size_t i = scopes_.size(); i-- > 0;) {
      const auto found = scopes_[i].find(name);
      if (found != scopes_[i].end()) return found->second;
    }
    return name;
  }
  std::string declare(const std::string& name) {
    if (scopes_.size() <= 1) return name;
    return scopes_.back()[name] = name + "@" + std::to_string(++scope_names_);
  }

  // --- declarations ---

  /// The rest of a declaration after its state space, as in .align 8 .b8 name[24].
  Variable variable(const std::string& space) {
    Variable v;
    v.space = space;
    for (;;) {
      if (accept(".align")) {
        v.align = integer();
      } else if (accept(".ptr")) {
        for (const char* s : {".global", ".shared", ".const", ".local"}) accept(s);
      } else if (accept(".v2")) {
        v.count *= 2;
      } else if (accept(".v4")) {
        v.count *= 4;
      } else if (accept(".attribute")) {
        expect("(");
        while (!accept(")")) next();
      } else if (peek().kind == Token::kWord && peek().text[0] == '.') {
        v.type = word().substr(1);
      } else {
        break;
      }
    }
    v.name = word();
    if (v.align == 0) v.align = size_of_type(v.type);
    while (accept("[")) {
      if (is("]"))
        v.count = 0;
      else
        v.count *= integer();
      expect("]");
    }
    v.bytes = v.count * size_of_type(v.type);
    if (accept("=")) initial_value(v);
    return v;
  }

  void initial_value(Variable& v) {
    const int size = size_of_type(v.type);
    v.data.assign(static_cast<std::size_t>(v.bytes), 0);
    std::int64_t at = 0;
    value_or_list(v, at, size);
    if (v.bytes == 0) {
      v.bytes = at;
      v.count = at / size;
    }
  }
  void value_or_list(Variable& v, std::int64_t& at, int size) {
    if (accept("{")) {
      while (!accept("}")) {
        value_or_list(v, at, size);
        accept(",");
      }
      return;
    }
    if (static_cast<std::int64_t>(v.data.size()) < at + size) v.data.resize(static_cast<std::size_t>(at + size));
    if (peek().kind == Token::kWord) {  // address of another variable: name, name+4 or generic(name)
      std::string name = word();
      if (name == "generic" && accept("(")) {
        name = word();
        expect(")");
      }
      std::int64_t offset = 0;
      if (accept("+")) offset = integer();
      v.patches.push_back({at, name, offset});
    } else {
      const Operand o = number();
      std::uint64_t bits = o.bits;
      if (o.number == 'd' && size == 4) {
        double d;
        std::memcpy(&d, &bits, 8);
        const auto f = static_cast<float>(d);
        bits = 0;
        std::memcpy(&bits, &f, 4);
      }
      std::memcpy(v.data.data() + at, &bits, static_cast<std::size_t>(size));
    }
    at += size;
  }

  void top_level() {
    if (accept(".version")) {
      next();
    } else if (accept(".target")) {
      module_.target = word();
      while (accept(",")) word();
    } else if (accept(".address_size")) {
      next();
    } else if (accept(".file")) {
      const auto number = static_cast<int>(integer());
      module_.files[number] = next().text;
      while (accept(",")) next();
    } else if (accept(".section")) {
      while (!accept("{")) next();
      while (!accept("}")) next();
    } else {
      bool is_extern = false;
      for (;;) {
        if (accept(".extern"))
          is_extern = true;
        else if (!accept(".visible") && !accept(".weak") && !accept(".common"))
          break;
      }
      if (is(".entry") || is(".func")) return function();
      for (const char* space : {"global", "shared", "const"})
        if (accept((std::string(".") + space).c_str())) {
          Variable v = variable(space);
          v.is_extern = is_extern;
          module_.variables.push_back(std::move(v));
          expect(";");
          return;
        }
      if (is(".alias") || is(".pragma")) {
        while (!accept(";")) next();
        return;
      }
      fail("unknown directive '" + peek().text + "'");
    }
  }

  void parameters(std::vector<Variable>& into) {
    expect("(");
    while (!accept(")")) {
      if (accept(".param"))
        into.push_back(variable("param"));
      else if (accept(".reg"))
        into.push_back(variable("reg"));
      else
        fail("expected a parameter, found '" + peek().text + "'");
      accept(",");
    }
  }

  void function() {
    Function f;
    f.is_entry = next().text == ".entry";
    if (!f.is_entry && is("(")) parameters(f.results);
    f.name = word();
    if (is("(")) parameters(f.parameters);
    for (;;) {
      if (accept(".maxntid") || accept(".reqntid")) {
        f.max_threads = static_cast<int>(integer());
        while (accept(",")) f.max_threads *= static_cast<int>(integer());
      } else if (accept(".minnctapersm") || accept(".maxnreg") || accept(".maxclusterrank")) {
        integer();
      } else if (accept(".reqnctapercluster")) {
        integer();
        while (accept(",")) integer();
      } else if (accept(".noreturn") || accept(".explicitcluster") || accept(".blocksareclusters")) {
      } else if (accept(".pragma")) {
        while (!accept(";")) next();
      } else {
        break;
      }
    }
    if (accept(";")) {
      module_.functions.emplace(f.name, std::move(f));
      return;
    }
    f.has_body = true;
    for (auto* list : {&f.parameters, &f.results})
      for (auto& v : *list)
        if (v.space == "reg") f.registers[v.name] = v.type;
    function_ = &f;
    scopes_.assign(1, {});
    location_ = {};
    expect("{");
    while (!scopes_.empty()) statement();
    function_ = nullptr;
    module_.functions[f.name] = std::move(f);
  }

  void registers() {
    const std::string type = word().substr(1);
    do {
      const std::string name = word();
      if (accept("<")) {
        const std::int64_t count = integer();
        expect(">");
        for (std::int64_t i = 0; i < count; ++i) {
          const std::string each = name + std::to_string(i);
          function_->registers[declare(each)] = type;
        }
      } else {
        function_->registers[declare(name)] = type;
      }
    } while (accept(","));
    expect(";");
  }

  void location() {
    const int line = peek().line;
    next();
    Location l;
    l.file = static_cast<int>(integer());
    l.line = static_cast<int>(integer());
    while (peek().line == line && peek().kind != Token::kEnd) {
      if (accept("inlined_at")) {
        l.inlined_file = static_cast<int>(integer());
        l.inlined_line = static_cast<int>(integer());
      } else {
        next();
      }
    }
    location_ = l;
  }

  void statement() {
    if (accept("}")) {
      scopes_.pop_back();
    } else if (accept("{")) {
      scopes_.emplace_back();
    } else if (is(".loc")) {
      location();
    } else if (accept(".reg")) {
      registers();
    } else if (accept(".pragma")) {
      while (!accept(";")) next();
    } else if (is(".branchtargets") || is(".calltargets") || is(".callprototype")) {
      while (!accept(";")) next();
    } else if (is(".shared") || is(".local") || is(".param") || is(".const") || is(".global")) {
      const std::string space = word().substr(1);
      Variable v = variable(space);
      v.name = declare(v.name);
      expect(";");
      function_->variables.push_back(std::move(v));
    } else if (peek().kind == Token::kWord && is(":", 1)) {
      Statement s;
      s.line = peek().line;
      s.location = location_;
      s.label = word();
      next();
      function_->body.push_back(std::move(s));
    } else {
      instruction();
    }
  }

  void instruction() {
    Statement s;
    s.line = peek().line;
    s.location = location_;
    if (accept("@")) {
      s.guard_negated = accept("!");
      s.guard = resolve(word());
    }
    s.opcode = word();
    s.parts = split_at_dots(s.opcode);
    while (!accept(";")) {
      if (peek().kind == Token::kEnd) fail("unexpected end of text in an instruction");
      s.operands.push_back(operand());
      accept(",");
    }
    function_->body.push_back(std::move(s));
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  Module module_;
  Function* function_ = nullptr;
  std::vector<std::map<std::string, std::string>> scopes_;
  int scope_names_ = 0;
  Location location_;
};

}  // namespace

int size_of_type(const std::string& type) {
  if (type == "pred") return 1;
  if (type == "bf16x2" || type == "f16x2" || type == "tf32") return 4;
  const std::size_t digits = type.find_first_of("0123456789");
  if (digits == std::string::npos) throw ParseError("unknown type ." + type);
  return std::atoi(type.c_str() + digits) / 8;
}

Module parse_ptx(const std::string& text) { return Parser(text).run(); }

}  // namespace emu
