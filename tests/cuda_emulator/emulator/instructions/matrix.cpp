// Matrix instructions: mma.sync, ldmatrix, stmatrix, movmatrix (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions").
//
// The ISA does not specify the order and the rounding of mma's sums. Here the products are exact, summed in double and rounded once, so a
// GPU's result may differ in the last bits. Tests need small integers or a tolerance that fits the format.
#include <cstring>

#include "execution/memory_access.hpp"
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"
#include "report.hpp"

namespace emu {
namespace {

bool check_whole_warp(Warp& w, const Op& op, Mask mask) {
  if (mask == kAllLanes) return true;
  report(w, op, first_lane(~mask), "warp divergence", "the instruction needs all 32 lanes; lanes " + hex(mask) + " execute it");
  return false;
}

// --- mma ---

/// Fragments of m16n8k<depth>, with `packed` elements per register. g = lane / 4, t = lane % 4:
///   register r of A: row g + 8 (r % 2), columns t packed + e + (r / 2) (4 packed)
///   register r of B: column g, rows t packed + e + r (4 packed)
///   C and D: rows g, g, g + 8, g + 8; columns 2t, 2t + 1, 2t, 2t + 1
struct Shape {
  int depth, packed, a_registers, b_registers;
};
constexpr Shape kShapes[] = {
    {4, 1, 2, 1},   // TF32 k4
    {8, 1, 4, 2},   // TF32 k8
    {8, 2, 2, 1},   // half k8
    {16, 2, 4, 2},  // half k16
    {16, 4, 2, 1},  // 8-bit integers k16
    {32, 4, 4, 2},  // 8-bit integers k32
};

/// A and B of a warp, unpacked.
template <class T>
struct Operands {
  T a[16][32] = {}, b[32][8] = {};
};

/// value(bits) converts an element.
template <class T, class F>
Operands<T> read_operands(const Warp& w, const Ref* refs, const Shape& s, F value) {
  Operands<T> m;
  const int bits = 32 / s.packed, across = 4 * s.packed;
  const auto element = [&](Ref ref, int lane, int e) {
    const std::uint32_t word = w.row<std::uint32_t>(ref)[lane];
    return value(bits == 32 ? word : word >> (bits * e) & ((1u << bits) - 1));
  };
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int e = 0; e < s.packed; ++e) {
      for (int r = 0; r < s.a_registers; ++r) m.a[g + 8 * (r % 2)][t * s.packed + e + r / 2 * across] = element(refs[r], lane, e);
      for (int r = 0; r < s.b_registers; ++r) m.b[t * s.packed + e + r * across][g] = element(refs[s.a_registers + r], lane, e);
    }
  }
  return m;
}

template <class T>
T dot(const Operands<T>& m, const Shape& s, int lane, int r, T sum) {
  const int row = lane / 4 + 8 * (r / 2), column = 2 * (lane % 4) + r % 2;
  for (int k = 0; k < s.depth; ++k) sum += m.a[row][k] * m.b[k][column];
  return sum;
}

