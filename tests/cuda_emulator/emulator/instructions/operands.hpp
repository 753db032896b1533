// Building blocks of instruction handlers: access to operands by C++ type, loops over lanes, common decoders.
#pragma once

#include <cfenv>
#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "execution/interpreter.hpp"
#include "floats.hpp"
#include "ptx/decoder.hpp"

namespace emu {

/// Element of a register row: 32 bits for registers of up to 32 bits, otherwise 64 bits. Narrower integers are zero-extended.
template <class T>
using Word = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <class T>
using Unsigned = std::make_unsigned_t<T>;

/// Converts a register's bits to a value of type T.
template <class T>
inline T get(Word<T> word) {
  if constexpr (std::is_floating_point_v<T>) {
    T value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  } else {
    return static_cast<T>(word);
  }
}

/// Converts a value of type T to a register's bits.
template <class T>
inline Word<T> put(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    Word<T> word;
    std::memcpy(&word, &value, sizeof word);
    return word;
  } else {
    return static_cast<Word<T>>(static_cast<Unsigned<T>>(value));
  }
}

/// Sets d[lane] = f(lane) for the lanes of the mask. The constant trip count lets the compiler vectorise the loop.
template <class D, class F>
inline __attribute__((always_inline)) void each(Mask mask, D* d, F f) {
  if (mask == kAllLanes) {
#pragma GCC ivdep
    for (int i = 0; i < kLanes; ++i) d[i] = f(i);
  } else {
#pragma GCC ivdep
    for (int i = 0; i < kLanes; ++i) d[i] = mask >> i & 1 ? f(i) : d[i];
  }
}

/// Writes the lanes of `mask` of a predicate register.
inline void write_predicate(Warp& w, Ref ref, Mask mask, Mask value) {
  Mask& predicate = *w.row<Mask>(ref);
  predicate = (predicate & ~mask) | (value & mask);
}

/// A 32- or 64-bit operand as 64 bits.
inline std::uint64_t wide_value(const Warp& w, const Op& op, int operand, int lane) {
  return op.wide >> operand & 1 ? w.row<std::uint64_t>(op.o[operand])[lane] : w.row<std::uint32_t>(op.o[operand])[lane];
}
/// Writes operand 0, which has 32 or 64 bits.
inline void write_wide(Warp& w, const Op& op, int lane, std::uint64_t value) {
  if (op.wide & 1)
    w.row<std::uint64_t>(op.o[0])[lane] = value;
  else
    w.row<std::uint32_t>(op.o[0])[lane] = static_cast<std::uint32_t>(value);
}

// Handlers for operands of one type. F is a stateless functor: F::apply(a, b, c).

template <class R, class A, class F>
void unary(Warp& w, const Op& op, Mask mask) {
  const auto* a = w.row<Word<A>>(op.o[1]);
  each(mask, w.row<Word<R>>(op.o[0]), [=](int i) { return put<R>(F::apply(get<A>(a[i]))); });
}
template <class T, class F>
void binary(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<Word<T>>(op.o[1]), *b = w.row<Word<T>>(op.o[2]);
  each(mask, w.row<Word<T>>(op.o[0]), [=](int i) { return put<T>(F::apply(get<T>(a[i]), get<T>(b[i]))); });
}
template <class T, class F>
void ternary(Warp& w, const Op& op, Mask mask) {
  const auto *a = w.row<Word<T>>(op.o[1]), *b = w.row<Word<T>>(op.o[2]), *c = w.row<Word<T>>(op.o[3]);
  each(mask, w.row<Word<T>>(op.o[0]), [=](int i) { return put<T>(F::apply(get<T>(a[i]), get<T>(b[i]), get<T>(c[i]))); });
}

// Decoders.

/// Reads the operands of "opcode d, a, b, ...": the first is written, the others are read.
inline void operands(Decoder& d, Type written, std::initializer_list<Type> read) {
  d.expect_operands(1 + read.size());
  d.write(d.s.operands[0], written);
  std::size_t i = 1;
  for (Type t : read) d.read(d.s.operands[i++], t);
}

/// The registers of an operand: one, or the elements of a vector.
inline std::vector<Operand> registers_of(Decoder& d, const Operand& o, int count) {
  const std::vector<Operand> parts = o.kind == Operand::kVector ? o.parts : std::vector<Operand>{o};
  if (static_cast<int>(parts.size()) != count)
    d.fail("has an operand of " + std::to_string(parts.size()) + " registers; expected " + std::to_string(count));
  return parts;
}

/// Consumes the rounding modifier and returns an index in kRoundingModes: 0 .rn, 1 .rz, 2 .rm, 3 .rp; -1: none.
inline int take_rounding(Decoder& d) { return d.take_one({"rn", "rz", "rm", "rp"}); }

/// Calls f with a value of the C++ type for an integer type.
template <class F>
void with_integer(Decoder& d, Type t, F f) {
  switch (t) {
    case Type::kU8:
    case Type::kB8:
      return f(std::uint8_t{});
    case Type::kS8:
      return f(std::int8_t{});
    case Type::kU16:
    case Type::kB16:
      return f(std::uint16_t{});
    case Type::kS16:
      return f(std::int16_t{});
    case Type::kU32:
    case Type::kB32:
      return f(std::uint32_t{});
    case Type::kS32:
      return f(std::int32_t{});
    case Type::kU64:
    case Type::kB64:
      return f(std::uint64_t{});
    case Type::kS64:
      return f(std::int64_t{});
    default:
      d.fail("this type is not emulated");
  }
}

inline bool is_half(Type t) { return t == Type::kF16 || t == Type::kBF16 || t == Type::kF16x2 || t == Type::kBF16x2; }

}  // namespace emu
