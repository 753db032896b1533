// ld and st (PTX ISA, "Data Movement and Conversion Instructions").
#include <cstring>

#include "execution/memory_access.hpp"
#include "instructions/memory_modifiers.hpp"
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

/// Moves one element of kBytes bytes from memory to a register, sign-extended if the type is signed.
template <int kBytes, bool kSigned>
inline void to_register(const Warp& w, Ref ref, bool wide, int lane, const std::uint8_t* from) {
  if constexpr (kBytes == 8) {
    std::memcpy(w.row<std::uint64_t>(ref) + lane, from, 8);
  } else {
    std::conditional_t<kBytes == 4, std::uint32_t, std::conditional_t<kBytes == 2, std::uint16_t, std::uint8_t>> v;
    std::memcpy(&v, from, kBytes);
    std::int64_t extended = v;
    if constexpr (kSigned) extended = static_cast<std::make_signed_t<decltype(v)>>(v);
    if (wide)
      w.row<std::uint64_t>(ref)[lane] = static_cast<std::uint64_t>(extended);
    else
      w.row<std::uint32_t>(ref)[lane] = static_cast<std::uint32_t>(extended);
  }
}
template <int kBytes>
inline void from_register(const Warp& w, Ref ref, bool wide, int lane, std::uint8_t* to) {
  if (wide)
    std::memcpy(to, w.row<std::uint64_t>(ref) + lane, kBytes);
  else
    std::memcpy(to, w.row<std::uint32_t>(ref) + lane, kBytes < 4 ? kBytes : 4);
}

template <int kBytes, int kVector, bool kSigned>
void load(Warp& w, const Op& op, Mask mask) {
  std::uint64_t addresses[kLanes];
  std::uint8_t* from[kLanes];
  addresses_of(w, op, kVector, addresses);
  mask = access_memory(w, op, mask, op.space, addresses, kBytes * kVector, Access::kLoad, from);
  for (int k = 0; k < kVector; ++k) {
    const Ref ref = op.o[k];
    const bool wide = op.wide >> k & 1;
    for_lanes(mask, [&](int i) { to_register<kBytes, kSigned>(w, ref, wide, i, from[i] + kBytes * k); });
  }
}
template <int kBytes, int kVector>
void store(Warp& w, const Op& op, Mask mask) {
  std::uint64_t addresses[kLanes];
  std::uint8_t* to[kLanes];
  addresses_of(w, op, 0, addresses);
  mask = access_memory(w, op, mask, op.space, addresses, kBytes * kVector, Access::kStore, to);
  for (int k = 0; k < kVector; ++k) {
    const Ref ref = op.o[1 + k];
    const bool wide = op.wide >> (1 + k) & 1;
    for_lanes(mask, [&](int i) { from_register<kBytes>(w, ref, wide, i, to[i] + kBytes * k); });
  }
}
/// Loads a kernel parameter at a constant address, which is the same for all lanes. Other parameter loads take the general path.
template <int kBytes, int kVector, bool kSigned>
void load_parameter(Warp& w, const Op& op, Mask mask) {
  const auto& parameters = w.block->launch->parameters;
  const std::uint64_t at = *w.row<std::uint64_t>(op.o[kVector]) + static_cast<std::uint64_t>(op.offset);
  if (!is_constant(op.o[kVector]) || at + kBytes * kVector > parameters.size()) return load<kBytes, kVector, kSigned>(w, op, mask);
  for (int k = 0; k < kVector; ++k) {
    const std::uint8_t* from = parameters.data() + at + kBytes * k;
    for_lanes(mask, [&](int i) { to_register<kBytes, kSigned>(w, op.o[k], op.wide >> k & 1, i, from); });
  }
}

template <int kBytes, int kVector>
Handler pick_load(bool sign, bool parameter) {
  if (parameter) return sign ? load_parameter<kBytes, kVector, true> : load_parameter<kBytes, kVector, false>;
  return sign ? load<kBytes, kVector, true> : load<kBytes, kVector, false>;
}

