// Instructions on single values, compared with C++.
#include <cmath>

#include "framework.cuh"

namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s32 = std::int32_t;
using s64 = std::int64_t;

float as_float(u32 bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
u32 bits_of(float f) {
  u32 bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}
double as_double(u64 bits) {
  double d;
  std::memcpy(&d, &bits, 8);
  return d;
}
u64 bits_of(double d) {
  u64 bits;
  std::memcpy(&bits, &d, 8);
  return bits;
}

/// Small and large numbers, limits, floats of all kinds.
template <class T>
std::vector<T> inputs() {
  std::vector<T> v;
  for (u32 n : {0u, 1u, 2u, 5u, 31u, 32u, 33u, 255u, 0x7fffu, 0x8000u, 0xffffu, 0x7fffffffu, 0x80000000u, 0x80000001u, 0xffffffffu,
                0xdeadbeefu, 0x12345678u})
    v.push_back(static_cast<T>(sizeof(T) == 8 ? u64{n} << 32 | (n ^ 0x5au) : n));
  for (u32 n : {0u, 1u, 7u, 40u, 63u, 64u}) v.push_back(static_cast<T>(n));
  for (float f : {0.0f, -0.0f, 1.0f, -2.5f, 0.5f, 1.5f, 3.14159265f, 1e-41f, 65504.0f, 70000.0f, -3e9f, 1e20f, INFINITY, NAN})
    v.push_back(static_cast<T>(sizeof(T) == 8 ? bits_of(static_cast<double>(f)) : bits_of(f)));
  return v;
}

template <class I, class T>
__global__ void apply_kernel(T* d, const T* a, const T* b, const T* c, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) d[i] = I::on_device(a[i], b[i], c[i]);
}

/// Tests every pair of inputs; the third operand cycles through the inputs.
template <class I, class T>
void check() {
  const std::vector<T> values = inputs<T>();
  std::vector<T> a, b, c;
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = 0; j < values.size(); ++j) {
      a.push_back(values[i]);
      b.push_back(values[j]);
      c.push_back(values[(3 * i + 5 * j) % values.size()]);
    }
  Buffer<T> d(a.size()), da(a), db(b), dc(c);
  const int n = static_cast<int>(a.size());
  apply_kernel<I, T><<<(n + 127) / 128, 128>>>(d.p, da.p, db.p, dc.p, n);
  synchronize();
  const auto result = d.get();
  for (int i = 0; i < n; ++i) {
    const T expected = I::expected(a[i], b[i], c[i]);
    if (result[i] != expected)
      fail(__FILE__, __LINE__,
           std::string(I::text()) + " of " + std::to_string(a[i]) + ", " + std::to_string(b[i]) + ", " + std::to_string(c[i]) + " is " +
               std::to_string(result[i]) + "; expected " + std::to_string(expected));
  }
}

// An instruction with result %0 and sources %1, %2, %3, and its value in C++.
#define INSTRUCTION(name, type, constraint, ptx, ...)                                                 \
  struct name {                                                                                       \
    static const char* text() { return ptx; }                                                         \
    static __device__ type on_device(type a, type b, type c) {                                        \
      type d;                                                                                         \
      asm volatile("{" ptx "}" : "=" constraint(d) : constraint(a), constraint(b), constraint(c));    \
      return d;                                                                                       \
    }                                                                                                 \
    static type expected([[maybe_unused]] type a, [[maybe_unused]] type b, [[maybe_unused]] type c) { \
      return static_cast<type>(__VA_ARGS__);                                                          \
    }                                                                                                 \
  }
#define INSTRUCTION32(name, ptx, ...) INSTRUCTION(name, u32, "r", ptx, __VA_ARGS__)
#define INSTRUCTION64(name, ptx, ...) INSTRUCTION(name, u64, "l", ptx, __VA_ARGS__)

// --- integers ---

