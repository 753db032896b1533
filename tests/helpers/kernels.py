"""`pyalexnet.ops` for NumPy arrays on any device under test.

On the host, `ops` is `pyalexnet.ops` itself. On a GPU, each function uploads its array arguments,
copies them back after the kernel, and downloads its results.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import target
from pyalexnet import ops as device_ops

#: Alignment in bytes that kernels require of a GPU's arrays.
ALIGNMENT = 16

_offset = 0


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Uploads arrays to addresses that are odd multiples of `ALIGNMENT`."""
    global _offset
    _offset = ALIGNMENT
    try:
        yield
    finally:
        _offset = 0


class _Odd:
    """A strided or read-only array with CuPy's interface; kernels refuse most of them."""

    def __init__(self, host: np.ndarray) -> None:
        reach = [(n - 1) * stride for n, stride in zip(host.shape, host.strides, strict=True)]
        before = -sum(min(0, length) for length in reach)
        before += -before % ALIGNMENT  # so that the alignment is no reason to refuse it
        after = sum(max(0, length) for length in reach) + host.itemsize
        memory = np.zeros(before + after, np.uint8)
        np.ndarray(host.shape, host.dtype, memory.data, before, host.strides)[...] = host
        self._memory: Any = target.DEVICE.upload(memory)
        self.shape, self.dtype, self.device = host.shape, host.dtype, self._memory.device
        self.__cuda_array_interface__ = {
            "shape": host.shape,
            "typestr": host.dtype.str,
            "data": (self._memory.data.ptr + before, not host.flags.writeable),
            "strides": host.strides,
            "version": 3,
        }


def _upload(host: np.ndarray) -> Any:
    if not (host.flags.c_contiguous and host.flags.writeable):
        return _Odd(host)
    first = _offset // host.itemsize
    memory = target.DEVICE.empty((first + host.size,), host.dtype)
    array = memory[first:].reshape(host.shape)
    target.DEVICE.copy_in(array, host)
    return array


def _call(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    moved: list[tuple[Any, Any]] = []  # pairs of the caller's array and its upload

    def up(value: Any) -> Any:
        for given, array in moved:
            if given is value:
                return array
        if isinstance(value, np.ndarray):
            moved.append((value, _upload(value)))
        elif isinstance(value, device_ops.Loss):
            moved.append((value, device_ops.Loss(*map(up, value))))
        else:
            return value
        return moved[-1][1]

    def down(value: Any) -> Any:
        for given, array in moved:
            if array is value:
                return given
        if isinstance(value, tuple):
            parts = map(down, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        return target.download(value) if hasattr(value, "__cuda_array_interface__") else value

    result = function(*map(up, args), **{name: up(value) for name, value in named.items()})
    for given, array in moved:
        if isinstance(given, np.ndarray) and not isinstance(array, _Odd):
            given[...] = target.download(array)
    return down(result)


class _Remote:
    def __getattr__(self, name: str) -> Any:
        found = getattr(device_ops, name)
        return functools.partial(_call, found) if inspect.isfunction(found) else found


ops: Any = device_ops if target.IS_HOST else _Remote()
