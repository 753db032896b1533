"""Breaks the code on purpose, one place at a time, and reports whether the tests fail.

    python tests/mutations.py              # all; about ten minutes
    python tests/mutations.py -k barrier   # those whose name has this word
    python tests/mutations.py --list

Builds the host module in a copy of the checkout, which needs the packages of CONTRIBUTING.md's
set-up. Exits with 1 if a mutation survives that is not known to be equivalent, or if its text is no
longer in the code: then correct the table.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: A test that a mutation makes run for ever ends after this many seconds.
HANGS = 60


class Mutation(NamedTuple):
    """One change: the first `old` in `file` becomes `new`, and `tests` should fail.

    `equivalent`, if not empty, is the reason why no test can.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    equivalent: str = ""


CONV, POOL = "tests/kernels/test_conv.py", "tests/kernels/test_pool.py"
LRN, SPLIT = "tests/kernels/test_lrn.py", "tests/parallel/test_split.py"
BINDINGS = "tests/kernels/test_bindings.py"
WINOGRAD = "tests/kernels/test_winograd.py"
MUTATIONS = [
    Mutation(
        "bindings: only arrays that begin together overlap",
        "csrc/arguments.hpp",
        "a.begin < b.end && b.begin < a.end",
        "a.begin == b.begin && a.end != a.begin",
        BINDINGS,
    ),
    Mutation(
        "bindings: a result may be part of an input",
        "csrc/arguments.hpp",
        "a.begin == b.begin && a.end == b.end && allowed",
        "allowed",
        BINDINGS,
    ),
    Mutation(
        "max pool: the maps of a second launch read those of the first",
        "csrc/ops/pool.cu",
        "argmax + out, x + in, shape",
        "argmax + out, x, shape",
        BINDINGS,
    ),
    Mutation(
        "entry: features of the processor are not looked at",
        "csrc/entry.cpp",
        "check_interpreter() && check_processor()",
        "check_interpreter()",
        "tests/kernels/test_limits.py",
    ),
    Mutation(
        "fibers: what a thread throws is lost",
        "csrc/simt/host.cpp",
        "error_ = std::current_exception();",
        "",
        "tests/kernels/test_limits.py",
    ),
    Mutation(
        "SGD: sign of the gradient",
        "csrc/ops/sgd.cu",
        "fma(-rate, simt::load<W>(gradients",
        "fma(rate, simt::load<W>(gradients",
        "tests/kernels/test_sgd.py",
    ),
    Mutation(
        "max pool backward: first column window one too early",
        "csrc/ops/pool.cu",
        "stride.quotient(column - shape.size) + 1",
        "stride.quotient(column - shape.size)",
        POOL,
    ),
    Mutation(
        "max pool backward: first row window one too early",
        "csrc/ops/pool.cu",
        "stride.quotient(row - shape.size) + 1",
        "stride.quotient(row - shape.size)",
        POOL,
        "the row lies below that window, where its place is size^2 or more: no maximum has it",
    ),
    Mutation(
        "max pool: last instead of first maximum",
        "csrc/ops/pool.cu",
        "const auto wins = (value > best[v])",
        "const auto wins = (value > best[v]) | (value == best[v])",
        POOL,
    ),
    Mutation(
        "LRN: window one channel short",
        "csrc/ops/lrn.cu",
        "sum(int size, int v, F f) const {",
        "sum(int size, int v, F f) const {\n    --size;",
        LRN,
    ),
    Mutation(
        "input kernel: mirror one pixel off",
        "csrc/ops/augment.cu",
        "row.mirrored ? w - 1 : 0",
        "row.mirrored ? w : 0",
        "tests/kernels/test_augment.py",
    ),
    Mutation(
        "epilogue: bias of the first group",
        "csrc/gemm/epilogue.cuh",
        "last.finish(of_row, ",
        "last.finish(row, ",
        CONV,
    ),
    Mutation(
        "weight gradient: a split left out of the sum",
        "csrc/gemm/split_k.cuh",
        "for (; split < splits; ++split)",
        "for (; split < splits - 1; ++split)",
        CONV,
    ),
    Mutation(
        "split sums: no mask",
        "csrc/gemm/split_k.cuh",
        "last.finish(by_columns.quotient(static_cast<int>(i)), i, sum)",
        "(std::is_same_v<Finish, AddBias> ? last : Finish{}).finish("
        "by_columns.quotient(static_cast<int>(i)), i, sum)",
        CONV,
    ),
    Mutation(
        "split sums: bias of the wrong row",
        "csrc/gemm/split_k.cuh",
        "last.finish(by_columns.quotient(static_cast<int>(i)), i, sum)",
        "last.finish(by_columns.quotient(static_cast<int>(i / 2)), i, sum)",
        CONV,
    ),
    Mutation(
        "softmax: no barrier before the result is read",
        "csrc/ops/softmax.cu",
        "__syncthreads();\n  return simt::load<W>(values[0]",
        "return simt::load<W>(values[0]",
        "tests/kernels/test_softmax.py",
    ),
    Mutation(
        "bias gradient: no barrier between filters",
        "csrc/ops/bias.cu",
        "__syncthreads();  // before the next filter's partial sums",
        "",
        CONV,
    ),
    Mutation(
        "GEMM on a GPU: no barrier a k tile",
        "csrc/gemm/staging_gpu.cuh",
        "__syncthreads();  // this k tile is complete; no thread reads the previous one",
        "// every thread's part of this k tile is there",
        CONV,
    ),
    Mutation(
        "GEMM on a GPU: no barrier behind the row states",
        "csrc/gemm/staging_gpu.cuh",
        "__syncthreads();  // the row states are complete",
        "",
        CONV,
    ),
    Mutation(
        "GEMM on a GPU: no wait for asynchronous copies",
        "csrc/gemm/staging_gpu.cuh",
        "simt::copy_async_wait();",
        "",
        CONV,
    ),
    Mutation(
        "GEMM on a CPU: A's next k tile overwrites the current one",
        "csrc/gemm/product_cpu.cuh",
        "shared_.a[!odd_]",
        "shared_.a[odd_]",
        CONV,
    ),
    Mutation(
        "GEMM on a CPU: all register tiles read B where it is found",
        "csrc/gemm/product_cpu.cuh",
        "copies_b_ = b_.find_panel",
        "copies_b_ = b_.find_panel(found_b_, 0); b_.find_panel",
        CONV,
    ),
    Mutation(
        "GEMM on a CPU: rows outside the image are read",
        "csrc/gemm/staging_cpu.cuh",
        "from[i] = plan.whole || plan.count > 0 ? plan.from : kZeros;",
        "from[i] = plan.from;",
        CONV,
    ),
    Mutation(
        "optimiser: biases decay",
        "pyalexnet/nn/layers/base.py",
        "is_bias=True, decays=False",
        "is_bias=True",
        "tests/nn/test_optim.py tests/nn/test_layers.py",
    ),
    Mutation(
        "towers: each takes the other's part",
        "pyalexnet/parallel/exchange.py",
        "return whole[tower * size : (tower + 1) * size]",
        "return whole[(1 - tower) * size : (2 - tower) * size]",
        SPLIT,
    ),
    Mutation(
        "towers: the second has the first one's dropout",
        "pyalexnet/parallel/split.py",
        "return self.tower * math.prod(values.shape[:-1])",
        "return 0",
        SPLIT,
    ),
    Mutation(
        "towers: a layer that names its input reads past the exchange",
        "pyalexnet/parallel/split.py",
        "dataclasses.replace(layer, inputs=()) for layer in net.layers",
        "layer for layer in net.layers",
        f"{SPLIT} -k chain",
    ),
    Mutation(
        "towers: copies wait for a convolution's weight gradient",
        "pyalexnet/parallel/exchange.py",
        "buffers.dy_ready = buffers.device.record_event()",
        "buffers.dy_ready = None",
        "tests/device/test_device.py",
    ),
    Mutation(
        "gradients: a branch is left out of the sum",
        "pyalexnet/nn/device_net.py",
        "ops.add(part.total, part.term, out=part.total)",
        "pass",
        "tests/nn/test_model.py",
    ),
    Mutation(
        "gradients: a buffer is reused one step too early",
        "pyalexnet/nn/arena.py",
        "free_from[buffer] = need.last + 1",
        "free_from[buffer] = need.last",
        "tests/nn/test_arena.py",
    ),
    Mutation(
        "gradients: a sum over branches lives as long as its terms",
        "pyalexnet/nn/device_net.py",
        "last = now if source in written else count - (source - 1)",
        "last = now",
        "tests/nn/test_model.py",
    ),
    Mutation(
        "concatenation: an input of two is part of both outputs",
        "pyalexnet/nn/device_net.py",
        "free = view is not None and source > 0 and values[source] is None",
        "free = view is not None and source > 0",
        "tests/nn/test_branched.py",
    ),
    Mutation(
        "buffers: padding counts as images",
        "pyalexnet/model.py",
        "StepContext(True, len(images)",
        "StepContext(True, self.parts[0].images",
        "tests/nn/test_layer_state.py",
    ),
    Mutation(
        "normalisation: a mean of zero is taken for a mean image",
        "pyalexnet/nn/normalization.py",
        "if self.mean is not None:",
        "if self.mean:",
        "tests/nn/test_normalization.py",
    ),
    Mutation(
        "schedule: drops one epoch late",
        "pyalexnet/nn/schedules.py",
        "self.stalled == self.patience",
        "self.stalled > self.patience",
        "tests/nn/test_schedules.py",
    ),
    Mutation(
        "winograd: small tiles lack infinity instead of the last finite point",
        "csrc/conv/winograd.cuh",
        "return i < tile_pixels + kTaps - 2 ? i : kPixels + kTaps - 2;",
        "return i;",
        WINOGRAD,
    ),
    Mutation(
        "winograd: filters of the data gradient are not turned",
        "csrc/conv/winograd_filters.cu",
        "kWindow - 1 - t)",
        "t)",
        WINOGRAD,
    ),
    Mutation(
        "winograd: rows above and below the image are read",
        "csrc/conv/winograd_fprop.cu",
        "static_cast<unsigned>(row) < static_cast<unsigned>(pass_.height)",
        "true",
        WINOGRAD,
    ),
    Mutation(
        "winograd: a tile's pixels past the last column are stored",
        "csrc/conv/winograd_fprop.cu",
        "if (i >= rows || j >= columns) return;",
        "if (i >= rows) return;",
        WINOGRAD,
    ),
    Mutation(
        "winograd: sums begin anew with every block of channels",
        "csrc/conv/winograd_fprop.cu",
        "if (add)",
        "if (false)",
        WINOGRAD,
    ),
    Mutation(
        "winograd: all groups have the first one's biases and outputs",
        "csrc/conv/winograd_fprop.cu",
        "first_filter_ = group * pass_.filters;",
        "first_filter_ = 0;",
        WINOGRAD,
    ),
    Mutation(
        "winograd: transformed filters are kept though the weights have changed",
        "pyalexnet/nn/layers/conv.py",
        "buffers.transformed_version == version",
        "buffers.transformed_version >= 0",
        "tests/nn/test_model.py",
    ),
    Mutation(
        "winograd: a pass of few images counts as one that transforms filters",
        "pyalexnet/nn/layers/conv.py",
        "if step.images > buffers.device.few_images:",
        "if step.images:",
        "tests/nn/test_model.py",
    ),
]


