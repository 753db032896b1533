// Decoding of one instruction: modifiers and operands.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ptx/program.hpp"

namespace emu {

/// Input and output of an instruction's decode function. Parts of the opcode that the function does not consume are an error.
class Decoder {
 public:
  Decoder(Program& program, const Statement& statement) : program(program), s(statement), taken(statement.parts.size(), false) {
    taken[0] = true;
  }
  Program& program;
  const Statement& s;
  Op op;
  std::vector<Ref> refs;

  [[noreturn]] void fail(const std::string& what) const;
  /// Consumes the modifier if the opcode has it; returns whether it does.
  bool take(const char* name);
  /// Consumes the first of the modifiers that the opcode has and returns its index; -1: none.
  int take_one(std::initializer_list<const char*> names);
  /// Consumes the first remaining type.
  Type take_type();
  void expect_operands(std::size_t count) const;

  // These append an operand. Results come before sources.
  void write(const Operand& operand, Type type);
  void write_predicate(const Operand& operand);
  void read(const Operand& operand, Type type);
  void read_value(std::uint64_t bits, bool wide);
  void read_predicate(const Operand& operand);  // a negation sets the operand's bit in `negated`
  void address(const Operand& operand);         // the base; sets op.offset
  std::uint32_t negated = 0;

  // Set by decode().
  const std::map<std::string, std::pair<std::uint32_t, RegisterClass>>* registers = nullptr;
  const std::map<std::string, std::uint64_t>* symbols = nullptr;
  std::map<std::pair<std::uint64_t, bool>, Ref>* constants = nullptr;
  std::vector<RegisterClass>* classes = nullptr;

  std::vector<bool> taken;  // by part of the opcode

 private:
  Ref constant(std::uint64_t bits, bool wide);
  Ref register_of(const std::string& name, RegisterClass& cls);
  void push(Ref ref, bool wide, bool written);
  void write_sink(bool wide);
};

/// Decode functions by the first part of the opcode.
using Decode = void (*)(Decoder&);
using InstructionTable = std::map<std::string, Decode>;
const InstructionTable& instructions();

}  // namespace emu
