"""Pinned host memory."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from cupy.cuda import runtime


class PinnedMemory:
    """An allocation of pinned memory."""

    def __init__(self, size: int, flags: int = 0) -> None:
        self.size, self.ptr = size, 0
        if size > 0:
            self.ptr = runtime.hostAlloc(size, flags)

    def __int__(self) -> int:
        return self.ptr

    def __del__(self) -> None:
        if self.ptr and runtime is not None:
            runtime.freeHost(self.ptr)


class PinnedMemoryPointer:
    """An address within an allocation, which it keeps alive; supports the buffer protocol.

    Before Python 3.12 only C types can support it, so instances are ctypes arrays.
    """

    mem: PinnedMemory
    ptr: int

    def __new__(cls, mem: PinnedMemory, offset: int) -> Any:
        pointer = _array_type(mem.size - offset).from_address(mem.ptr + offset)
        pointer.mem, pointer.ptr = mem, mem.ptr + offset
        return pointer


class _Methods:
    mem: PinnedMemory
    ptr: int

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> Any:
        return PinnedMemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def size(self) -> int:
        return self.mem.size - (self.ptr - self.mem.ptr)


@functools.cache
def _array_type(size: int) -> Any:
    return type("PinnedMemoryPointer", (_Methods, ctypes.c_byte * size), {})


class PinnedMemoryPool:
    """The default pool, without reuse: memory is freed with its last pointer."""

    def free_all_blocks(self) -> None:
        pass

    def n_free_blocks(self) -> int:
        return 0


def alloc_pinned_memory(size: int) -> Any:
    """Allocate pinned host memory, which is copied asynchronously.

    As in CuPy's pool, the pointer's `size` is the next power of two, at least 512.
    """
    if size == 0:
        return PinnedMemoryPointer(PinnedMemory(0), 0)
    block = 1 << (max(size, 512) - 1).bit_length()
    return PinnedMemoryPointer(PinnedMemory(block, runtime.hostAllocPortable), 0)