/// Calls f with the element size and the vector length as integral constants.
template <class F>
void with_shape(Decoder& d, int bytes, int vector, F f) {
  const auto with_vector = [&](auto size) {
    constexpr int kBytes = decltype(size)::value;
    if (vector == 1) return f(size, std::integral_constant<int, 1>{});
    if (vector == 2) return f(size, std::integral_constant<int, 2>{});
    if constexpr (kBytes <= 4)
      if (vector == 4) return f(size, std::integral_constant<int, 4>{});
    d.fail("this vector is not emulated");
  };
  switch (bytes) {
    case 1:
      return with_vector(std::integral_constant<int, 1>{});
    case 2:
      return with_vector(std::integral_constant<int, 2>{});
    case 4:
      return with_vector(std::integral_constant<int, 4>{});
    case 8:
      return with_vector(std::integral_constant<int, 8>{});
    default:
      d.fail("this type is not emulated");
  }
}

/// Decodes what loads and stores have in common: hints, space and type. Returns the vector length.
int take_access(Decoder& d) {
  take_hints(d);
  d.op.space = take_space(d);
  take_hints(d);
  const int vector = d.take("v2") ? 2 : d.take("v4") ? 4 : d.take("v8") ? 8 : 1;
  d.op.type = d.take_type();
  d.expect_operands(2);
  return vector;
}

/// Decodes the address. Call parameters are in local memory.
void decode_address(Decoder& d, const Operand& address) {
  d.address(address);
  if (d.op.space != Space::kParam || !address.base_is_symbol) return;
  const auto found = d.symbols->find(address.name);
  if (found != d.symbols->end() && (found->second & kWindowMask) == kLocalWindow) d.op.space = Space::kGeneric;
}

Class class_of(Space space, bool is_load) {
  switch (space) {
    case Space::kShared:
      return is_load ? Class::kSharedLoad : Class::kSharedStore;
    case Space::kGlobal:
    case Space::kGeneric:
      return is_load ? Class::kGlobalLoad : Class::kGlobalStore;
    default:
      return Class::kOtherMemory;
  }
}

void decode_ld(Decoder& d) {
  const int vector = take_access(d);
  const Type t = d.op.type;
  for (const auto& element : registers_of(d, d.s.operands[0], vector)) d.write(element, t);
  decode_address(d, d.s.operands[1]);
  d.op.cls = class_of(d.op.space, true);
  const bool sign = is_signed(t) && bytes_of(t) < 8, parameter = d.op.space == Space::kParam;
  with_shape(d, bytes_of(t), vector, [&](auto bytes, auto n) { d.op.run = pick_load<bytes, n>(sign, parameter); });
}
void decode_st(Decoder& d) {
  const int vector = take_access(d);
  const Type t = d.op.type;
  decode_address(d, d.s.operands[0]);
  for (const auto& element : registers_of(d, d.s.operands[1], vector)) d.read(element, t);
  d.op.cls = class_of(d.op.space, false);
  with_shape(d, bytes_of(t), vector, [&](auto bytes, auto n) { d.op.run = store<bytes, n>; });
}

}  // namespace

Space take_space(Decoder& d) {
  switch (d.take_one({"global", "shared", "shared::cta", "local", "const", "param", "param::entry", "param::func"})) {
    case 0:
      return Space::kGlobal;
    case 1:
    case 2:
      return Space::kShared;
    case 3:
      return Space::kLocal;
    case 4:
      return Space::kConst;
    case 5:
    case 6:
    case 7:
      return Space::kParam;
  }
  return Space::kGeneric;
}
void take_hints(Decoder& d) {
  d.take("nc");
  d.take_one({"weak", "relaxed", "acquire", "release", "acq_rel", "volatile"});
  d.take_one({"cta", "gpu", "sys", "cluster"});
  d.take_one({"ca", "cg", "cs", "lu", "cv", "wb", "wt"});
  for (const char* hint : {"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::64B",
                           "L2::128B", "L2::256B", "L2::evict_last", "L2::evict_normal", "L2::evict_first"})
    d.take(hint);
}

void add_load_store(InstructionTable& t) {
  t["ld"] = decode_ld;
  t["ldu"] = decode_ld;
  t["st"] = decode_st;
}

}  // namespace emu
