// A decoded kernel, in the form that the interpreter executes. A kernel is decoded once per device.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ptx/parser.hpp"

namespace emu {

constexpr int kLanes = 32;
using Mask = std::uint32_t;
constexpr Mask kAllLanes = 0xffffffffu;

inline int first_lane(Mask mask) { return __builtin_ctz(mask); }

/// Generic addresses of shared memory, local memory and parameters are offsets within these windows. Instructions that name the state space
/// use plain offsets. Device memory is outside all windows.
constexpr std::uint64_t kSharedWindow = 0x0100000000000000ull;
constexpr std::uint64_t kLocalWindow = 0x0200000000000000ull;
constexpr std::uint64_t kParamWindow = 0x0300000000000000ull;
constexpr std::uint64_t kWindowMask = 0xff00000000000000ull;
/// Offset of the first byte of shared and local memory: a null pointer is out of bounds.
constexpr std::uint32_t kFirstShared = 1024;
constexpr std::uint32_t kFirstLocal = 1024;

enum class Type : std::uint8_t {
  kNone,
  kPred,
  kU8,
  kS8,
  kB8,
  kU16,
  kS16,
  kB16,
  kU32,
  kS32,
  kB32,
  kU64,
  kS64,
  kB64,
  kB128,
  kF16,
  kBF16,
  kF16x2,
  kBF16x2,
  kTF32,
  kF32,
  kF64
};
/// The type named, such as "f32"; kNone: unknown.
Type type_of(const std::string& name);
/// Bytes of a value; 0 for kNone.
int bytes_of(Type type);
bool is_signed(Type type);
bool is_float(Type type);

enum class Space : std::uint8_t { kGeneric, kGlobal, kShared, kLocal, kConst, kParam };

/// Instruction classes of the counters.
enum class Class : std::uint8_t {
  kFma,
  kFloat,
  kSpecial,
  kInteger,
  kConvert,
  kMove,
  kControl,
  kGlobalLoad,
  kGlobalStore,
  kSharedLoad,
  kSharedStore,
  kOtherMemory,
  kAtomic,
  kBarrier,
  kWarp,
  kAsyncCopy,
  kMatrix,
  kCount
};
extern const char* const kClassNames[static_cast<int>(Class::kCount)];

/// Effect on control flow, implemented by the interpreter's loop.
enum class Control : std::uint8_t { kNone, kBranch, kExit, kBarrier, kArrive, kYield };

struct Op;
struct Warp;
using Handler = void (*)(Warp&, const Op&, Mask);

/// Byte offset of an operand's row of 32 lanes in the warp's registers, or, if the lowest bit is set, in the kernel's constants. Before
/// register allocation: twice the register's number.
using Ref = std::uint32_t;
inline bool is_constant(Ref ref) { return ref & 1; }

struct Op {
  Handler run = nullptr;
  const Ref* o = nullptr;        // operands: results, then sources
  std::int64_t offset = 0;       // of the address
  std::int32_t guard = -1;       // Ref of a predicate; -1: none
  std::int32_t target = -1;      // kBranch
  std::int32_t reconverge = -1;  // kBranch: op at which the lanes reconverge; -1: they exit separately
  std::uint32_t number = 0;      // index in Program::ops
  std::uint32_t statement = 0;   // index in Program::statements
  bool guard_negated = false;
  Control control = Control::kNone;
  Class cls = Class::kMove;
  Space space = Space::kGeneric;
  Type type = Type::kNone, from = Type::kNone;
  std::uint8_t writes = 0, reads = 0;
  std::uint8_t bytes = 0;               // cp.async: size of a copy; mov: size of a vector's element
  std::uint8_t variant = 0, flags = 0;  // meaning depends on the handler
  std::uint64_t wide = 0;               // bit i: operand i is a 64-bit row
  std::uint32_t first_ref = 0;          // index of o in Program::refs
};

enum class RegisterClass : std::uint8_t { kPredicate, k32, k64 };

/// A register such as %tid.x, filled when a warp starts.
struct SpecialRegister {
  std::string name;
  Ref ref;
  bool wide;  // a 64-bit row
};

struct Program {
  std::string name;          // mangled
  std::string display_name;  // demangled, without namespaces and parameters
  std::vector<Op> ops;
  std::vector<Ref> refs;
  std::vector<std::uint8_t> constants;
  std::vector<Statement> statements;
  std::map<int, std::string> files;
  std::size_t register_bytes = 0;  // per warp
  int live_registers = 0;          // most 32-bit registers live at once: a lower bound for ptxas
  std::uint32_t static_shared = 0;
  std::uint32_t dynamic_align = 16, shared_begin = 0;  // dynamic shared memory: alignment, first byte
  std::uint32_t local_bytes = 0;                       // per thread
  std::uint32_t parameter_bytes = 0;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> parameters;  // offset, size
  int max_threads = 0;                                              // of __launch_bounds__; 0: none
  int arch = 0;                                                     // of the PTX
  std::vector<SpecialRegister> specials;
};

/// Addresses of the module's .global and .const variables on a device.
using Addresses = std::map<std::string, std::uint64_t>;

/// Decodes a kernel. Throws ParseError, which names the instruction that is not emulated.
Program decode(const Module& module, const Function& function, const Addresses& addresses);

}  // namespace emu