INSTRUCTION32(Add32, "add.u32 %0, %1, %2;", a + b);
INSTRUCTION64(Add64, "add.s64 %0, %1, %2;", a + b);
INSTRUCTION32(Sub32, "sub.s32 %0, %1, %2;", a - b);
INSTRUCTION32(MulLow, "mul.lo.s32 %0, %1, %2;", a* b);
INSTRUCTION32(MulHighUnsigned, "mul.hi.u32 %0, %1, %2;", u64{a} * b >> 32);
INSTRUCTION32(MulHighSigned, "mul.hi.s32 %0, %1, %2;", s64{static_cast<s32>(a)} * static_cast<s32>(b) >> 32);
INSTRUCTION64(MulHigh64, "mul.hi.u64 %0, %1, %2;", static_cast<unsigned __int128>(a) * b >> 64);
INSTRUCTION64(MulWideSigned, "{.reg .b32 x, y; cvt.u32.u64 x, %1; cvt.u32.u64 y, %2; mul.wide.s32 %0, x, y;}",
              s64{static_cast<s32>(a)} * static_cast<s32>(b));
INSTRUCTION32(MulWide16, "{.reg .b16 x, y; cvt.u16.u32 x, %1; cvt.u16.u32 y, %2; mul.wide.u16 %0, x, y;}", (a & 0xffff) * (b & 0xffff));
INSTRUCTION32(MadLow, "mad.lo.s32 %0, %1, %2, %3;", a* b + c);
INSTRUCTION32(MadHigh, "mad.hi.u32 %0, %1, %2, %3;", (u64{a} * b >> 32) + c);
INSTRUCTION64(MadWide, "{.reg .b32 x, y; cvt.u32.u64 x, %1; cvt.u32.u64 y, %2; mad.wide.u32 %0, x, y, %3;}",
              u64{static_cast<u32>(a)} * static_cast<u32>(b) + c);
INSTRUCTION32(Sad, "sad.s32 %0, %1, %2, %3;", c + static_cast<u32>(std::llabs(s64{static_cast<s32>(a)} - static_cast<s32>(b))));
INSTRUCTION32(DivUnsigned, "div.u32 %0, %1, %2;", b ? a / b : ~0u);
INSTRUCTION32(DivSigned, "div.s32 %0, %1, %2;", b ? s64{static_cast<s32>(a)} / static_cast<s32>(b) : -1);
INSTRUCTION32(RemSigned, "rem.s32 %0, %1, %2;", b ? s64{static_cast<s32>(a)} % static_cast<s32>(b) : static_cast<s32>(a));
INSTRUCTION64(Rem64, "rem.u64 %0, %1, %2;", b ? a % b : a);
INSTRUCTION32(MinSigned, "min.s32 %0, %1, %2;", std::min(static_cast<s32>(a), static_cast<s32>(b)));
INSTRUCTION32(MaxUnsigned, "max.u32 %0, %1, %2;", std::max(a, b));
INSTRUCTION64(Max64, "max.s64 %0, %1, %2;", std::max(static_cast<s64>(a), static_cast<s64>(b)));
INSTRUCTION32(NegInteger, "neg.s32 %0, %1;", 0 - a);
INSTRUCTION32(AbsInteger, "abs.s32 %0, %1;", static_cast<s32>(a) < 0 ? 0 - a : a);
const Add integers("integers", [] {
  check<Add32, u32>(), check<Add64, u64>(), check<Sub32, u32>(), check<MulLow, u32>(), check<MulHighUnsigned, u32>();
  check<MulHighSigned, u32>(), check<MulHigh64, u64>(), check<MulWideSigned, u64>(), check<MulWide16, u32>(), check<MadLow, u32>();
  check<MadHigh, u32>(), check<MadWide, u64>(), check<Sad, u32>(), check<DivUnsigned, u32>(), check<DivSigned, u32>();
  check<RemSigned, u32>(), check<Rem64, u64>(), check<MinSigned, u32>(), check<MaxUnsigned, u32>(), check<Max64, u64>();
  check<NegInteger, u32>(), check<AbsInteger, u32>();
});

// --- bits ---

u32 reversed(u32 a) {
  u32 r = 0;
  for (int i = 0; i < 32; ++i) r |= (a >> i & 1) << (31 - i);
  return r;
}
u32 extracted(u32 a, u32 at, u32 length, bool sign) {
  at &= 0xff, length &= 0xff;
  u32 r = 0;
  const u32 top = std::min(at + length - 1, 31u);
  for (u32 i = 0; i < 32; ++i) {
    const bool bit = i < length && at + i <= 31 ? a >> (at + i) & 1 : sign && length && a >> top & 1;
    r |= static_cast<u32>(bit) << i;
  }
  return r;
}
u32 inserted(u32 field, u32 into, u32 at, u32 length) {
  at &= 0xff, length &= 0xff;
  for (u32 i = 0; i < length && at + i < 32; ++i) into = (into & ~(1u << (at + i))) | (field >> i & 1) << (at + i);
  return into;
}
u32 permuted(u32 a, u32 b, u32 selectors) {
  u32 r = 0;
  for (int k = 0; k < 4; ++k) {
    const u32 s = selectors >> (4 * k) & 15;
    u32 byte = (s & 4 ? b : a) >> (8 * (s & 3)) & 0xff;
    if (s & 8) byte = byte & 0x80 ? 0xff : 0;
    r |= byte << (8 * k);
  }
  return r;
}
int top_bit(u64 a) { return a ? 63 - __builtin_clzll(a) : -1; }

