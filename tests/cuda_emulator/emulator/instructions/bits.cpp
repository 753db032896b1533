// Logic, shifts and bit fields (PTX ISA, "Logic and Shift Instructions" and the bit instructions of "Integer Arithmetic").
#include <algorithm>

#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

struct And {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  static T apply(T a) {
    return static_cast<T>(~a);
  }
};
struct Cnot {
  template <class T>
  static T apply(T a) {
    return static_cast<T>(a == 0);
  }
};
struct ShiftLeft {
  template <class T>
  static T apply(T a, std::uint32_t n) {
    return n >= 8 * sizeof(T) ? T{0} : static_cast<T>(Unsigned<T>(a) << n);
  }
};
struct ShiftRight {
  template <class T>
  static T apply(T a, std::uint32_t n) {
    constexpr std::uint32_t kLast = 8 * sizeof(T) - 1;
    if constexpr (std::is_signed_v<T>)
      return static_cast<T>(a >> (n > kLast ? kLast : n));
    else
      return n > kLast ? T{0} : static_cast<T>(a >> n);
  }
};
struct Popc {
  static std::uint32_t apply(std::uint64_t a) { return static_cast<std::uint32_t>(__builtin_popcountll(a)); }
};
template <int kBits>
struct Clz {
  static std::uint32_t apply(std::uint64_t a) { return static_cast<std::uint32_t>(a ? __builtin_clzll(a) - (64 - kBits) : kBits); }
};
struct Brev {
  template <class T>
  static T apply(T a) {
    T reversed = 0;
    for (std::size_t i = 0; i < 8 * sizeof(T); ++i) reversed = static_cast<T>(reversed << 1 | (a >> i & 1));
    return reversed;
  }
};

// --- logic on predicates: all lanes at once ---

/// Predicate operand i, with its negation (bit i of op.flags).
Mask predicate_operand(const Warp& w, const Op& op, int i) { return w.predicate(op.o[i]) ^ (op.flags >> i & 1 ? kAllLanes : 0); }

template <class F>
void logic_predicates(Warp& w, const Op& op, Mask mask) {
  write_predicate(w, op.o[0], mask, F::apply(predicate_operand(w, op, 1), predicate_operand(w, op, 2)));
}
void not_predicate(Warp& w, const Op& op, Mask mask) { write_predicate(w, op.o[0], mask, ~predicate_operand(w, op, 1)); }

template <class F>
void decode_logic(Decoder& d) {
  const Type t = d.take_type();
  d.op.cls = Class::kInteger;
  if (t == Type::kPred) {
    d.expect_operands(3);
    d.write_predicate(d.s.operands[0]);
    d.read_predicate(d.s.operands[1]);
    d.read_predicate(d.s.operands[2]);
    d.op.flags = static_cast<std::uint8_t>(d.negated);
    d.op.run = logic_predicates<F>;
    return;
  }
  operands(d, t, {t, t});
  with_integer(d, t, [&](auto v) { d.op.run = binary<decltype(v), F>; });
}
template <class F>
void decode_not(Decoder& d) {
  const Type t = d.take_type();
  d.op.cls = Class::kInteger;
  if (t == Type::kPred) {
    d.expect_operands(2);
    d.write_predicate(d.s.operands[0]);
    d.read_predicate(d.s.operands[1]);
    d.op.flags = static_cast<std::uint8_t>(d.negated);
    d.op.run = not_predicate;
    return;
  }
  operands(d, t, {t});
  with_integer(d, t, [&](auto v) { d.op.run = unary<decltype(v), decltype(v), F>; });
}

// --- shifts and counts ---

/// The shift count has 32 bits for every type.
template <class T, class F>
void shift(Warp& w, const Op& op, Mask mask) {
  const auto* a = w.row<Word<T>>(op.o[1]);
  const auto* n = w.row<std::uint32_t>(op.o[2]);
  each(mask, w.row<Word<T>>(op.o[0]), [=](int i) { return put<T>(F::apply(get<T>(a[i]), n[i])); });
}
template <class F>
void decode_shift(Decoder& d) {
  const Type t = d.take_type();
  operands(d, t, {t, Type::kU32});
  d.op.cls = Class::kInteger;
  with_integer(d, t, [&](auto v) { d.op.run = shift<decltype(v), F>; });
}

