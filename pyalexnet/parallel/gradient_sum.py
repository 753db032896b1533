"""Sums a model's gradients over processes, slice by slice, during the backward pass.

An `Engine` makes the sums: MPI for arrays in the host's memory, here, and NCCL for those of GPUs,
`nccl.NcclSum`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

import numpy as np

from pyalexnet.device import Array
from pyalexnet.nn.arena import Arena
from pyalexnet.nn.device_net import DeviceNet

_IDLE_SECONDS = 5e-5  # between two polls

#: Bytes of a slice, at least: so many that a message's fixed cost does not matter.
SLICE_BYTES = 1 << 20


class Slice(NamedTuple):
    """Neighbouring gradients that are summed together.

    Attributes
    ----------
    part : int
        Of the model's `parts`.
    layer : str
        The slice is complete once this layer's backward pass has been queued.
    start, end : int
        Its place in `Arena.flat` of the part's gradients.
    """

    part: int
    layer: str
    start: int
    end: int


def slices(gradients: Arena, part: int = 0, smallest: int = SLICE_BYTES) -> list[Slice]:
    """The slices of an arena of gradients, in the order in which the backward pass completes them.

    They cover the arena, hold whole layers, and have at least `smallest` bytes but for the last.
    """
    result = []
    layers = [name.rpartition(".")[0] for name in gradients.names]
    end = int(gradients.starts[-1])
    for i, layer in reversed(list(enumerate(layers))):
        start = int(gradients.starts[i])
        begins = i == 0 or layers[i - 1] != layer
        if begins and (i == 0 or 4 * (end - start) >= smallest):
            result.append(Slice(part, layer, start, end))
            end = start
    return result


class Engine(Protocol):
    """Sums arrays over all processes, in place."""

    def start(self, array: Array) -> None:
        """Begins to sum a contiguous float32 array, after the work queued so far."""

    def poll(self) -> None:
        """Lets the sums that were begun make progress."""

    def finish(self) -> None:
        """Makes all work queued later wait for the sums that were begun."""


class HostSum:
    """Sums arrays in the host's memory by MPI.

    MPI libraries commonly make progress only while they are called, hence `poll` (MPICH can run
    threads for it, but they occupy cores).
    """

    def __init__(self, mpi: Any, world: Any) -> None:
        self._mpi, self._world = mpi, world
        self._requests: list[Any] = []

    def start(self, array: Array) -> None:
        self._requests.append(self._world.Iallreduce(self._mpi.IN_PLACE, array))

    def poll(self) -> None:
        if self._requests and self._mpi.Request.Testall(self._requests):
            self._requests.clear()

    def finish(self) -> None:
        # MPI's own wait would keep the core busy, which loaders and other processes may need.
        while self._requests and not self._mpi.Request.Testall(self._requests):
            time.sleep(_IDLE_SECONDS)
        self._requests.clear()


class GradientSum:
    """Sums a model's gradients over all processes, beginning during the backward pass.

    In every step, all processes sum the same slices in the same order, whichever are ready first.

    Parameters
    ----------
    parts : sequence of DeviceNet
        `Model.parts`.
    engines : sequence of Engine
        One for each part; none where there is nothing to sum.

    Attributes
    ----------
    bytes : int
        Of the gradients given to the engines so far.
    """

    def __init__(self, parts: Sequence[DeviceNet], engines: Sequence[Engine]) -> None:
        self.bytes = 0
        self._engines, self._parts = engines, parts
        by_part = [slices(parts[i].gradients, i) for i in range(len(engines))]
        self._plan = [s for row in zip_longest(*by_part) for s in row if s is not None]
        self._started = 0
        self._done: set[tuple[int, str]] = set()
        self._lock = threading.Lock()  # parts may have threads of their own

    def ready(self, part: int, layer: str) -> None:
        """Takes note that a layer's backward pass has been queued, the last layer first."""
        with self._lock:
            self._done.add((part, layer))
            while self._started < len(self._plan):
                following = self._plan[self._started]
                if (following.part, following.layer) not in self._done:
                    break
                self._start(following)
            for engine in self._engines:
                engine.poll()

    def skip(self) -> None:
        """Sets the gradients to zeros: this process's part of the batch is empty."""
        for part in self._parts:
            part.device.copy_in(part.gradients.flat, np.zeros(part.gradients.flat.shape))

    def finish(self) -> None:
        """Sums what is left, and makes the devices' further work wait for all sums."""
        for following in self._plan[self._started :]:
            self._start(following)
        for engine in self._engines:
            engine.finish()
        self._started = 0
        self._done.clear()

    def _start(self, following: Slice) -> None:
        gradients = self._parts[following.part].gradients
        array = gradients.flat[following.start : following.end]
        self._engines[following.part].start(array)
        self._started += 1
        self.bytes += array.nbytes