INSTRUCTION32(And32, "and.b32 %0, %1, %2;", a& b);
INSTRUCTION64(Or64, "or.b64 %0, %1, %2;", a | b);
INSTRUCTION32(Xor32, "xor.b32 %0, %1, %2;", a ^ b);
INSTRUCTION32(Not32, "not.b32 %0, %1;", ~a);
INSTRUCTION32(Cnot32, "cnot.b32 %0, %1;", a == 0);
INSTRUCTION32(Shl32, "shl.b32 %0, %1, %2;", b > 31 ? 0 : a << b);
INSTRUCTION32(ShrUnsigned, "shr.u32 %0, %1, %2;", b > 31 ? 0 : a >> b);
INSTRUCTION32(ShrSigned, "shr.s32 %0, %1, %2;", static_cast<s32>(a) >> std::min(b, 31u));
INSTRUCTION64(Shl64, "{.reg .b32 n; cvt.u32.u64 n, %2; shl.b64 %0, %1, n;}", static_cast<u32>(b) > 63 ? 0 : a << static_cast<u32>(b));
INSTRUCTION32(Popc32, "popc.b32 %0, %1;", __builtin_popcount(a));
INSTRUCTION64(Popc64, "{.reg .b32 n; popc.b64 n, %1; cvt.u64.u32 %0, n;}", __builtin_popcountll(a));
INSTRUCTION32(Clz32, "clz.b32 %0, %1;", a ? __builtin_clz(a) : 32);
INSTRUCTION64(Clz64, "{.reg .b32 n; clz.b64 n, %1; cvt.u64.u32 %0, n;}", a ? __builtin_clzll(a) : 64);
INSTRUCTION32(Brev32, "brev.b32 %0, %1;", reversed(a));
INSTRUCTION32(BfindUnsigned, "bfind.u32 %0, %1;", top_bit(a));
INSTRUCTION32(BfindSigned, "bfind.s32 %0, %1;", top_bit(static_cast<s32>(a) < 0 ? ~a : a));
INSTRUCTION32(BfindShift, "bfind.shiftamt.u32 %0, %1;", a ? __builtin_clz(a) : ~0u);
INSTRUCTION32(BfeUnsigned, "bfe.u32 %0, %1, %2, %3;", extracted(a, b, c, false));
INSTRUCTION32(BfeSigned, "bfe.s32 %0, %1, %2, %3;", extracted(a, b, c, true));
INSTRUCTION32(Bfi32, "bfi.b32 %0, %1, %1, %2, %3;", inserted(a, a, b, c));
INSTRUCTION32(ShfLeftWrap, "shf.l.wrap.b32 %0, %1, %2, %3;", (u64{b} << 32 | a) << (c & 31) >> 32);
INSTRUCTION32(ShfRightClamp, "shf.r.clamp.b32 %0, %1, %2, %3;", (u64{b} << 32 | a) >> std::min(c, 32u));
INSTRUCTION32(Prmt, "prmt.b32 %0, %1, %2, %3;", permuted(a, b, c));
const Add bits("bits", [] {
  check<And32, u32>(), check<Or64, u64>(), check<Xor32, u32>(), check<Not32, u32>(), check<Cnot32, u32>(), check<Shl32, u32>();
  check<ShrUnsigned, u32>(), check<ShrSigned, u32>(), check<Shl64, u64>(), check<Popc32, u32>(), check<Popc64, u64>();
  check<Clz32, u32>(), check<Clz64, u64>(), check<Brev32, u32>(), check<BfindUnsigned, u32>(), check<BfindSigned, u32>();
  check<BfindShift, u32>(), check<BfeUnsigned, u32>(), check<BfeSigned, u32>(), check<Bfi32, u32>(), check<ShfLeftWrap, u32>();
  check<ShfRightClamp, u32>(), check<Prmt, u32>();
});

