// Floating-point instructions that have no integer form (PTX ISA, "Floating Point Instructions").
//
// Approximate functions (.approx) return the exact value, rounded. With --perturb, results are off by up to the documented bound.
#include "instructions/float.hpp"

#include <cmath>

#include "instructions/functors.hpp"
#include "instructions/tables.hpp"

namespace emu {
namespace {

struct ReluFma {
  template <class T>
  static T apply(T a, T b, T c) {
    const T r = Fma::apply(a, b, c);
    return r > 0 || r != r ? r : T{0};
  }
};
struct CopySign {
  template <class T>
  static T apply(T sign, T value) {
    return std::copysign(value, sign);
  }
};
struct Sqrt {
  template <class T>
  static T apply(T a) {
    return std::sqrt(a);
  }
};
struct Rcp {
  template <class T>
  static T apply(T a) {
    return T{1} / a;
  }
};
struct Quotient {
  template <class T>
  static T apply(T a, T b) {
    return a / b;
  }
};

void decode_fma(Decoder& d) {
  FloatModifiers m;
  m.rounding = take_rounding(d);
  m.ftz = d.take("ftz"), m.sat = d.take("sat");
  const bool relu = d.take("relu");
  const Type t = d.take_type();
  if (!relu) return decode_float3<Fma>(d, t, Class::kFma, m);
  if (!is_half(t)) d.fail(".relu is for half precision");
  decode_float3<ReluFma>(d, t, Class::kFma, m);
}

void decode_copysign(Decoder& d) { decode_float2<CopySign>(d, d.take_type(), Class::kFloat, {}); }

// --- approximations ---

/// With --perturb, changes the value by up to `ulps` units in the last place, depending on its bits.
float perturbed(float v, int ulps) {
  if (!options().perturb || v == 0.0f || std::isinf(v) || v != v) return v;
  std::uint32_t bits = put<float>(v);
  std::uint32_t hash = (bits ^ static_cast<std::uint32_t>(ulps) * 0x9e3779b9u) * 0x85ebca6bu;
  hash ^= hash >> 13;
  bits += hash % static_cast<std::uint32_t>(2 * ulps + 1) - static_cast<std::uint32_t>(ulps);
  return get<float>(bits);
}

/// kFunction of a double, rounded to float. Error bounds in ulps follow the ISA's table: rcp, sqrt about 2^-23, rsqrt 2^-22.9,
/// ex2 2^-22.5, lg2 2^-22 absolute near 1, sin and cos 2^-20.9 absolute, tanh 2^-11 relative.
template <double (*kFunction)(double), int kUlps>
struct Approximate {
  static float apply(float x) { return perturbed(static_cast<float>(kFunction(x)), kUlps); }
};
double reciprocal(double x) { return 1.0 / x; }
double reciprocal_root(double x) { return 1.0 / std::sqrt(x); }

struct ApproximateDiv {
  static float apply(float a, float b) { return perturbed(a / b, 2); }
};

template <double (*kFunction)(double), int kUlps>
void decode_approximate(Decoder& d) {
  using F = Approximate<kFunction, kUlps>;
  d.take("approx");
  const bool ftz = d.take("ftz");
  const Type t = d.take_type();
  if (t != Type::kF32) d.fail("this type is not emulated");
  operands(d, t, {t});
  d.op.cls = Class::kSpecial;
  d.op.run = ftz ? unary<float, float, Flushed<F>> : unary<float, float, F>;
}
/// rcp and sqrt have an approximate and an IEEE form.
template <double (*kFunction)(double), class Exact>
void decode_root(Decoder& d) {
  for (const auto& part : d.s.parts)
    if (part == "approx") return decode_approximate<kFunction, 1>(d);
  const int rounding = take_rounding(d);
  const bool ftz = d.take("ftz");
  decode_float1<Exact>(d, d.take_type(), Class::kSpecial, {rounding, ftz, false});
}

}  // namespace

bool decode_float_div(Decoder& d) {
  if (!is_float(type_of(d.s.parts.back()))) return false;
  const int rounding = take_rounding(d);
  const bool approximate = d.take_one({"approx", "full"}) >= 0, ftz = d.take("ftz");
  const Type t = d.take_type();
  if (!approximate) {
    decode_float2<Quotient>(d, t, Class::kSpecial, {rounding, ftz, false});
    return true;
  }
  if (t != Type::kF32) d.fail("this type is not emulated");
  operands(d, t, {t, t});
  d.op.cls = Class::kSpecial;
  d.op.run = ftz ? binary<float, Flushed<ApproximateDiv>> : binary<float, ApproximateDiv>;
  return true;
}

void add_float(InstructionTable& t) {
  t["fma"] = decode_fma;
  t["copysign"] = decode_copysign;
  t["rcp"] = decode_root<reciprocal, Rcp>;
  t["sqrt"] = decode_root<std::sqrt, Sqrt>;
  t["rsqrt"] = decode_approximate<reciprocal_root, 2>;
  t["ex2"] = decode_approximate<std::exp2, 2>;
  t["lg2"] = decode_approximate<std::log2, 1>;
  t["sin"] = decode_approximate<std::sin, 2>;
  t["cos"] = decode_approximate<std::cos, 2>;
  t["tanh"] = decode_approximate<std::tanh, 2048>;
}

}  // namespace emu
