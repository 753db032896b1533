#include "ptx/decoder.hpp"

#include <cstring>

#include "instructions/tables.hpp"

namespace emu {

const char* const kClassNames[] = {"fma",     "float",     "special",   "integer",   "convert",   "move",
                                   "control", "ld.global", "st.global", "ld.shared", "st.shared", "other memory",
                                   "atomic",  "barrier",   "warp",      "cp.async",  "mma"};

Type type_of(const std::string& n) {
  static const std::map<std::string, Type> types = {
      {"pred", Type::kPred},   {"u8", Type::kU8},         {"s8", Type::kS8},     {"b8", Type::kB8},   {"u16", Type::kU16},
      {"s16", Type::kS16},     {"b16", Type::kB16},       {"u32", Type::kU32},   {"s32", Type::kS32}, {"b32", Type::kB32},
      {"u64", Type::kU64},     {"s64", Type::kS64},       {"b64", Type::kB64},   {"f16", Type::kF16}, {"bf16", Type::kBF16},
      {"f16x2", Type::kF16x2}, {"bf16x2", Type::kBF16x2}, {"tf32", Type::kTF32}, {"f32", Type::kF32}, {"f64", Type::kF64},
      {"b128", Type::kB128}};
  const auto found = types.find(n);
  return found == types.end() ? Type::kNone : found->second;
}
int bytes_of(Type t) {
  switch (t) {
    case Type::kNone:
      return 0;
    case Type::kPred:
    case Type::kU8:
    case Type::kS8:
    case Type::kB8:
      return 1;
    case Type::kU16:
    case Type::kS16:
    case Type::kB16:
    case Type::kF16:
    case Type::kBF16:
      return 2;
    case Type::kU64:
    case Type::kS64:
    case Type::kB64:
    case Type::kF64:
      return 8;
    case Type::kB128:
      return 16;
    default:
      return 4;
  }
}
bool is_signed(Type t) { return t == Type::kS8 || t == Type::kS16 || t == Type::kS32 || t == Type::kS64; }
bool is_float(Type t) { return t >= Type::kF16; }

void Decoder::fail(const std::string& what) const {
  throw ParseError("PTX line " + std::to_string(s.line) + ": " + s.opcode + ": " + what);
}
bool Decoder::take(const char* name) {
  for (std::size_t i = 1; i < s.parts.size(); ++i)
    if (!taken[i] && s.parts[i] == name) return taken[i] = true;
  return false;
}
int Decoder::take_one(std::initializer_list<const char*> names) {
  int i = 0;
  for (const char* name : names) {
    if (take(name)) return i;
    ++i;
  }
  return -1;
}
Type Decoder::take_type() {
  for (std::size_t i = 1; i < s.parts.size(); ++i)
    if (!taken[i] && type_of(s.parts[i]) != Type::kNone) {
      taken[i] = true;
      return type_of(s.parts[i]);
    }
  fail("has no type");
}
void Decoder::expect_operands(std::size_t count) const {
  if (s.operands.size() != count) fail("has " + std::to_string(s.operands.size()) + " operands; expected " + std::to_string(count));
}

Ref Decoder::constant(std::uint64_t bits, bool wide) {
  if (!wide) bits &= 0xffffffffu;
  const auto [entry, is_new] = constants->try_emplace({bits, wide}, static_cast<Ref>(program.constants.size() | 1));
  if (is_new) {
    const std::size_t at = program.constants.size(), size = wide ? 8 : 4;
    program.constants.resize(at + kLanes * size);
    for (int lane = 0; lane < kLanes; ++lane) std::memcpy(program.constants.data() + at + lane * size, &bits, size);
  }
  return entry->second;
}
Ref Decoder::register_of(const std::string& name, RegisterClass& cls) {
  const auto found = registers->find(name);
  if (found == registers->end()) fail("unknown register '" + name + "'");
  cls = found->second.second;
  return found->second.first << 1;
}
void Decoder::push(Ref ref, bool wide, bool written) {
  if (written && op.reads) fail("internal error: results must come before sources");
  if (wide) op.wide |= 1ull << refs.size();
  refs.push_back(ref);
  ++(written ? op.writes : op.reads);
}
void Decoder::write_sink(bool wide) {
  // A register that no instruction reads.
  classes->push_back(wide ? RegisterClass::k64 : RegisterClass::k32);
  push(static_cast<Ref>(classes->size() - 1) << 1, wide, true);
}
void Decoder::write(const Operand& o, Type type) {
  if (o.kind == Operand::kSink) return write_sink(bytes_of(type) == 8);
  if (o.kind != Operand::kRegister) fail("expected a register as the result");
  RegisterClass cls;
  const Ref ref = register_of(o.name, cls);
  if (cls == RegisterClass::kPredicate) fail("'" + o.name + "' is a predicate; expected a data register");
  push(ref, cls == RegisterClass::k64, true);
}
void Decoder::read_value(std::uint64_t bits, bool wide) { push(constant(bits, wide), wide, false); }
void Decoder::read(const Operand& o, Type type) {
  if (o.kind == Operand::kRegister) {
    RegisterClass cls;
    const Ref ref = register_of(o.name, cls);
    if (cls == RegisterClass::kPredicate) fail("'" + o.name + "' is a predicate; expected a data register");
    return push(ref, cls == RegisterClass::k64, false);
  }
  const bool wide = bytes_of(type) == 8;
  if (o.kind == Operand::kSymbol) {
    const auto found = symbols->find(o.name);
    if (found == symbols->end()) fail("unknown name '" + o.name + "'");
    return push(constant(found->second + static_cast<std::uint64_t>(o.offset), wide), wide, false);
  }
  if (o.kind != Operand::kImmediate) fail("expected a register or a number");
  std::uint64_t bits = o.bits;
  if (type == Type::kF32 && o.number == 'd') {
    double d;
    std::memcpy(&d, &bits, 8);
    const auto f = static_cast<float>(d);
    bits = 0;
    std::memcpy(&bits, &f, 4);
  } else if (type == Type::kF64 && o.number == 'f') {
    float f;
    std::memcpy(&f, &bits, 4);
    const double d = f;
    std::memcpy(&bits, &d, 8);
  }
  if (bytes_of(type) == 2) bits &= 0xffff;
  push(constant(bits, wide), wide, false);
}
void Decoder::write_predicate(const Operand& o) {
  if (o.kind == Operand::kSink) {
    classes->push_back(RegisterClass::kPredicate);
    return push(static_cast<Ref>(classes->size() - 1) << 1, false, true);
  }
  RegisterClass cls;
  const Ref ref = register_of(o.name, cls);
  if (cls != RegisterClass::kPredicate) fail("'" + o.name + "' is not a predicate");
  push(ref, false, true);
}
void Decoder::read_predicate(const Operand& o) {
  if (o.negated) negated |= 1u << refs.size();
  if (o.kind == Operand::kImmediate) return push(constant(o.bits ? kAllLanes : 0, false), false, false);
  RegisterClass cls;
  const Ref ref = register_of(o.name, cls);
  if (cls != RegisterClass::kPredicate) fail("'" + o.name + "' is not a predicate");
  push(ref, false, false);
}
void Decoder::address(const Operand& o) {
  if (o.kind != Operand::kAddress) fail("expected an address");
  op.offset = o.offset;
  if (o.name.empty()) return read_value(0, true);
  Operand base;
  base.name = o.name;
  base.kind = o.base_is_symbol ? Operand::kSymbol : Operand::kRegister;
  read(base, Type::kU64);
}

const InstructionTable& instructions() {
  static const InstructionTable table = [] {
    InstructionTable t;
    for (const auto add : {add_integer, add_bits, add_float, add_compare, add_move, add_convert, add_control, add_warp, add_matrix,
                           add_load_store, add_atomic, add_async_copy})
      add(t);
    return t;
  }();
  return table;
}

}  // namespace emu