/// lop3's table is the function's value for a = 0xf0, b = 0xcc, c = 0xaa.
template <int kTable>
__global__ void lop3_kernel(u32* d, const u32* in) {
  asm volatile("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d[0]) : "r"(in[0]), "r"(in[1]), "r"(in[2]), "n"(kTable));
}
template <int kTable>
void check_lop3() {
  Buffer<u32> d(1), in(std::vector<u32>{0xf0, 0xcc, 0xaa});
  lop3_kernel<kTable><<<1, 1>>>(d.p, in.p);
  EXPECT((d.get()[0] & 0xff) == kTable);
}
const Add tables("lop3", [] {
  check_lop3<0x00>(), check_lop3<0x01>(), check_lop3<0x96>(), check_lop3<0xe8>(), check_lop3<0x3a>(), check_lop3<0xff>();
});

// --- comparisons and selections; true is 1 ---

#define SETP(op) "{.reg .pred p; setp." op " p, %1, %2; selp.u32 %0, 1, 0, p;}"
INSTRUCTION32(LessSigned, SETP("lt.s32"), static_cast<s32>(a) < static_cast<s32>(b));
INSTRUCTION32(LessUnsigned, SETP("lo.u32"), a < b);
INSTRUCTION32(HigherSame, SETP("hs.u32"), a >= b);
INSTRUCTION32(EqualFloat, SETP("eq.f32"), as_float(a) == as_float(b));
INSTRUCTION32(UnequalFloat, SETP("ne.f32"), as_float(a) < as_float(b) || as_float(a) > as_float(b));
INSTRUCTION32(GreaterFloat, SETP("gt.f32"), as_float(a) > as_float(b));
INSTRUCTION32(LessUnordered, SETP("ltu.f32"), !(as_float(a) >= as_float(b)));
INSTRUCTION32(GreaterEqualUnordered, SETP("geu.f32"), !(as_float(a) < as_float(b)));
INSTRUCTION32(UnequalUnordered, SETP("neu.f32"), as_float(a) != as_float(b));
INSTRUCTION32(Numbers, SETP("num.f32"), as_float(a) == as_float(a) && as_float(b) == as_float(b));
INSTRUCTION32(NotNumbers, SETP("nan.f32"), as_float(a) != as_float(a) || as_float(b) != as_float(b));
INSTRUCTION32(Combined,
              "{.reg .pred p, q, r; setp.lt.u32 r, %3, 100; setp.ge.and.u32 p|q, %1, %2, !r; selp.u32 %0, 1, 0, p; @q add.u32 %0, %0, 2;}",
              c < 100  ? 0
              : a >= b ? 1
                       : 2);
INSTRUCTION32(PredicateLogic,
              "{.reg .pred p, q; setp.lt.u32 p, %1, %2; setp.lt.u32 q, %2, %3; xor.pred p, p, !q; not.pred p, p; selp.u32 %0, 1, 0, p;}",
              (a < b) ^ (b < c));
INSTRUCTION32(SetOnes, "set.le.u32.s32 %0, %1, %2;", static_cast<s32>(a) <= static_cast<s32>(b) ? ~0u : 0u);
INSTRUCTION32(SetFloat, "set.lt.f32.f32 %0, %1, %2;", as_float(a) < as_float(b) ? 0x3f800000u : 0u);
INSTRUCTION32(Slct, "slct.b32.s32 %0, %1, %2, %3;", static_cast<s32>(c) >= 0 ? a : b);
INSTRUCTION64(Selp64, "{.reg .pred p; setp.lt.s64 p, %1, %2; selp.b64 %0, %2, %3, p;}", static_cast<s64>(a) < static_cast<s64>(b) ? b : c);
const Add comparisons("comparisons", [] {
  check<LessSigned, u32>(), check<LessUnsigned, u32>(), check<HigherSame, u32>(), check<EqualFloat, u32>(), check<UnequalFloat, u32>();
  check<GreaterFloat, u32>(), check<LessUnordered, u32>(), check<GreaterEqualUnordered, u32>(), check<UnequalUnordered, u32>();
  check<Numbers, u32>(), check<NotNumbers, u32>(), check<Combined, u32>(), check<PredicateLogic, u32>(), check<SetOnes, u32>();
  check<SetFloat, u32>(), check<Slct, u32>(), check<Selp64, u64>();
});

// --- floats; the bits of a NaN vary, so results are made canonical ---

u32 canonical(float f) { return f != f ? 0x7fc00000u : bits_of(f); }
u64 canonical(double d) { return d != d ? 0x7ff8000000000000ull : bits_of(d); }
#define FLOAT(op) "{.reg .pred p; " op " setp.nan.f32 p, %0, %0; @p mov.b32 %0, 0x7fc00000;}"
#define DOUBLE(op) "{.reg .pred p; " op " setp.nan.f64 p, %0, %0; @p mov.b64 %0, 0x7ff8000000000000;}"
float flushed(float f) { return std::fpclassify(f) == FP_SUBNORMAL ? std::copysign(0.0f, f) : f; }
float least(float a, float b) { return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? a : b) : std::min(a, b); }
float most(float a, float b) { return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? b : a) : std::max(a, b); }
float clamped(float f) { return f > 0.0f ? std::min(f, 1.0f) : 0.0f; }
/// The largest float not above the exact value: .rm rounding.
float downward(double exact) {
  const auto f = static_cast<float>(exact);
  return static_cast<double>(f) > exact ? std::nextafter(f, -INFINITY) : f;
}

