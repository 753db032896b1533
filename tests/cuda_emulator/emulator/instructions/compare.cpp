// Comparison and selection (PTX ISA, "Comparison and Selection Instructions").
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

// In the order of kCompareNames. Comparisons that end in u are true if an operand is NaN.
enum Compare : std::uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kEqu, kNeu, kLtu, kLeu, kGtu, kGeu, kNum, kNan };
constexpr std::initializer_list<const char*> kCompareNames = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "equ",
                                                              "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};

template <class T, Compare kHow>
inline bool compares(T a, T b) {
  const bool unordered = std::is_floating_point_v<T> && (a != a || b != b);
  switch (kHow) {
    case kEq:
      return a == b;
    case kNe:
      return a != b && !unordered;
    case kLt:
      return a < b;
    case kLe:
      return a <= b;
    case kGt:
      return a > b;
    case kGe:
      return a >= b;
    case kEqu:
      return a == b || unordered;
    case kNeu:
      return a != b;
    case kLtu:
      return !(a >= b);
    case kLeu:
      return !(a > b);
    case kGtu:
      return !(a <= b);
    case kGeu:
      return !(a < b);
    case kNum:
      return !unordered;
    case kNan:
      return unordered;
  }
  return false;
}
template <class T, Compare kHow>
Mask compare(const Word<T>* a, const Word<T>* b) {
  Mask result = 0;
  for (int i = 0; i < kLanes; ++i) result |= static_cast<Mask>(compares<T, kHow>(get<T>(a[i]), get<T>(b[i]))) << i;
  return result;
}

enum Combine : std::uint8_t { kNone, kAnd, kOr, kXor };

/// setp: predicate p = comparison, q = its complement, each combined with a third predicate.
template <class T, Compare kHow>
void setp(Warp& w, const Op& op, Mask mask) {
  const Mask result = compare<T, kHow>(w.row<Word<T>>(op.o[op.writes]), w.row<Word<T>>(op.o[op.writes + 1]));
  const auto combined = [&](Mask value) {
    if (op.variant == kNone) return value;
    const Mask other = w.predicate(op.o[op.writes + 2]) ^ (op.flags ? kAllLanes : 0);
    return op.variant == kAnd ? value & other : op.variant == kOr ? value | other : value ^ other;
  };
  write_predicate(w, op.o[0], mask, combined(result));
  if (op.writes > 1) write_predicate(w, op.o[1], mask, combined(~result));
}
/// set: the result is a register that holds all ones, or 1.0.
template <class T, Compare kHow>
void set(Warp& w, const Op& op, Mask mask) {
  const Mask result = compare<T, kHow>(w.row<Word<T>>(op.o[1]), w.row<Word<T>>(op.o[2]));
  const std::uint32_t yes = op.type == Type::kF32 ? 0x3f800000u : 0xffffffffu;
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int i) { return result >> i & 1 ? yes : 0u; });
}

