"""A stand-in for CuPy on emulated devices: the part that pyalexnet uses.

Signatures, errors and the order of work are CuPy's. Arrays are C-contiguous; views are slices of
the first axis, reshapes and other dtypes of the same size. There is no arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cupy import cuda
from cupy.cuda import runtime

__version__ = "0+emulator"

__all__ = [
    "array",
    "asarray",
    "asnumpy",
    "cuda",
    "empty",
    "get_default_memory_pool",
    "get_default_pinned_memory_pool",
    "ndarray",
    "zeros",
]


class ndarray:
    """An array in a device's memory.

    Attributes
    ----------
    data : cupy.cuda.MemoryPointer
    shape : tuple of int
    dtype : numpy.dtype
    """

    __slots__ = ("__weakref__", "data", "dtype", "shape")

    def __init__(
        self,
        shape: int | Sequence[int],
        dtype: Any = float,
        memptr: Any = None,
        strides: None = None,
        order: str = "C",
    ) -> None:
        if strides is not None or order != "C":
            raise NotImplementedError("the stand-in for CuPy supports C-contiguous arrays only")
        self.shape = _as_shape(shape)
        self.dtype = np.dtype(dtype)
        self.data = cuda.alloc(self.nbytes) if memptr is None else memptr

    @property
    def size(self) -> int:
        return _size(self.shape)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def device(self) -> cuda.Device:
        return self.data.device

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3. The consumer must wait for `stream`, the current stream."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": cuda.get_current_stream().ptr or runtime.streamLegacy,
            "version": 3,
            "strides": None,
            "data": (self.data.ptr if self.size else 0, False),
        }

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        if order != "C":
            raise NotImplementedError(f"the stand-in for CuPy does not support order {order!r}")
        wanted = _as_shape(shape[0] if len(shape) == 1 else shape)
        if wanted.count(-1) == 1:
            rest = -_size(wanted)
            wanted = tuple(self.size // rest if n == -1 and rest else n for n in wanted)
        if _size(wanted) != self.size or min(wanted, default=0) < 0:
            raise ValueError(f"cannot reshape array of size {self.size} into shape {wanted}")
        return ndarray(wanted, self.dtype, self.data)

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(self.size, order=order)

    def view(self, dtype: Any = None) -> ndarray:
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        if dtype.itemsize != self.itemsize:
            raise NotImplementedError(
                "the stand-in for CuPy supports views of equal item size only"
            )
        return ndarray(self.shape, dtype, self.data)

    def __getitem__(self, index: Any) -> ndarray:
        if not self.shape:
            raise IndexError("too many indices for array")
        step = _size(self.shape[1:]) * self.itemsize
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} is out of bounds for axis 0 with size {len(self)}")
            return ndarray(self.shape[1:], self.dtype, self.data + int(index) % len(self) * step)
        if not isinstance(index, slice):
            raise NotImplementedError(f"the stand-in for CuPy does not support index {index!r}")
        begin, end, stride = index.indices(len(self))
        if stride != 1:
            raise NotImplementedError("the stand-in for CuPy does not support slices with a step")
        shape = (max(0, end - begin), *self.shape[1:])
        return ndarray(shape, self.dtype, self.data + begin * step)

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy `arr` into this array, in `stream` or the current one."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        arr = np.ascontiguousarray(arr)
        stream = cuda.get_current_stream() if stream is None else stream
        with self.device:
            self.data.copy_from_host_async(arr.ctypes.data, self.nbytes, stream)

    def get(
        self,
        stream: Any = None,
        order: str = "C",
        out: np.ndarray | None = None,
        blocking: bool = True,
    ) -> np.ndarray:
        """Copy this array to the host, in `stream` or the current one, and wait for the copy.

        With ``blocking=False`` the caller must wait for the stream.
        """
        if order != "C":
            raise NotImplementedError(f"the stand-in for CuPy does not support order {order!r}")
        if out is None:
            out = np.empty(self.shape, self.dtype)
        elif not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        elif self.dtype != out.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        elif self.shape != out.shape:
            raise ValueError(
                f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}"
            )
        elif not out.flags.c_contiguous:
            raise NotImplementedError("the stand-in for CuPy copies to C-contiguous arrays only")
        stream = cuda.get_current_stream() if stream is None else stream
        with self.device:
            self.data.copy_to_host_async(out.ctypes.data, self.nbytes, stream)
            if blocking:
                runtime.streamSynchronize(stream.ptr)
        return out

    def copy(self, order: str = "C") -> ndarray:
        out = ndarray(self.shape, self.dtype)
        out.data.copy_from_device_async(self.data, self.nbytes)
        return out


def _as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(map(int, shape))


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def empty(shape: int | Sequence[int], dtype: Any = float) -> ndarray:
    return ndarray(shape, dtype)


def zeros(shape: int | Sequence[int], dtype: Any = float) -> ndarray:
    out = ndarray(shape, dtype)
    if out.nbytes:
        out.data.memset_async(0, out.nbytes)
    return out


def array(values: Any, dtype: Any = None) -> ndarray:
    values = np.array(values, dtype, ndmin=0)
    out = ndarray(values.shape, values.dtype)
    out.set(values)
    return out


def asarray(values: Any, dtype: Any = None) -> ndarray:
    return values if isinstance(values, ndarray) and dtype is None else array(values, dtype)


def asnumpy(values: Any, stream: Any = None) -> np.ndarray:
    return values.get(stream) if isinstance(values, ndarray) else np.asarray(values)


def get_default_memory_pool() -> cuda.MemoryPool:
    return cuda.MemoryPool()


def get_default_pinned_memory_pool() -> cuda.PinnedMemoryPool:
    return cuda.PinnedMemoryPool()