def copy_checkout(to: Path) -> None:
    """Tracked files and new ones, as they are now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def build(folder: Path) -> None:
    """Builds the host's module in place; ends the program where that fails."""
    environ = {**os.environ, "PYALEXNET_CUDA": "off", "PYALEXNET_TEST_BUILD": "1"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mutations: error: the build failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def notices(folder: Path, tests: str) -> str:
    """What pytest says of the copy, from its first failure on; "" when all pass."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={HANGS}"]
    options += ["-o", "faulthandler_exit_on_timeout=true"]
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests.split()],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return ""
    failed = re.findall(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if failed:
        return failed[0]
    return "a test ran for ever" if "Timeout (" in done.stderr else f"status {done.returncode}"


def main() -> None:
    """Tries the mutations that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-k", default="", metavar="WORD", help="only those whose name has this")
    parser.add_argument("--list", action="store_true", help="print their names")
    args = parser.parse_args()
    chosen = [m for m in MUTATIONS if args.k.lower() in m.name.lower()]
    if args.list:
        print(*(m.name for m in chosen), sep="\n")
        return
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_checkout(folder)
        for mutation in chosen:
            begin, path = time.monotonic(), folder / mutation.file
            text = path.read_text()
            if mutation.old not in text:
                print(f"NO PLACE   {mutation.name}: {mutation.file} has no {mutation.old!r}")
                wrong += 1
                continue
            path.write_text(text.replace(mutation.old, mutation.new, 1))
            build(folder)  # also what the last mutation left
            by = notices(folder, mutation.tests)
            path.write_text(text)
            verdict = "caught" if by else "equivalent" if mutation.equivalent else "SURVIVED"
            wrong += verdict == "SURVIVED" or bool(by and mutation.equivalent)
            why = by or mutation.equivalent
            print(
                f"{verdict:10} {mutation.name} ({time.monotonic() - begin:.0f} s): {why}",
                flush=True,
            )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
