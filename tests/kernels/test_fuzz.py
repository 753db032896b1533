"""Random arguments to every kernel: whatever they are, it computes or refuses.

Nothing is asserted of the results but that no kernel writes beside its arrays. An address that no
array has would end the process; the sanitizers (CONTRIBUTING.md) see the rest.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers import checks
from helpers.calls import CALLS, INTERFACE, Call, Interface, N, Spec, fields_of
from pyalexnet import _host

pytestmark = pytest.mark.host_only("looks for accesses out of bounds, as the emulator does anyway")

REFUSED = (ValueError, TypeError, OverflowError, MemoryError)
GUARD = 64
KERNELS = _host.Kernels()
POWERS = [sign * 2**bits + more for bits in (7, 16, 28, 31, 32, 63) for sign in (1, -1)
          for more in (-1, 0, 1)]  # fmt: skip
ODD_FLOATS = [0.0, -0.0, -1.0, 1e-50, 1e-40, 1e38, 1e300, float("nan"), float("inf"), 10**400]
ODD_THINGS = [None, "", "relu", b"\xff", 3, -1.5, [], {}, object(), (1, 2), np.float32(2), 2**70]
ODD_TYPES = [np.float64, np.int32, np.int64, np.uint8, np.uint16, np.float16, np.bool_, ">f4"]
Arguments = dict[str, Any]


class Case:
    """One call's arguments, its arrays between guards."""

    def __init__(self, rng: np.random.Generator, kernel: str, call: Call) -> None:
        self.rng, self.kernel = rng, kernel
        self.memories: list[tuple[np.ndarray, int]] = []
        self.arguments: Arguments = {name: self.array(spec) for name, spec in call.arrays.items()}
        self.arguments |= call.options

    def array(self, spec: Spec) -> Interface:
        """An array of random contents; floats may be infinite or not numbers."""
        rng, dtype = self.rng, np.dtype(spec.dtype)
        start = GUARD + int(rng.choice([0, 1, 3])) * dtype.itemsize
        memory = np.full(start + spec.nbytes + GUARD, 0xA5, np.uint8)
        inside = memory[start : start + spec.nbytes]
        inside[...] = rng.integers(0, 256, inside.shape, dtype=np.uint8)
        if np.any(spec.values):
            inside[...] = np.asarray(spec.values, dtype).view(np.uint8)
        self.memories.append((memory, start))
        fields = fields_of(spec, memory.ctypes.data + start)
        return Interface(fields, (memory, inside))

    def pick(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def change(self, call: Call) -> None:
        """Replaces an argument by something else."""
        name = self.pick(list(self.arguments))
        if name not in call.arrays:
            odd = {int: POWERS, float: ODD_FLOATS}.get(type(self.arguments[name]), ODD_THINGS)
            self.arguments[name] = self.pick(self.pick([odd, ODD_THINGS, range(-2, 12)]))
            return
        spec, way = call.arrays[name], self.rng.integers(7)
        if way == 0:
            self.arguments[name] = self.pick(ODD_THINGS)
        elif way == 1:
            self.arguments[name] = self.arguments[self.pick(list(call.arrays))]
        elif way == 2:
            self.arguments[name] = self.array(replace(spec, dtype=self.pick(ODD_TYPES), values=0))
        elif way == 3:
            good = getattr(self.array(spec), INTERFACE)
            key = self.pick(list(good))
            self.arguments[name] = Interface(good | {key: self.pick(ODD_THINGS)}, self.memories[-1])
        else:
            shape = list(spec.shape)
            if way == 4:
                shape[int(self.rng.integers(len(shape)))] += int(self.rng.integers(-1, 2))
            elif way == 5:
                shape = [*self.rng.integers(0, 5, self.rng.integers(0, 6))]
            else:
                self.rng.shuffle(shape)
            shape = [max(0, int(extent)) for extent in shape]
            self.arguments[name] = self.array(replace(spec, shape=tuple(shape), values=0))

    def run(self) -> str:
        """Calls the kernel; whether it was "computed" or "refused"."""
        try:
            getattr(KERNELS, self.kernel)(**self.arguments)
        except REFUSED:
            return "refused"
        finally:
            for memory, start in self.memories:
                end = len(memory) - GUARD
                assert (memory[:start] == 0xA5).all() and (memory[end:] == 0xA5).all(), self.kernel
        return "computed"


def windows(rng: np.random.Generator) -> tuple[dict[str, int], tuple[int, ...], tuple[int, ...]]:
    """Options, rows and columns of an input, and of the places of windows in it."""
    size, stride = (int(rng.integers(1, 5)) for _ in range(2))
    pad = int(rng.integers(0, size + 1))
    inputs = tuple(int(n) for n in rng.integers(1, 12, 2))
    span = [n + 2 * pad - size for n in inputs]
    places = tuple(1 + (-(-n // stride) if rng.integers(2) else n // stride) for n in span)
    return {"size": size, "stride": stride, "pad": pad}, inputs, places


def conv(rng: np.random.Generator, call: Call) -> Call:
    how, inputs, places = windows(rng)
    groups, size, images = int(rng.integers(1, 4)), how.pop("size"), N * int(rng.integers(1, 3))
    channels, filters = (groups * int(rng.integers(1, 6)) for _ in range(2))
    shapes = {"x": (channels, *inputs, images), "y": (filters, *places, images)}
    shapes |= {"w": (channels // groups, size, size, filters), "b": (filters,)}
    shapes |= {"dx": shapes["x"], "mask": shapes["x"], "dy": shapes["y"], "dw": shapes["w"]}
    shapes |= {name: (int(rng.choice([0, 100, 1 << 16])),) for name in ("workspace", "filters")}
    arrays = {name: Spec(tuple(max(0, extent) for extent in shapes[name])) for name in call.arrays}
    how |= {
        "groups": groups,
        "algorithm": str(rng.choice(["", "direct", "winograd"], p=[0.5, 0.4, 0.1])),
    }
    return replace(call, arrays=arrays, options=call.options | how)


def pool(rng: np.random.Generator, call: Call) -> Call:
    how, inputs, places = windows(rng)
    images = N * int(rng.integers(1, 3))
    x, y = (tuple(max(0, n) for n in (5, *rows, images)) for rows in (inputs, places))
    shapes = {"x": x, "dx": x, "y": y, "dy": y, "argmax": y}
    arrays = {name: replace(spec, shape=shapes[name]) for name, spec in call.arrays.items()}
    return replace(call, arrays=arrays, options=how)


def lrn(rng: np.random.Generator, call: Call) -> Call:
    groups = int(rng.integers(1, 4))
    shape = (groups * int(rng.integers(1, 9)), *map(int, rng.integers(1, 4, 2)), N)
    arrays = {name: Spec(shape) for name in call.arrays}
    options = {"groups": groups, "size": 2 * int(rng.integers(0, 7)) + 1}
    options |= {"beta": float(rng.choice([0.5, 0.75, 0.0, 3.0]))}
    return replace(call, arrays=arrays, options=call.options | options)


VARIED: dict[str, Callable[[np.random.Generator, Call], Call]] = {
    "conv_forward": conv,
    "conv_backward_data": conv,
    "conv_backward_weights": conv,
    "maxpool_forward": pool,
    "maxpool_backward": pool,
    "lrn_forward": lrn,
    "lrn_backward": lrn,
}


@pytest.mark.parametrize("tiles", ["host", "gpu", "gpu-plain-loads"])
@pytest.mark.parametrize("calls", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_kernels_compute_or_refuse(calls, tiles, rng):
    outcomes: Counter[tuple[str, str]] = Counter()
    with checks.execution(tiles=tiles, order="shuffled", seed=1):
        for number in range(calls):
            kernel = list(CALLS)[number % len(CALLS)]
            call = CALLS[kernel]
            if kernel in VARIED:
                call = VARIED[kernel](rng, call)
            case = Case(rng, kernel, call)
            for _ in range(int(rng.integers(3))):
                case.change(call)
            outcomes[kernel, case.run()] += 1
    for kernel in CALLS:
        assert outcomes[kernel, "computed"] > 0 and outcomes[kernel, "refused"] > 0, kernel


@pytest.mark.parametrize("calls", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_workspaces_are_computed_or_refused(calls, rng):
    computed = 0
    for _ in range(calls):
        call = conv(rng, CALLS["conv_forward"])
        arguments: Arguments = {name: list(call.arrays[name].shape) for name in "xwy"}
        arguments |= {name: call.options[name] for name in ("stride", "pad", "groups")}
        for _ in range(int(rng.integers(3))):
            name = list(arguments)[int(rng.integers(6))]
            value = POWERS[int(rng.integers(len(POWERS)))]
            if isinstance(arguments[name], list):
                arguments[name][int(rng.integers(4))] = value
            else:
                arguments[name] = value
        try:
            assert len(KERNELS.conv_plan(**arguments, algorithm="")) == 3
            computed += 1
        except REFUSED:
            pass
    assert computed > calls // 20


def test_the_modules_functions_take_or_refuse_anything(rng):
    def some(*odd: Any) -> Any:
        choices = [*odd, *POWERS, *ODD_THINGS]
        return choices[int(rng.integers(len(choices)))]

    before, threads = _host.execution(), _host.threads()
    try:
        for _ in range(500):
            for function, arguments in (
                (_host.set_execution, (some("reverse"), some(3), some("gpu"))),
                (_host.set_threads, (some(2),)),
                (_host.Kernels, (some(),)),
                (_host.build_info, ()),
                (_host.execution, ()),
                (_host.threads, ()),
            ):
                with contextlib.suppress(*REFUSED):
                    function(*arguments)
    finally:
        _host.set_execution(**before)
        _host.set_threads(threads)
