"""A device on which nothing is allocated, to foretell what a net needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pyalexnet import text
from pyalexnet.device.base import Array, Device, Event, HostArray, Shape
from pyalexnet.errors import UserError

_MOST = 2**62  # bytes of an array of NumPy's


class PlannedDevice(Device):
    """Stands for a device, with arrays that have shapes but no memory.

    A `Model` on it can say what it needs, and nothing else.

    Attributes
    ----------
    device : Device
    bytes : int
        Of the arrays made so far.
    """

    allocates = False

    def __init__(self, device: Device) -> None:
        self.device = device
        self.name, self.lib, self.kernels = device.name, device.lib, device.kernels
        self.images_multiple = device.images_multiple
        self.few_images = device.few_images
        self.bytes = 0

    @property
    def words(self) -> str:
        return self.device.words

    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > _MOST:
            raise UserError(f"an array of {shape} has {text.size(size)}; expected a smaller batch")
        self.bytes += size
        return np.broadcast_to(np.zeros((), dtype), shape)

    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        return self.empty(shape, dtype)

    def copy_in(self, out: Array, host: HostArray) -> None:
        pass

    def download(self, array: Array) -> NoReturn:
        raise TypeError(f"{self!r} is planned: its arrays have no values")

    def place(self, host: HostArray, buffer: Array) -> NoReturn:
        self.download(buffer)

    def copy_from(
        self, out: Array, source: Array, owner: Device, wait_for: tuple[Event, Event] = (None, None)
    ) -> NoReturn:
        self.download(out)

    def record_event(self) -> Event:
        return None

    def wait(self, event: Event) -> None:
        pass

    def pin(self, memory: HostArray) -> None:
        pass

    def unpin(self, memory: HostArray) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def peak_memory(self) -> int:
        return self.bytes

    def free_memory(self) -> int | None:
        return self.device.free_memory()


def check_fits(planned: Sequence[PlannedDevice], what: str) -> None:
    """Raises UserError, which begins with `what`, unless the devices have the memory planned."""
    needed: dict[str, int] = {}
    for device in planned:
        needed[device.name] = needed.get(device.name, 0) + device.bytes
    for device in planned:
        free = device.free_memory()
        if free is not None and needed[device.name] > free:
            raise UserError(
                f"{what} needs {text.size(needed[device.name])} of memory on {device.name}, of "
                f"which {text.size(free)} are free; expected a smaller --batch-size"
            )