/// Accumulators are floats (4 registers), or halves (2 registers) if op.flags is set.
template <class F>
void multiply(Warp& w, const Op& op, F value) {
  const Shape& s = kShapes[op.variant];
  const Operands<double> m = read_operands<double>(w, op.o + op.writes, s, value);
  const Ref* const c = op.o + op.writes + s.a_registers + s.b_registers;
  std::uint32_t d[4][kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    for (int r = 0; r < 4; ++r) {
      if (op.flags) {
        const double sum = half_value<false>(w.row<std::uint32_t>(c[r / 2])[lane] >> (16 * (r % 2)) & 0xffff);
        d[r][lane] = half_bits<false>(dot(m, s, lane, r, sum));
      } else {
        const double sum = get<float>(w.row<std::uint32_t>(c[r])[lane]);
        d[r][lane] = put<float>(static_cast<float>(dot(m, s, lane, r, sum)));
      }
    }
  for (int r = 0; r < op.writes; ++r)
    for (int lane = 0; lane < kLanes; ++lane)
      w.row<std::uint32_t>(op.o[r])[lane] = op.flags ? d[2 * r][lane] | d[2 * r + 1][lane] << 16 : d[r][lane];
}
void mma(Warp& w, const Op& op, Mask mask) {
  if (!check_whole_warp(w, op, mask)) return;
  if (op.from == Type::kTF32)
    multiply(w, op, tf32_read);
  else if (op.from == Type::kF16)
    multiply(w, op, half_value<false>);
  else
    multiply(w, op, half_value<true>);
}

template <class T>
void mma_integer(Warp& w, const Op& op, Mask mask) {
  if (!check_whole_warp(w, op, mask)) return;
  const Shape& s = kShapes[op.variant];
  const Operands<std::int32_t> m =
      read_operands<std::int32_t>(w, op.o + op.writes, s, [](std::uint32_t bits) { return std::int32_t{static_cast<T>(bits)}; });
  const Ref* const c = op.o + op.writes + s.a_registers + s.b_registers;
  std::uint32_t d[4][kLanes];
  for (int lane = 0; lane < kLanes; ++lane)
    for (int r = 0; r < 4; ++r)
      d[r][lane] = static_cast<std::uint32_t>(dot(m, s, lane, r, static_cast<std::int32_t>(w.row<std::uint32_t>(c[r])[lane])));
  for (int r = 0; r < 4; ++r) std::memcpy(w.row<std::uint32_t>(op.o[r]), d[r], sizeof d[r]);
}

/// Index in kShapes; fails for combinations that the ISA does not have or the emulator does not support.
int shape_of(Decoder& d, int depth, Type element, Type accumulator) {
  const bool integer = element == Type::kS8 || element == Type::kU8, half = element == Type::kF16 || element == Type::kBF16;
  if (element == Type::kTF32 && accumulator == Type::kF32 && depth <= 8) return depth == 4 ? 0 : 1;
  if (half && (accumulator == Type::kF32 || (accumulator == Type::kF16 && element == Type::kF16)) && (depth == 8 || depth == 16))
    return depth == 8 ? 2 : 3;
  if (integer && accumulator == Type::kS32 && depth >= 16) return depth == 16 ? 4 : 5;
  d.fail("these types are not emulated with this shape");
}

void decode_mma(Decoder& d) {
  d.take("sync");
  if (!d.take("aligned")) d.fail("is not emulated without .aligned");
  static constexpr int kDepths[] = {4, 8, 16, 32};
  const int shape = d.take_one({"m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32"});
  if (shape < 0 || !d.take("row") || !d.take("col")) d.fail("this shape or layout is not emulated");
  if (d.take("satfinite")) d.fail(".satfinite is not emulated");
  const Type accumulator = d.take_type(), element = d.op.from = d.take_type();
  if (d.take_type() != element || d.take_type() != accumulator) d.fail("mixed types are not emulated");
  d.op.variant = static_cast<std::uint8_t>(shape_of(d, kDepths[shape], element, accumulator));
  const Shape& s = kShapes[d.op.variant];
  const int accumulators = accumulator == Type::kF16 ? 2 : 4;
  d.expect_operands(4);
  for (const auto& part : registers_of(d, d.s.operands[0], accumulators)) d.write(part, Type::kB32);
  for (const auto& part : registers_of(d, d.s.operands[1], s.a_registers)) d.read(part, Type::kB32);
  for (const auto& part : registers_of(d, d.s.operands[2], s.b_registers)) d.read(part, Type::kB32);
  for (const auto& part : registers_of(d, d.s.operands[3], accumulators)) d.read(part, Type::kB32);
  d.op.flags = accumulators == 2;
  d.op.cls = Class::kMatrix;
  d.op.run = accumulator != Type::kS32 ? mma : element == Type::kS8 ? mma_integer<std::int8_t> : mma_integer<std::uint8_t>;
}

// --- ldmatrix, stmatrix, movmatrix: 8 x 8 matrices of 16-bit elements ---

/// A lane's register holds elements 2 (lane % 4) and 2 (lane % 4) + 1 of row lane / 4; transposed: of column lane / 4.
struct Matrix {
  std::uint16_t at[8][8];
  std::uint16_t& element(int lane, int e, bool transposed) {
    const int g = lane / 4, t = 2 * (lane % 4) + e;
    return transposed ? at[t][g] : at[g][t];
  }
  void to_registers(std::uint32_t* d, bool transposed) {
    for (int lane = 0; lane < kLanes; ++lane)
      d[lane] = element(lane, 0, transposed) | static_cast<std::uint32_t>(element(lane, 1, transposed)) << 16;
  }
  void from_registers(const std::uint32_t* s, bool transposed) {
    for (int lane = 0; lane < kLanes; ++lane)
      for (int e = 0; e < 2; ++e) element(lane, e, transposed) = static_cast<std::uint16_t>(s[lane] >> (16 * e));
  }
};

/// Lanes 8m to 8m + 7 hold the row addresses of matrix m. Returns false if an address is illegal.
bool rows_of(Warp& w, const Op& op, Access access, std::uint8_t** rows) {
  const int count = op.variant;
  std::uint64_t addresses[kLanes];
  addresses_of(w, op, access == Access::kLoad ? op.writes : 0, addresses);
  for (auto& a : addresses) a &= ~kWindowMask;
  const Mask lanes = count == 4 ? kAllLanes : (1u << (8 * count)) - 1;
  return access_shared(w, op, lanes, addresses, 16, access, rows) == lanes;
}
void ldmatrix(Warp& w, const Op& op, Mask mask) {
  std::uint8_t* from[kLanes];
  if (!check_whole_warp(w, op, mask) || !rows_of(w, op, Access::kLoad, from)) return;
  for (int m = 0; m < op.variant; ++m) {
    Matrix matrix;
    for (int r = 0; r < 8; ++r) std::memcpy(matrix.at[r], from[8 * m + r], 16);
    matrix.to_registers(w.row<std::uint32_t>(op.o[m]), op.flags);
  }
}
void stmatrix(Warp& w, const Op& op, Mask mask) {
  std::uint8_t* to[kLanes];
  if (!check_whole_warp(w, op, mask) || !rows_of(w, op, Access::kStore, to)) return;
  for (int m = 0; m < op.variant; ++m) {
    Matrix matrix;
    matrix.from_registers(w.row<std::uint32_t>(op.o[1 + m]), op.flags);
    for (int r = 0; r < 8; ++r) std::memcpy(to[8 * m + r], matrix.at[r], 16);
  }
}
void movmatrix(Warp& w, const Op& op, Mask mask) {
  if (!check_whole_warp(w, op, mask)) return;
  Matrix matrix;
  matrix.from_registers(w.row<std::uint32_t>(op.o[1]), false);
  matrix.to_registers(w.row<std::uint32_t>(op.o[0]), true);
}

/// Decodes the common modifiers. Returns the number of matrices.
int take_matrices(Decoder& d) {
  d.take("sync");
  d.take("aligned");
  if (!d.take("m8n8")) d.fail("this shape is not emulated");
  const int count = d.take("x1") ? 1 : d.take("x2") ? 2 : d.take("x4") ? 4 : 0;
  d.op.flags = d.take("trans");
  d.take_one({"shared", "shared::cta"});
  if (!d.take("b16") || count == 0) d.fail("this form is not emulated");
  d.expect_operands(2);
  d.op.variant = static_cast<std::uint8_t>(count);
  d.op.space = Space::kShared;
  return count;
}
void decode_ldmatrix(Decoder& d) {
  const int count = take_matrices(d);
  for (const auto& part : registers_of(d, d.s.operands[0], count)) d.write(part, Type::kB32);
  d.address(d.s.operands[1]);
  d.op.cls = Class::kSharedLoad;
  d.op.run = ldmatrix;
}
void decode_stmatrix(Decoder& d) {
  const int count = take_matrices(d);
  d.address(d.s.operands[0]);
  for (const auto& part : registers_of(d, d.s.operands[1], count)) d.read(part, Type::kB32);
  d.op.cls = Class::kSharedStore;
  d.op.run = stmatrix;
}
void decode_movmatrix(Decoder& d) {
  d.take("sync"), d.take("aligned");
  if (!d.take("m8n8") || !d.take("trans") || !d.take("b16")) d.fail("this form is not emulated");
  d.expect_operands(2);
  d.write(d.s.operands[0], Type::kB32);
  d.read(d.s.operands[1], Type::kB32);
  d.op.cls = Class::kWarp;
  d.op.run = movmatrix;
}

}  // namespace

void add_matrix(InstructionTable& t) {
  t["mma"] = decode_mma;
  t["ldmatrix"] = decode_ldmatrix;
  t["stmatrix"] = decode_stmatrix;
  t["movmatrix"] = decode_movmatrix;
}

}  // namespace emu