INSTRUCTION32(AddFloat, FLOAT("add.f32 %0, %1, %2;"), canonical(as_float(a) + as_float(b)));
INSTRUCTION32(AddFlushed, FLOAT("add.ftz.f32 %0, %1, %2;"), canonical(flushed(flushed(as_float(a)) + flushed(as_float(b)))));
INSTRUCTION32(AddSaturated, FLOAT("add.sat.f32 %0, %1, %2;"), canonical(clamped(as_float(a) + as_float(b))));
INSTRUCTION32(SubFloat, FLOAT("sub.rn.f32 %0, %1, %2;"), canonical(as_float(a) - as_float(b)));
INSTRUCTION32(MulFloat, FLOAT("mul.f32 %0, %1, %2;"), canonical(as_float(a) * as_float(b)));
INSTRUCTION32(FmaFloat, FLOAT("fma.rn.f32 %0, %1, %2, %3;"), canonical(std::fma(as_float(a), as_float(b), as_float(c))));
INSTRUCTION64(FmaDouble, DOUBLE("fma.rn.f64 %0, %1, %2, %3;"), canonical(std::fma(as_double(a), as_double(b), as_double(c))));
INSTRUCTION32(DivFloat, FLOAT("div.rn.f32 %0, %1, %2;"), canonical(as_float(a) / as_float(b)));
INSTRUCTION32(SqrtFloat, FLOAT("sqrt.rn.f32 %0, %1;"), canonical(std::sqrt(as_float(a))));
INSTRUCTION32(RcpFloat, FLOAT("rcp.rn.f32 %0, %1;"), canonical(1.0f / as_float(a)));
INSTRUCTION32(MinFloat, FLOAT("min.f32 %0, %1, %2;"), canonical(least(as_float(a), as_float(b))));
INSTRUCTION32(MaxFloat, FLOAT("max.f32 %0, %1, %2;"), canonical(most(as_float(a), as_float(b))));
INSTRUCTION32(NegFloat, FLOAT("neg.f32 %0, %1;"), canonical(-as_float(a)));
INSTRUCTION32(AbsFloat, FLOAT("abs.f32 %0, %1;"), canonical(std::fabs(as_float(a))));
INSTRUCTION32(CopySign, FLOAT("copysign.f32 %0, %1, %2;"), canonical(std::copysign(as_float(b), as_float(a))));
INSTRUCTION32(AddDown, "{.reg .f32 x, y; cvt.rn.f32.s32 x, %1; mul.f32 y, x, 0f2f800000; add.rm.f32 %0, y, 0f3f800000;}",
              bits_of(downward(1.0 + static_cast<double>(static_cast<float>(static_cast<s32>(a)) * 0x1p-32f))));