template <class T>
Handler pick_setp(int how) {
  static constexpr Handler kTable[] = {setp<T, kEq>,  setp<T, kNe>,  setp<T, kLt>,  setp<T, kLe>,  setp<T, kGt>,
                                       setp<T, kGe>,  setp<T, kEqu>, setp<T, kNeu>, setp<T, kLtu>, setp<T, kLeu>,
                                       setp<T, kGtu>, setp<T, kGeu>, setp<T, kNum>, setp<T, kNan>};
  return kTable[how];
}
template <class T>
Handler pick_set(int how) {
  static constexpr Handler kTable[] = {set<T, kEq>,  set<T, kNe>,  set<T, kLt>,  set<T, kLe>,  set<T, kGt>,  set<T, kGe>,  set<T, kEqu>,
                                       set<T, kNeu>, set<T, kLtu>, set<T, kLeu>, set<T, kGtu>, set<T, kGeu>, set<T, kNum>, set<T, kNan>};
  return kTable[how];
}
int take_compare(Decoder& d) {
  // .lo, .ls, .hi, .hs are lt, le, gt, ge of unsigned integers.
  const int of_unsigned = d.take_one({"lo", "ls", "hi", "hs"});
  if (of_unsigned >= 0) return kLt + of_unsigned;
  const int how = d.take_one(kCompareNames);
  if (how < 0) d.fail("has no comparison");
  return how;
}
void decode_setp(Decoder& d) {
  const int how = take_compare(d), combine = d.take_one({"and", "or", "xor"});
  if (d.take("ftz")) d.fail(".ftz is not emulated here");
  const Type t = d.take_type();
  d.expect_operands(combine >= 0 ? 4 : 3);
  d.write_predicate(d.s.operands[0]);
  if (!d.s.operands[0].parts.empty()) d.write_predicate(d.s.operands[0].parts[0]);
  d.read(d.s.operands[1], t);
  d.read(d.s.operands[2], t);
  if (combine >= 0) {
    d.read_predicate(d.s.operands[3]);
    d.op.flags = d.negated != 0;
  }
  d.op.variant = static_cast<std::uint8_t>(combine + 1);
  d.op.cls = is_float(t) ? Class::kFloat : Class::kInteger;
  if (t == Type::kF32)
    d.op.run = pick_setp<float>(how);
  else if (t == Type::kF64)
    d.op.run = pick_setp<double>(how);
  else
    with_integer(d, t, [&](auto v) { d.op.run = pick_setp<decltype(v)>(how); });
}
void decode_set(Decoder& d) {
  const int how = take_compare(d);
  d.op.type = d.take_type();
  const Type t = d.take_type();
  operands(d, d.op.type, {t, t});
  d.op.cls = is_float(t) ? Class::kFloat : Class::kInteger;
  if (t == Type::kF32)
    d.op.run = pick_set<float>(how);
  else if (t == Type::kF64)
    d.op.run = pick_set<double>(how);
  else
    with_integer(d, t, [&](auto v) { d.op.run = pick_set<decltype(v)>(how); });
}

template <class W>
void selp(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<W>(op.o[1]), *b = w.row<W>(op.o[2]);
  const Mask p = w.predicate(op.o[3]) ^ (op.flags ? kAllLanes : 0);
  each(mask, w.row<W>(op.o[0]), [=](int i) { return p >> i & 1 ? a[i] : b[i]; });
}
void decode_selp(Decoder& d) {
  const Type t = d.take_type();
  d.expect_operands(4);
  d.write(d.s.operands[0], t);
  d.read(d.s.operands[1], t);
  d.read(d.s.operands[2], t);
  d.read_predicate(d.s.operands[3]);
  d.op.flags = d.negated != 0;
  d.op.cls = Class::kMove;
  d.op.run = bytes_of(t) == 8 ? selp<std::uint64_t> : selp<std::uint32_t>;
}

/// slct: a where c >= 0, else b.
template <class T>
void slct(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<T>(op.o[1]), *b = w.row<T>(op.o[2]);
  const auto* c = w.row<std::uint32_t>(op.o[3]);
  const bool is_float_c = op.from == Type::kF32;
  each(mask, w.row<T>(op.o[0]), [=](int i) {
    const bool at_least_zero = is_float_c ? get<float>(c[i]) >= 0.0f : static_cast<std::int32_t>(c[i]) >= 0;
    return at_least_zero ? a[i] : b[i];
  });
}
void decode_slct(Decoder& d) {
  const Type t = d.take_type();
  d.op.from = d.take_type();
  operands(d, t, {t, t, d.op.from});
  d.op.run = bytes_of(t) == 8 ? slct<std::uint64_t> : slct<std::uint32_t>;
}

}  // namespace

void add_compare(InstructionTable& t) {
  t["setp"] = decode_setp;
  t["set"] = decode_set;
  t["selp"] = decode_selp;
  t["slct"] = decode_slct;
}

}  // namespace emu