/// popc and clz: the result has 32 bits.
template <class From32, class From64>
void decode_count(Decoder& d) {
  const Type t = d.take_type();
  operands(d, Type::kU32, {t});
  d.op.cls = Class::kInteger;
  d.op.run = bytes_of(t) == 8 ? unary<std::uint32_t, std::uint64_t, From64> : unary<std::uint32_t, std::uint32_t, From32>;
}
void decode_brev(Decoder& d) {
  const Type t = d.take_type();
  operands(d, t, {t});
  d.op.cls = Class::kInteger;
  d.op.run = bytes_of(t) == 8 ? unary<std::uint64_t, std::uint64_t, Brev> : unary<std::uint32_t, std::uint32_t, Brev>;
}

/// Position of the most significant bit that differs from the sign; .shiftamt: the left shift that brings it to the top.
void bfind(Warp& w, const Op& op, Mask mask) {
  auto* d = w.row<std::uint32_t>(op.o[0]);
  for_lanes(mask, [&](int i) {
    std::uint64_t v = wide_value(w, op, 1, i);
    if (op.type == Type::kS32 && static_cast<std::int32_t>(v) < 0) v = static_cast<std::uint32_t>(~v);
    if (op.type == Type::kS64 && static_cast<std::int64_t>(v) < 0) v = ~v;
    const int top = v ? 63 - __builtin_clzll(v) : -1;
    d[i] = static_cast<std::uint32_t>(top >= 0 && op.variant ? 8 * bytes_of(op.type) - 1 - top : top);
  });
}
void decode_bfind(Decoder& d) {
  d.op.variant = d.take("shiftamt");
  const Type t = d.op.type = d.take_type();
  operands(d, Type::kU32, {t});
  d.op.cls = Class::kInteger;
  d.op.run = bfind;
}

// --- bit fields ---

template <class T>
void bfe(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) {
    constexpr int kBits = 8 * sizeof(T);
    const auto a = static_cast<Unsigned<T>>(w.row<Word<T>>(op.o[1])[i]);
    const int from = static_cast<int>(w.row<std::uint32_t>(op.o[2])[i] & 0xff);
    const int length = static_cast<int>(w.row<std::uint32_t>(op.o[3])[i] & 0xff);
    const int sign_at = std::min(from + length - 1, kBits - 1);
    const bool sign = std::is_signed_v<T> && length > 0 && (a >> sign_at & 1);
    Unsigned<T> field = from < kBits ? static_cast<Unsigned<T>>(a >> from) : 0;
    const int valid = std::min(length, std::max(0, kBits - from));
    if (valid < kBits) {
      const Unsigned<T> keep = (Unsigned<T>{1} << valid) - 1;
      field = static_cast<Unsigned<T>>((field & keep) | (sign ? ~keep : 0));
    }
    w.row<Word<T>>(op.o[0])[i] = field;
  });
}
void decode_bfe(Decoder& d) {
  const Type t = d.take_type();
  operands(d, t, {t, Type::kU32, Type::kU32});
  d.op.cls = Class::kInteger;
  with_integer(d, t, [&](auto v) {
    if constexpr (sizeof v >= 4)
      d.op.run = bfe<decltype(v)>;
    else
      d.fail("this type is not emulated");
  });
}

template <class T>
void bfi(Warp& w, const Op& op, Mask mask) {
  for_lanes(mask, [&](int i) {
    constexpr std::uint32_t kBits = 8 * sizeof(T);
    const T a = w.row<Word<T>>(op.o[1])[i], b = w.row<Word<T>>(op.o[2])[i];
    const std::uint32_t at = w.row<std::uint32_t>(op.o[3])[i] & 0xff, length = w.row<std::uint32_t>(op.o[4])[i] & 0xff;
    const T field = length >= kBits ? ~T{0} : (T{1} << length) - 1;
    const T replaced = at >= kBits ? T{0} : field << at;
    w.row<Word<T>>(op.o[0])[i] = at >= kBits ? b : static_cast<T>((b & ~replaced) | ((a << at) & replaced));
  });
}
void decode_bfi(Decoder& d) {
  const Type t = d.take_type();
  operands(d, t, {t, t, Type::kU32, Type::kU32});
  d.op.cls = Class::kInteger;
  d.op.run = bytes_of(t) == 8 ? bfi<std::uint64_t> : bfi<std::uint32_t>;
}