INSTRUCTION32(RsqrtApproximate, FLOAT("rsqrt.approx.f32 %0, %1;"), canonical(static_cast<float>(1.0 / std::sqrt(double{as_float(a)}))));
INSTRUCTION32(Ex2Approximate, FLOAT("ex2.approx.f32 %0, %1;"), canonical(static_cast<float>(std::exp2(double{as_float(a)}))));
INSTRUCTION32(Lg2Approximate, FLOAT("lg2.approx.f32 %0, %1;"), canonical(static_cast<float>(std::log2(double{as_float(a)}))));
INSTRUCTION32(SinApproximate, FLOAT("sin.approx.f32 %0, %1;"), canonical(static_cast<float>(std::sin(double{as_float(a)}))));
INSTRUCTION32(CosApproximate, FLOAT("cos.approx.f32 %0, %1;"), canonical(static_cast<float>(std::cos(double{as_float(a)}))));
INSTRUCTION32(TanhApproximate, FLOAT("tanh.approx.f32 %0, %1;"), canonical(static_cast<float>(std::tanh(double{as_float(a)}))));
INSTRUCTION32(DivApproximate, FLOAT("div.full.f32 %0, %1, %2;"), canonical(as_float(a) / as_float(b)));
const Add floats("floats", [] {
  check<AddFloat, u32>(), check<AddFlushed, u32>(), check<AddSaturated, u32>(), check<SubFloat, u32>(), check<MulFloat, u32>();
  check<FmaFloat, u32>(), check<FmaDouble, u64>(), check<DivFloat, u32>(), check<SqrtFloat, u32>(), check<RcpFloat, u32>();
  check<MinFloat, u32>(), check<MaxFloat, u32>(), check<NegFloat, u32>(), check<AbsFloat, u32>(), check<CopySign, u32>();
  check<AddDown, u32>(), check<RsqrtApproximate, u32>(), check<Ex2Approximate, u32>(), check<Lg2Approximate, u32>();
  check<SinApproximate, u32>(), check<CosApproximate, u32>(), check<TanhApproximate, u32>(), check<DivApproximate, u32>();
});

// --- conversions ---

