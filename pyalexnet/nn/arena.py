"""Memory of a net on a device: arenas of parameters, gradients' buffers shared over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.device import Array, Device, Floats, Shape
from pyalexnet.errors import CheckpointError

_ALIGN = 64  # floats: the segments that ops.sgd takes begin at multiples of this


class Arena(Mapping[str, Array]):
    """Tensors one after the other in one flat array, so that one launch updates them all.

    ``arena["conv1.weight"]`` is a view in the tensor's own shape. Gaps between tensors are zeros.

    Attributes
    ----------
    device : Device
    flat : float32 array
    names : tuple of str
        The tensors' names, in order.
    starts : int64 (len(names) + 1,)
        Where each tensor starts in `flat`, multiples of 64; then the length of `flat`.
    version : int
        Counts the changes of the values. Who writes them calls `changed`.
    """

    def __init__(self, device: Device, shapes: Mapping[str, Shape]) -> None:
        self.device = device
        self.names = tuple(shapes)
        lengths = [-(-math.prod(shape) // _ALIGN) * _ALIGN for shape in shapes.values()]
        self.starts = np.cumsum([0, *lengths], dtype=np.int64)
        self.flat = device.zeros((int(self.starts[-1]),))
        self.version = 0
        self._views: dict[str, Array] = {}
        for start, (name, shape) in zip(self.starts, shapes.items(), strict=False):
            end = int(start) + math.prod(shape)
            self._views[name] = self.flat[int(start) : end].reshape(shape)

    def like(self) -> Arena:
        """A new arena of the same layout, of zeros."""
        return Arena(self.device, {name: view.shape for name, view in self._views.items()})

    def changed(self) -> None:
        """Tells those who keep what they have made of the values that these are others now."""
        self.version += 1

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)


class Tensors:
    """Named tensors of a whole net, each on one device or split over several.

    A tensor that is split has its parts side by side along its last axis: filters, features.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The whole tensors' shapes.
    parts : sequence of (Device, mapping of str to Array)
        What each device has.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], parts: Sequence[tuple[Device, Mapping[str, Array]]]
    ) -> None:
        self._shapes, self._parts = shapes, parts

    def state(self) -> dict[str, Floats]:
        """A copy of the whole tensors."""
        whole = {}
        for name in self._shapes:
            arrays = [at.download(tensors[name]) for at, tensors in self._parts if name in tensors]
            whole[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
        return whole

    def load(self, state: Mapping[str, npt.NDArray[np.floating]], owner: str) -> None:
        """Sets all tensors; `owner` says in messages what they belong to.

        Raises
        ------
        CheckpointError
            A tensor is missing, has another shape, or is unknown; nothing has changed.
        """
        for name, shape in self._shapes.items():
            if name not in state:
                raise CheckpointError(f"tensor {name} is missing; {owner} needs it")
            if state[name].shape != shape:
                raise CheckpointError(
                    f"tensor {name} is {state[name].shape}; {owner} expected {shape}"
                )
        unknown = sorted(set(state) - set(self._shapes))
        if unknown:
            raise CheckpointError(f"tensor {unknown[0]} is unknown; {owner} has no such tensor")
        self.fill(state.items())

    def fill(self, tensors: Iterable[tuple[str, npt.NDArray[np.floating]]]) -> None:
        """Gives each device its part of whole tensors."""
        for name, tensor in tensors:
            owners = [(at, tensors[name]) for at, tensors in self._parts if name in tensors]
            parts = np.split(tensor, len(owners), axis=-1)
            for (at, array), part in zip(owners, parts, strict=True):
                at.copy_in(array, part)


class Lifetime(NamedTuple):
    """When an array is in use, in steps that are counted from 0; `last` included."""

    first: int
    last: int
    size: int


class Plan(NamedTuple):
    """Which buffer holds which array, and how large the buffers are."""

    buffers: list[int]  #: by array
    sizes: list[int]


def plan_buffers(lifetimes: Sequence[Lifetime]) -> Plan:
    """Assigns buffers to arrays so that arrays in use at the same time have different ones.

    In order of their first use, each array takes the smallest free buffer that is large enough,
    else the largest free one, which grows, else a new one. A chain of layers needs two buffers.
    """
    chosen = [-1] * len(lifetimes)
    sizes: list[int] = []
    free_from: list[int] = []  # by buffer, the first step at which it is free
    for index in sorted(range(len(lifetimes)), key=lambda i: (lifetimes[i].first, i)):
        need = lifetimes[index]
        free = [b for b, step in enumerate(free_from) if step <= need.first]
        enough = [b for b in free if sizes[b] >= need.size]
        if enough:
            buffer = min(enough, key=lambda b: sizes[b])
        elif free:
            buffer = max(free, key=lambda b: sizes[b])
        else:
            buffer = len(sizes)
            sizes.append(0)
            free_from.append(0)
        sizes[buffer] = max(sizes[buffer], need.size)
        free_from[buffer] = need.last + 1
        chosen[index] = buffer
    return Plan(chosen, sizes)
