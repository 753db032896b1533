// Moves between registers, and conversions of addresses between state spaces.
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

template <class W>
void move(Warp& w, const Op& op, Mask mask) {
  const auto* a = w.row<W>(op.o[1]);
  each(mask, w.row<W>(op.o[0]), [=](int i) { return a[i]; });
}
void move_predicate(Warp& w, const Op& op, Mask mask) {
  write_predicate(w, op.o[0], mask, w.predicate(op.o[1]) ^ (op.flags ? kAllLanes : 0));
}

/// mov.b64 %rd, {%r1, %r2}: op.bytes is the size of an element.
void pack(Warp& w, const Op& op, Mask mask) {
  const std::uint64_t element = (1ull << (8 * op.bytes)) - 1;
  for_lanes(mask, [&](int i) {
    std::uint64_t v = 0;
    for (int k = 0; k < op.reads; ++k) v |= (wide_value(w, op, 1 + k, i) & element) << (8 * op.bytes * k);
    write_wide(w, op, i, v);
  });
}
/// mov.b64 {%r1, %r2}, %rd
void unpack(Warp& w, const Op& op, Mask mask) {
  const std::uint64_t element = (1ull << (8 * op.bytes)) - 1;
  for_lanes(mask, [&](int i) {
    const std::uint64_t v = wide_value(w, op, op.writes, i);
    for (int k = 0; k < op.writes; ++k) w.row<std::uint32_t>(op.o[k])[i] = static_cast<std::uint32_t>(v >> (8 * op.bytes * k) & element);
  });
}

/// %clock, %clock64 and %globaltimer count the warp's instructions.
void read_clock(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) { write_wide(w, op, i, w.executed); });
}

void decode_vector_move(Decoder& d, Type t) {
  const Operand &to = d.s.operands[0], &from = d.s.operands[1];
  const auto& parts = to.kind == Operand::kVector ? to.parts : from.parts;
  d.op.bytes = static_cast<std::uint8_t>(bytes_of(t) / static_cast<int>(parts.size()));
  if (d.op.bytes == 8) d.fail("128 bits are not emulated");
  const Type element = d.op.bytes == 4 ? Type::kB32 : d.op.bytes == 2 ? Type::kB16 : Type::kB8;
  if (to.kind == Operand::kVector) {
    for (const auto& part : parts) d.write(part, element);
    d.read(from, t);
    d.op.run = unpack;
  } else {
    d.write(to, t);
    for (const auto& part : parts) d.read(part, element);
    d.op.run = pack;
  }
}

void decode_mov(Decoder& d) {
  d.op.cls = Class::kMove;
  const Type t = d.take_type();
  d.expect_operands(2);
  const Operand &to = d.s.operands[0], &from = d.s.operands[1];
  if (t == Type::kPred) {
    d.write_predicate(to);
    d.read_predicate(from);
    d.op.flags = d.negated != 0;
    d.op.run = move_predicate;
    return;
  }
  if (to.kind == Operand::kVector || from.kind == Operand::kVector) return decode_vector_move(d, t);
  d.write(to, t);
  d.read(from, t);
  if (from.kind == Operand::kRegister && (from.name.compare(0, 6, "%clock") == 0 || from.name == "%globaltimer"))
    d.op.run = read_clock;
  else
    d.op.run = bytes_of(t) == 8 ? move<std::uint64_t> : move<std::uint32_t>;
}

// --- generic addresses: equal to the address in global memory; other spaces have windows ---

/// Consumes the state space and returns its generic window; 0: global and constant memory.
std::uint64_t take_window(Decoder& d) {
  switch (d.take_one({"global", "const", "shared", "shared::cta", "local", "param"})) {
    case 0:
    case 1:
      return 0;
    case 2:
    case 3:
      return kSharedWindow;
    case 4:
      return kLocalWindow;
    case 5:
      return kParamWindow;
    default:
      d.fail("this state space is not emulated");
  }
}

/// cvta, and cvta.to (op.flags).
void convert_address(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) {
    const std::uint64_t v = wide_value(w, op, 1, i);
    write_wide(w, op, i, op.flags ? v & ~kWindowMask : v | static_cast<std::uint64_t>(op.offset));
  });
}
void decode_cvta(Decoder& d) {
  const bool to = d.take("to");
  const std::uint64_t window = take_window(d);
  const Type t = d.take_type();
  operands(d, t, {t});
  d.op.cls = Class::kMove;
  if (window == 0) {
    d.op.run = bytes_of(t) == 8 ? move<std::uint64_t> : move<std::uint32_t>;
    return;
  }
  d.op.offset = static_cast<std::int64_t>(window);
  d.op.flags = to;
  d.op.run = convert_address;
}

void isspacep(Warp& w, const Op& op, Mask mask) {
  Mask inside = 0;
  for (int i = 0; i < kLanes; ++i) {
    const std::uint64_t window = w.row<std::uint64_t>(op.o[1])[i] & kWindowMask;
    inside |= static_cast<Mask>(window == static_cast<std::uint64_t>(op.offset)) << i;
  }
  write_predicate(w, op.o[0], mask, inside);
}
void decode_isspacep(Decoder& d) {
  const std::uint64_t window = take_window(d);
  d.expect_operands(2);
  d.write_predicate(d.s.operands[0]);
  d.read(d.s.operands[1], Type::kU64);
  d.op.offset = static_cast<std::int64_t>(window);
  d.op.run = isspacep;
}

}  // namespace

void add_move(InstructionTable& t) {
  t["mov"] = decode_mov;
  t["cvta"] = decode_cvta;
  t["isspacep"] = decode_isspacep;
}

}  // namespace emu