template <class T, class From = float>
T to_integer(double v) {
  if (v != v) return sizeof(T) == 8 || sizeof(From) == 8 ? static_cast<T>(T{1} << (8 * sizeof(T) - 1)) : 0;
  if (v <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (v >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(v);
}
#define TO_HALF(op) "{.reg .b16 h; " op " cvt.u32.u16 %0, h;}"

INSTRUCTION32(FloatToSigned, "cvt.rzi.s32.f32 %0, %1;", to_integer<s32>(std::trunc(as_float(a))));
INSTRUCTION32(FloatToNearest, "cvt.rni.s32.f32 %0, %1;", to_integer<s32>(std::nearbyint(as_float(a))));
INSTRUCTION32(FloatToCeiling, "cvt.rpi.u32.f32 %0, %1;", to_integer<u32>(std::ceil(as_float(a))));
INSTRUCTION64(DoubleToLong, "cvt.rmi.s64.f64 %0, %1;", to_integer<s64>(std::floor(as_double(a))));
INSTRUCTION64(DoubleToInt, "{.reg .b32 x; cvt.rzi.s32.f64 x, %1; cvt.s64.s32 %0, x;}",
              s64{to_integer<s32, double>(std::trunc(as_double(a)))});
INSTRUCTION64(FloatToLong, "{.reg .b32 x; cvt.u32.u64 x, %1; cvt.rzi.u64.f32 %0, x;}",
              to_integer<u64>(std::trunc(as_float(static_cast<u32>(a)))));
INSTRUCTION32(SignedToFloat, "cvt.rn.f32.s32 %0, %1;", bits_of(static_cast<float>(static_cast<s32>(a))));
INSTRUCTION32(UnsignedToFloatDown, "cvt.rm.f32.u32 %0, %1;", bits_of(downward(a)));
INSTRUCTION64(LongToDouble, "cvt.rn.f64.s64 %0, %1;", bits_of(static_cast<double>(static_cast<s64>(a))));
INSTRUCTION32(FloatToFloor, FLOAT("cvt.rmi.f32.f32 %0, %1;"), canonical(std::floor(as_float(a))));
INSTRUCTION32(FloatSaturated, FLOAT("cvt.sat.f32.f32 %0, %1;"), canonical(clamped(as_float(a))));
INSTRUCTION64(SignExtend, "{.reg .b32 x; cvt.u32.u64 x, %1; cvt.s64.s32 %0, x;}", s64{static_cast<s32>(a)});
INSTRUCTION64(ZeroExtend, "{.reg .b32 x; cvt.u32.u64 x, %1; cvt.u64.u32 %0, x;}", static_cast<u32>(a));
INSTRUCTION32(FromByte, "cvt.s32.s8 %0, %1;", static_cast<std::int8_t>(a));
INSTRUCTION32(SaturateShort, "{.reg .b16 h; cvt.sat.s16.s32 h, %1; cvt.s32.s16 %0, h;}",
              std::max(-32768, std::min(32767, static_cast<s32>(a))));
INSTRUCTION32(SaturateByte, "cvt.sat.u8.s32 %0, %1;", std::max(0, std::min(255, static_cast<s32>(a))));
INSTRUCTION32(ExactHalf, TO_HALF("cvt.rn.f16.s32 h, 2047;"), 0x67ff);
INSTRUCTION32(TieHalf, TO_HALF("cvt.rn.f16.s32 h, 2049;"), 0x6800);
INSTRUCTION32(BeyondHalf, TO_HALF("cvt.rn.f16.s32 h, 65520;"), 0x7c00);
INSTRUCTION32(DownHalf, TO_HALF("cvt.rz.f16.f32 h, 0f477fffff;"), 0x7bff);
INSTRUCTION32(SubnormalHalf, TO_HALF("cvt.rn.f16.f32 h, 0f33c00000;"), 2);
INSTRUCTION32(HalfToFloat, "{.reg .b16 h; mov.b16 h, 0xc248; cvt.f32.f16 %0, h;}", bits_of(-3.140625f));
const Add conversions("conversions", [] {
  check<FloatToSigned, u32>(), check<FloatToNearest, u32>(), check<FloatToCeiling, u32>(), check<DoubleToLong, u64>(),
      check<DoubleToInt, u64>(), check<FloatToLong, u64>();
  check<SignedToFloat, u32>(), check<UnsignedToFloatDown, u32>(), check<LongToDouble, u64>(), check<FloatToFloor, u32>();
  check<FloatSaturated, u32>(), check<SignExtend, u64>(), check<ZeroExtend, u64>(), check<FromByte, u32>(), check<SaturateShort, u32>();
  check<SaturateByte, u32>(), check<ExactHalf, u32>(), check<TieHalf, u32>(), check<BeyondHalf, u32>(), check<DownHalf, u32>();
  check<SubnormalHalf, u32>(), check<HalfToFloat, u32>();
});

// 1.5, -2 and 0.25 as pairs of bfloat16 and of half
INSTRUCTION32(PairToBrain, "cvt.rn.bf16x2.f32 %0, 0f3f800000, 0fc0200000;", 0x3f80c020);
INSTRUCTION32(PairToHalf, "cvt.rn.f16x2.f32 %0, 0f3f800000, 0fc0200000;", 0x3c00c100);
INSTRUCTION32(ReluToBrain, "cvt.rn.relu.bf16x2.f32 %0, 0f3f800000, 0fc0200000;", 0x3f800000);
INSTRUCTION32(ToTf32, "cvt.rna.tf32.f32 %0, 0f3f801000;", 0x3f802000);
#define FMA_PAIRS(type, a, b, c) "{.reg .b32 x, y, z; mov.b32 x, " a "; mov.b32 y, " b "; mov.b32 z, " c "; fma.rn." type " %0, x, y, z;}"
INSTRUCTION32(FmaBrain, FMA_PAIRS("bf16x2", "0x3fc0c000", "0x3fc03e80", "0x3e803fc0"), 0x40203f80);
INSTRUCTION32(FmaHalf, FMA_PAIRS("f16x2", "0x3e00c000", "0x3e003400", "0x34003e00"), 0x41003c00);
const Add halves("sm80_halves", [] {
  check<PairToBrain, u32>(), check<PairToHalf, u32>(), check<ReluToBrain, u32>(), check<ToTf32, u32>(), check<FmaBrain, u32>();
  check<FmaHalf, u32>();
});

// --- moves ---

INSTRUCTION64(PackUnpack, "{.reg .b32 low, high; mov.b64 {low, high}, %1; mov.b64 %0, {high, low};}", a >> 32 | a << 32);
INSTRUCTION32(Halves16, "{.reg .b16 low, high; mov.b32 {low, high}, %1; mov.b32 %0, {high, low};}", a >> 16 | a << 16);
const Add moves("moves", [] { check<PackUnpack, u64>(), check<Halves16, u32>(); });

}  // namespace
