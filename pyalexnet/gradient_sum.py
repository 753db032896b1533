"""Sums a model's gradients over replicas, slice by slice, while backward goes on.

The sums themselves are made by an `Engine`: MPI for arrays in the host's memory, here, and NCCL for
those of GPUs, `device.NcclSum`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from pyalexnet.device import Array

if TYPE_CHECKING:
    from pyalexnet.model import Model
    from pyalexnet.towers import Arena

_IDLE_SECONDS = 5e-5  # between two looks whether sums are done

#: Bytes of a slice, at least: far more than a message costs whatever its size.
SLICE_BYTES = 1 << 20


class Slice(NamedTuple):
    """Neighbouring gradients that are summed at once.

    Attributes
    ----------
    tower : int
    layer : str
        The slice is complete when this layer's backward has been queued.
    start, end : int
        Where it lies in the `Arena.flat` of the tower's gradients.
    """

    tower: int
    layer: str
    start: int
    end: int


def slices(gradients: Arena, tower: int = 0, smallest: int = SLICE_BYTES) -> list[Slice]:
    """The slices of an arena of gradients in the order in which backward completes them.

    They hold whole layers, at least `smallest` bytes but for the last one, and cover the arena.
    """
    result = []
    layers = [name.rpartition(".")[0] for name in gradients.names]
    end = int(gradients.starts[-1])
    for i, layer in reversed(list(enumerate(layers))):
        start = int(gradients.starts[i])
        begins = i == 0 or layers[i - 1] != layer
        if begins and (i == 0 or 4 * (end - start) >= smallest):
            result.append(Slice(tower, layer, start, end))
            end = start
    return result


class Engine(Protocol):
    """Sums arrays over all replicas, in place."""

    def start(self, array: Array) -> None:
        """Begins to sum a contiguous float32 array when the work queued on it has been done."""

    def poll(self) -> None:
        """Gives sums under way a chance to go on."""

    def finish(self) -> None:
        """Has all work queued from now on wait for the sums that were begun."""


class HostSum:
    """Sums arrays in the host's memory by MPI.

    MPI libraries commonly work on a sum only while they are called (MPICH, unless it is told to run
    threads that occupy cores), which is what `poll` is for.
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
        # A wait of MPI's would keep the core busy, which loaders and other replicas may need.
        while self._requests and not self._mpi.Request.Testall(self._requests):
            time.sleep(_IDLE_SECONDS)
        self._requests.clear()


class GradientSum:
    """Sums a model's gradients over all replicas, and begins while backward goes on.

    In every step, all replicas sum the same slices in the same order, whatever they are ready with.

    Parameters
    ----------
    model : Model
    engines : list of Engine
        One for each tower; none: there is nothing to sum.

    Attributes
    ----------
    bytes : int
        Of gradients that have been given to the engines so far.
    """

    def __init__(self, model: Model, engines: Sequence[Engine]) -> None:
        self.bytes = 0
        self._engines = engines
        self._towers = model.towers
        by_tower = [slices(model.towers[i].gradients, i) for i in range(len(engines))]
        self._plan = [s for row in zip_longest(*by_tower) for s in row if s is not None]
        self._started = 0
        self._done: set[tuple[int, str]] = set()
        self._lock = threading.Lock()  # towers may have threads of their own

    def ready(self, tower: int, layer: str) -> None:
        """Takes note that a layer's backward has been queued; layers come in that order."""
        with self._lock:
            self._done.add((tower, layer))
            while self._started < len(self._plan):
                following = self._plan[self._started]
                if (following.tower, following.layer) not in self._done:
                    break
                self._start(following)
            for engine in self._engines:
                engine.poll()

    def skip(self) -> None:
        """This replica's part of the batch is empty: it has nothing to add."""
        for tower in self._towers:
            tower.device.copy_in(tower.gradients.flat, np.zeros(tower.gradients.flat.shape))

    def finish(self) -> None:
        """Sums what is left, and has the device's further work wait for all sums."""
        for following in self._plan[self._started :]:
            self._start(following)
        for engine in self._engines:
            engine.finish()
        self._started = 0
        self._done.clear()

    def _start(self, following: Slice) -> None:
        tower = self._towers[following.tower]
        array = tower.gradients.flat[following.start : following.end]
        self._engines[following.tower].start(array)
        self._started += 1
        self.bytes += array.nbytes