// --- three-input instructions of 32 bits ---

/// Any function of three bits: bit (a, b, c) of the table op.variant.
void lop3(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<std::uint32_t>(op.o[1]), *b = w.row<std::uint32_t>(op.o[2]), *c = w.row<std::uint32_t>(op.o[3]);
  const std::uint32_t table = op.variant;
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int i) {
    std::uint32_t result = 0;
    for (std::uint32_t k = 0; k < 8; ++k)
      if (table >> k & 1) result |= (k & 4 ? a[i] : ~a[i]) & (k & 2 ? b[i] : ~b[i]) & (k & 1 ? c[i] : ~c[i]);
    return result;
  });
}
void decode_lop3(Decoder& d) {
  d.take_type();
  d.expect_operands(5);
  d.write(d.s.operands[0], Type::kB32);
  for (std::size_t i = 1; i <= 3; ++i) d.read(d.s.operands[i], Type::kB32);
  d.op.variant = static_cast<std::uint8_t>(d.s.operands[4].bits);
  d.op.cls = Class::kInteger;
  d.op.run = lop3;
}

/// Funnel shift of the 64 bits (b, a).
template <bool kLeft, bool kClamp>
void shf(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<std::uint32_t>(op.o[1]), *b = w.row<std::uint32_t>(op.o[2]), *c = w.row<std::uint32_t>(op.o[3]);
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int i) {
    const std::uint32_t n = kClamp ? (c[i] < 32 ? c[i] : 32) : c[i] & 31;
    const std::uint64_t both = std::uint64_t{b[i]} << 32 | a[i];
    return static_cast<std::uint32_t>(kLeft ? (both << n) >> 32 : both >> n);
  });
}
void decode_shf(Decoder& d) {
  const bool left = d.take_one({"r", "l"}) == 1, clamp = d.take_one({"wrap", "clamp"}) == 1;
  d.take_type();
  operands(d, Type::kB32, {Type::kB32, Type::kB32, Type::kU32});
  d.op.cls = Class::kInteger;
  d.op.run = left ? (clamp ? shf<true, true> : shf<true, false>) : (clamp ? shf<false, true> : shf<false, false>);
}

/// Selects four of the eight bytes (b, a); bit 3 of a selector replicates the byte's sign.
void prmt(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<std::uint32_t>(op.o[1]), *b = w.row<std::uint32_t>(op.o[2]), *c = w.row<std::uint32_t>(op.o[3]);
  each(mask, w.row<std::uint32_t>(op.o[0]), [=](int i) {
    const std::uint64_t both = std::uint64_t{b[i]} << 32 | a[i];
    std::uint32_t result = 0;
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t selector = c[i] >> (4 * k);
      std::uint32_t byte = static_cast<std::uint32_t>(both >> (8 * (selector & 7))) & 0xff;
      if (selector & 8) byte = byte & 0x80 ? 0xff : 0;
      result |= byte << (8 * k);
    }
    return result;
  });
}
void decode_prmt(Decoder& d) {
  d.take_type();
  operands(d, Type::kB32, {Type::kB32, Type::kB32, Type::kB32});
  d.op.cls = Class::kInteger;
  d.op.run = prmt;
}

}  // namespace

void add_bits(InstructionTable& t) {
  t["and"] = decode_logic<And>;
  t["or"] = decode_logic<Or>;
  t["xor"] = decode_logic<Xor>;
  t["not"] = decode_not<Not>;
  t["cnot"] = decode_not<Cnot>;
  t["shl"] = decode_shift<ShiftLeft>;
  t["shr"] = decode_shift<ShiftRight>;
  t["popc"] = decode_count<Popc, Popc>;
  t["clz"] = decode_count<Clz<32>, Clz<64>>;
  t["brev"] = decode_brev;
  t["bfind"] = decode_bfind;
  t["bfe"] = decode_bfe;
  t["bfi"] = decode_bfi;
  t["lop3"] = decode_lop3;
  t["shf"] = decode_shf;
  t["prmt"] = decode_prmt;
}

}  // namespace emu
