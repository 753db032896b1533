"""What every device can do."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import DeviceError
from pyalexnet.text import printable

if TYPE_CHECKING:
    import cupy

    from pyalexnet._host import Kernels

#: An array of either kind. What is asked of both is small: ``shape``, ``dtype``, ``nbytes``,
#: ``reshape``, slices that are views.
Array: TypeAlias = "npt.NDArray[Any] | cupy.ndarray"
HostArray: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]
#: A point in a device's queue of work; None on the host, whose work is done when a call returns.
Event: TypeAlias = Any


def check_environment() -> None:
    """Raises DeviceError for a PYALEXNET_CONV that names no algorithm."""
    named = os.environ.get("PYALEXNET_CONV", "")
    if named not in ("", "direct", "winograd"):
        shown = printable(repr(named))
        raise DeviceError(f"PYALEXNET_CONV is {shown}; expected 'direct' or 'winograd'")


class Device(ABC):
    """Where arrays live and kernels run.

    Attributes
    ----------
    name : "host" or "cuda:<index>"
    lib : the compiled module, `pyalexnet._host` or `pyalexnet._cuda`
    kernels : its kernels, launched on the stream of all the device's work
    images_multiple : the number of images in an array is a multiple of this
    few_images : forward passes of up to so many images have kernels of their own
    allocates : whether its arrays have memory, see `device.planned`
    """

    allocates = True
    name: str
    lib: ModuleType
    kernels: Kernels
    images_multiple: int
    few_images: int

    def pad_images(self, n: int) -> int:
        """`n` rounded up to a multiple of `images_multiple`."""
        return -(-n // self.images_multiple) * self.images_multiple

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is, and its name: "CPU, 2 threads (host)"."""

    def __repr__(self) -> str:
        return f"<device {self.name}>"

    @abstractmethod
    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-contiguous array whose contents are undefined."""

    @abstractmethod
    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-contiguous array of zeros."""

    @abstractmethod
    def copy_in(self, out: Array, host: HostArray) -> None:
        """Copies `host` into the contiguous `out` of the same shape, converting to its dtype."""

    @abstractmethod
    def download(self, array: Array) -> HostArray:
        """A NumPy copy of `array`, made after all work queued so far."""

    @abstractmethod
    def place(self, host: HostArray, buffer: Array) -> Array:
        """`host` where kernels can read it: itself on the host, else its copy in `buffer`."""

    @abstractmethod
    def copy_from(
        self, out: Array, source: Array, owner: Device, wait_for: tuple[Event, Event] = (None, None)
    ) -> None:
        """Copies `source`, an array of the device `owner`, to `out` on this device; contiguous.

        The copy waits for the events `wait_for`, of this device and of `owner`; by default, for all
        work queued so far. Work queued later on either device waits for the copy.
        """

    @abstractmethod
    def record_event(self) -> Event:
        """Records an event after all work queued so far."""

    @abstractmethod
    def wait(self, event: Event) -> None:
        """Waits until an event has happened: the work queued before it is done."""

    @abstractmethod
    def pin(self, memory: HostArray) -> None:
        """Has the driver keep host memory in place, so that copies from it run by themselves."""

    @abstractmethod
    def unpin(self, memory: HostArray) -> None:
        """Undoes `pin`."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until all queued work is done."""

    @abstractmethod
    def peak_memory(self) -> int:
        """Bytes that this process has needed at most: resident (host), or held from the GPU."""

    @abstractmethod
    def free_memory(self) -> int | None:
        """Bytes that can still be allocated, None where that is not known."""

    def upload(self, host: npt.ArrayLike) -> Array:
        """A copy of a NumPy array on this device, with the same shape and dtype."""
        source = np.asarray(host)
        out = self.empty(source.shape, source.dtype)
        self.copy_in(out, source)
        return out
