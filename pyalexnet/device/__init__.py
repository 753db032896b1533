"""The machine's processors and NVIDIA GPUs behind one small interface.

=============  ==============================================================
`get(name)`    the device "host" or "cuda:<index>"
`open(names)`  those of a list such as "auto" or "cuda:0,cuda:1"
`own_names`    such a list by the names of devices: "cpu" is "host", "cuda" is "cuda:0"
`of(array)`    the device that holds an array
`usable()`     the names of all that can be used here
`base`         `Device`: what every device can do; `Array` and the other types
`host`         `HostDevice`: NumPy's arrays, the kernels of `pyalexnet._host`
`cuda`         `CudaDevice`: CuPy's arrays, the kernels of `pyalexnet._cuda`
=============  ==============================================================
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from pyalexnet.cores import check_count
from pyalexnet.device.base import Array, Device, Event, Floats, HostArray, Shape
from pyalexnet.device.cuda import CudaDevice, cuda_problem
from pyalexnet.device.host import HostDevice
from pyalexnet.errors import DeviceError

__all__ = [
    "Array",
    "CudaDevice",
    "Device",
    "Event",
    "Floats",
    "HostArray",
    "HostDevice",
    "Shape",
    "cuda_problem",
    "default_name",
    "get",
    "of",
    "open",
    "own_names",
    "usable",
]


#: PyTorch's names of devices, and the devices' own.
_ALIASES = {"cpu": "host", "cuda": "cuda:0"}


@functools.cache
def get(name: str) -> Device:
    """The device "cpu" (also "host"), "cuda:<index>", or "cuda", which is "cuda:0".

    The same device is always the same object.

    Raises
    ------
    DeviceError
        No such device can be used; the message says which part is missing.
    """
    if name in _ALIASES:
        return get(_ALIASES[name])
    if name == "host":
        return HostDevice()
    match = re.fullmatch(r"cuda:(\d+)", name)
    if not match:
        raise DeviceError(f"device is {name!r}; expected cpu, cuda or cuda:<index>, as in cuda:1")
    return CudaDevice(int(match[1]))


def default_name() -> str:
    """ "cuda:0" where a GPU can be used, else "host"."""
    return "host" if cuda_problem() else "cuda:0"


def own_names(names: str) -> str:
    """The list `names`, each by its device's own name; "auto" is `default_name`."""
    found = (default_name() if name == "auto" else name for name in names.split(","))
    return ",".join(_ALIASES.get(name, name) for name in found)


def open(names: str, threads: int | None = None) -> list[Device]:
    """The devices that `names` lists.

    Parameters
    ----------
    names : str
        "cpu", "cuda:0", "auto" (a GPU if one can be used); several, as in "cuda:0,cuda:1".
    threads : int, optional
        Threads of the host's kernels; without effect on a GPU.

    Raises
    ------
    DeviceError
        One of them cannot be used.
    UserError
        `threads` is less than 1 or more than `cores.MOST`.
    """
    check_count("threads", threads)
    found = [get(name) for name in own_names(names).split(",")]
    for device in found:
        if threads is not None and device.name == "host":
            device.lib.set_threads(threads)
    return found


def usable() -> list[str]:
    """Names of the devices that can be used here: "host", "cuda:0", …"""
    names = ["host"]
    while not cuda_problem(len(names) - 1):
        names.append(f"cuda:{len(names) - 1}")
    return names


def of(array: Array) -> Device:
    """The device that holds `array`.

    Raises
    ------
    TypeError
        `array` is neither NumPy's nor a CUDA array.
    """
    if isinstance(array, np.ndarray):
        return get("host")
    if hasattr(array, "__cuda_array_interface__"):
        owner: Any = array
        return get(f"cuda:{owner.device.id}")
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
