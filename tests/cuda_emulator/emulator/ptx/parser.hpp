// PTX text to a syntax tree. The decoder (decoder.hpp) interprets the instructions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace emu {

struct ParseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Operand {
  enum Kind { kRegister, kImmediate, kSymbol, kAddress, kVector, kList, kSink };
  Kind kind = kSink;
  std::string name;  // register or symbol; kAddress: the base, or empty
  bool base_is_symbol = false;
  bool negated = false;        // !%p
  std::uint64_t bits = 0;      // kImmediate: the integer or the float's bits
  char number = 'i';           // kImmediate: 'i' integer, 'f' float, 'd' double
  std::int64_t offset = 0;     // kAddress, kSymbol
  std::vector<Operand> parts;  // kVector, kList; kRegister: the second register of %a|%b
};

/// A source line, and the line into which it was inlined.
struct Location {
  int file = 0, line = 0;
  int inlined_file = 0, inlined_line = 0;
};

struct Statement {
  std::string opcode;              // "ld.global.v4.f32"; empty for a label
  std::vector<std::string> parts;  // the opcode, split at its dots
  std::string guard;               // predicate register; empty: none
  bool guard_negated = false;
  std::vector<Operand> operands;
  std::string label;
  int line = 0;  // in the PTX
  Location location;
};

struct Variable {
  std::string name;
  std::string space;  // "param", "shared", "local", "global", "const"
  std::string type;   // "b8", "f32", ...
  std::int64_t align = 0, count = 1, bytes = 0;
  bool is_extern = false;
  std::vector<std::uint8_t> data;  // initial value; empty: none
  struct Patch {
    std::int64_t at;
    std::string symbol;
    std::int64_t offset;
  };
  std::vector<Patch> patches;  // addresses of other variables, stored in `data`
};

struct Function {
  std::string name;
  bool is_entry = false, has_body = false;
  std::vector<Variable> parameters, results, variables;  // variables: .shared, .local and .param of the body
  std::map<std::string, std::string> registers;          // type by name
  std::vector<Statement> body;
  int max_threads = 0;  // product of .maxntid or .reqntid; 0: none
};

struct Module {
  std::string target;  // "sm_90"
  std::map<std::string, Function> functions;
  std::vector<Variable> variables;
  std::map<int, std::string> files;
};

/// Bytes of a type: 4 for "f32". Throws ParseError.
int size_of_type(const std::string& type);

/// Parses a module. Throws ParseError, which names the line.
Module parse_ptx(const std::string& text);

}  // namespace emu
