"""This machine's processors."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet import control_groups
from pyalexnet.cores import count_cores
from pyalexnet.device.base import (
    Array,
    Device,
    Event,
    HostArray,
    Shape,
    check_environment,
)
from pyalexnet.errors import DeviceError

#: Host arrays start at multiples of so many bytes: a cache line, and the widest vector.
ALIGNMENT = 64


def _advice(error: ImportError) -> str:
    source = Path(__file__).parents[2] / "setup.py"
    if not isinstance(error, ModuleNotFoundError) or not source.exists():
        return ""
    return (
        f"; {source.parent} is the source folder, where nothing has been built: "
        "run 'pip install .' and start from another folder, or 'pip install -e .'"
    )


def _set_threads(lib: ModuleType) -> None:
    """Has the kernels use no more threads than a container's quota lets run.

    By itself, the extension knows only the cores that the process may run on.
    """
    try:
        default = lib.threads()
    except ValueError as error:  # PYALEXNET_THREADS is no number of threads
        raise DeviceError(str(error)) from None
    quota = count_cores()
    if quota < default and not os.environ.get("PYALEXNET_THREADS"):
        lib.set_threads(quota)


class HostDevice(Device):
    """This machine's processors: the kernels of `pyalexnet._host` on its threads."""

    name = "host"

    def __init__(self) -> None:
        try:
            import pyalexnet._host as _host
        except ImportError as error:
            raise DeviceError(
                f"the extension pyalexnet._host does not load: {error}{_advice(error)}"
            ) from error
        _set_threads(_host)
        check_environment()
        self.lib = _host
        self.kernels = _host.Kernels()
        self.images_multiple = _host.IMAGES_MULTIPLE
        self.few_images = _host.FEW_IMAGES

    @property
    def words(self) -> str:
        count = self.lib.threads()
        return f"CPU, {count} thread{'s'[: count > 1]} (host)"

    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        return self._aligned(np.empty, shape, np.dtype(dtype))

    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        return self._aligned(np.zeros, shape, np.dtype(dtype))

    @staticmethod
    def _aligned(allocate: Any, shape: Shape, dtype: np.dtype[Any]) -> HostArray:
        # NumPy itself asks for huge pages under large arrays, but starts them anywhere.
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = allocate(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return np.asarray(memory[start : start + size].view(dtype).reshape(shape))

    def copy_in(self, out: Array, host: HostArray) -> None:
        if host.shape != out.shape:
            raise ValueError(f"host: shape {host.shape}, expected {out.shape}")
        np.copyto(out, host)  # type: ignore[arg-type]

    def download(self, array: Array) -> HostArray:
        return np.array(array)

    def place(self, host: HostArray, buffer: Array) -> Array:
        return np.ascontiguousarray(host)

    def copy_from(
        self, out: Array, source: Array, owner: Device, wait_for: tuple[Event, Event] = (None, None)
    ) -> None:
        np.copyto(out, source)  # type: ignore[arg-type]

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
        status = Path("/proc/self/status")
        if status.exists():  # Linux, whose getrusage would start from what the parent process had
            peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
            if peak:
                return int(peak[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def free_memory(self) -> int | None:
        found = [*_limits(), *_container_limits()]
        with contextlib.suppress(OSError):  # Linux
            info = Path("/proc/meminfo").read_text()
            found.append(
                sum(map(int, re.findall(r"(?:MemAvailable|SwapFree):\s*(\d+)", info))) << 10
            )
        return min(found, default=None)


def _limits() -> Iterator[int]:
    """What the process's own limits (ulimit -v, -d) leave it."""
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            with contextlib.suppress(OSError):
                used = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
                yield max(0, most - (int(used[1]) << 10 if used else 0))


def _container_limits() -> Iterator[int]:
    """What each control group of this process leaves it; cached files give way."""
    for folder in control_groups.folders("memory"):
        for most, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / most).read_text())  # "max" is no number
                stat = re.search(rf"^{cached} (\d+)$", (folder / "memory.stat").read_text(), re.M)
                held = int((folder / used).read_text()) - (int(stat[1]) if stat else 0)
                yield max(0, limit - held)
