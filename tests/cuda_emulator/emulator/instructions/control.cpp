// Control flow, barriers and fences (PTX ISA, "Control Flow Instructions" and "Parallel Synchronization and Communication").
//
// Fences do nothing: the emulator's memory is sequentially consistent.
#include "instructions/operands.hpp"
#include "instructions/tables.hpp"
#include "report.hpp"

namespace emu {
namespace {

void decode_bra(Decoder& d) {
  d.take("uni");
  d.expect_operands(1);
  d.op.cls = Class::kControl;
  d.op.control = Control::kBranch;
}
void decode_exit(Decoder& d) {
  d.take("uni");
  d.op.cls = Class::kControl;
  d.op.control = Control::kExit;
}

void trap(Warp& w, const Op& op, Mask mask) {
  report(w, op, first_lane(mask), "trap", "the kernel executes trap");
  throw LaunchAborted{};
}
void decode_trap(Decoder& d) {
  d.op.run = trap;
  d.op.cls = Class::kControl;
}

void nothing(Warp&, const Op&, Mask) {}
void decode_nothing(Decoder& d) {
  for (std::size_t i = 1; i < d.taken.size(); ++i) d.taken[i] = true;
  d.op.cls = Class::kControl;
  d.op.run = nothing;
}

void decode_nanosleep(Decoder& d) {
  d.take_type();
  d.op.cls = Class::kControl;
  d.op.control = Control::kYield;
}

void warp_barrier(Warp& w, const Op& op, Mask mask) {
  const Mask named = w.row<std::uint32_t>(op.o[0])[first_lane(mask)];
  if (options().sync && (named & w.alive) != mask)
    report(w, op, first_lane(mask), "warp divergence", "bar.warp.sync names lanes " + hex(named) + "; lanes " + hex(mask) + " execute it");
  w.advance_clock();
}
void decode_bar(Decoder& d) {
  d.take("cta");
  d.op.cls = Class::kBarrier;
  if (d.take("warp")) {
    d.take("sync");
    d.expect_operands(1);
    d.read(d.s.operands[0], Type::kB32);
    d.op.run = warp_barrier;
    return;
  }
  const int kind = d.take_one({"sync", "arrive", "red"});
  if (kind == 2) d.fail("is not emulated");
  d.take("aligned");
  for (const auto& o : d.s.operands) d.read(o, Type::kU32);
  if (d.s.operands.empty()) d.read_value(0, false);
  d.op.control = kind == 1 ? Control::kArrive : Control::kBarrier;
}

/// Calls of functions that the driver provides: vprintf, malloc, __assertfail.
void system_call(Warp& w, const Op& op, Mask mask) {
  const std::string& name = w.block->launch->program->statements[op.statement].parts[1];
  const char* kind = name == "__assertfail" ? "assertion" : "call";
  report(w, op, first_lane(mask), kind, "the kernel calls " + name + ", which is not emulated");
}
void decode_system_call(Decoder& d) {
  d.taken[1] = true;
  d.op.cls = Class::kControl;
  d.op.run = system_call;
}

}  // namespace

void add_control(InstructionTable& t) {
  t["bra"] = decode_bra;
  t["ret"] = decode_exit;
  t["exit"] = decode_exit;
  t["trap"] = decode_trap;
  t["nanosleep"] = decode_nanosleep;
  t["bar"] = decode_bar;
  t["barrier"] = decode_bar;
  for (const char* name : {"membar", "fence", "prefetch", "griddepcontrol", "pmevent"}) t[name] = decode_nothing;
  t["system_call"] = decode_system_call;  // made by the inliner
}

}  // namespace emu
