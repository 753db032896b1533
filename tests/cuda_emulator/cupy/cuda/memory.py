"""Device memory."""

from __future__ import annotations

import gc
from typing import Any

from cupy.cuda import _calls, runtime
from cupy.cuda._calls import CUDARuntimeError
from cupy.cuda.device import Device
from cupy.cuda.stream import get_current_stream


class OutOfMemoryError(MemoryError):
    """An allocation exceeds the device's free memory or the pool's limit."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        self._size, self._total, self._limit = size, total, limit
        if limit == 0:
            message = f"Out of memory allocating {size:,} bytes"
            if total != -1:
                message += f" (allocated so far: {total:,} bytes)."
        else:
            message = (
                f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes, "
                f"limit set to: {limit:,} bytes)."
            )
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._size, self._total, self._limit)


class _Memory:
    """An allocation.

    It is freed in the stream that was current when it was made: CuPy's pool reuses a freed block
    for the next allocation in that stream, without waiting for other streams.
    """

    def __init__(self, size: int) -> None:
        self.ptr = 0
        self.size, self.device_id = size, runtime.getDevice()
        self._stream = get_current_stream()
        self._pool = _pool_of(self.device_id)
        self.ptr = self._pool.allocate(size)

    def __del__(self) -> None:
        if not self.ptr or _calls is None:
            return
        self._pool.used -= _rounded(self.size)
        before = runtime.getDevice()
        runtime.setDevice(self.device_id)  # the null stream is that of the current device
        _calls.status("cudaFreeAsync", self.ptr, self._stream.ptr)
        runtime.setDevice(before)


class _NoMemory:
    """The memory of an empty array."""

    ptr = size = 0

    def __init__(self) -> None:
        self.device_id = runtime.getDevice()


class MemoryPointer:
    """An address within an allocation; keeps the allocation alive."""

    __slots__ = ("__weakref__", "mem", "ptr")

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem = mem
        self.ptr = mem.ptr + offset

    @property
    def device_id(self) -> int:
        return int(self.mem.device_id)

    @property
    def device(self) -> Device:
        return Device(self.device_id)

    def __int__(self) -> int:
        return int(self.ptr)

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.ptr - self.mem.ptr + offset)

    def copy_from_host_async(self, mem: int, size: int, stream: Any = None) -> None:
        _copy(self.ptr, mem, size, stream)

    def copy_to_host_async(self, mem: int, size: int, stream: Any = None) -> None:
        _copy(mem, self.ptr, size, stream)

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream: Any = None) -> None:
        _copy(self.ptr, src.ptr, size, stream)

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        stream = get_current_stream() if stream is None else stream
        runtime.memsetAsync(self.ptr, value, size, stream.ptr)

    def memset(self, value: int, size: int) -> None:
        runtime.memset(self.ptr, value, size)


def _copy(to: int, source: int, size: int, stream: Any) -> None:
    stream = get_current_stream() if stream is None else stream
    if size:
        runtime.memcpyAsync(to, source, size, runtime.memcpyDefault, stream.ptr)


def alloc(size: int) -> MemoryPointer:
    """Allocate uninitialised memory on the current device."""
    return MemoryPointer(_Memory(size) if size else _NoMemory(), 0)


def _rounded(size: int) -> int:
    """Return the size of the pool block that holds an allocation."""
    return -(-size // 512) * 512


class _DevicePool:
    """The byte counts of CuPy's pool on one device; allocations themselves are not pooled."""

    def __init__(self) -> None:
        self.used = self.held = self.limit = 0  # bytes

    def allocate(self, size: int) -> int:
        block = _rounded(size)
        if self.limit and self.used + block > self.limit:
            raise OutOfMemoryError(block, self.held, self.limit)
        try:
            ptr = runtime.malloc(size)
        except CUDARuntimeError as error:
            if error.status != _calls.ERROR_MEMORY_ALLOCATION:
                raise
            # As CuPy does: free unused memory and try again.
            gc.collect()
            runtime.deviceSynchronize()
            try:
                ptr = runtime.malloc(size)
            except CUDARuntimeError:
                raise OutOfMemoryError(block, self.held) from None
        self.used += block
        self.held = max(self.held, self.used)
        return ptr


_pools: dict[int, _DevicePool] = {}


def _pool_of(device: int) -> _DevicePool:
    return _pools.setdefault(device, _DevicePool())


class MemoryPool:
    """The default pool. Its methods refer to the current device."""

    def used_bytes(self) -> int:
        return _pool_of(runtime.getDevice()).used

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def total_bytes(self) -> int:
        return _pool_of(runtime.getDevice()).held

    def free_all_blocks(self, stream: Any = None) -> None:
        pool = _pool_of(runtime.getDevice())
        pool.held = pool.used

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at the same time")
        if size is None:
            size = int((fraction or 0) * runtime.memGetInfo()[1])  # 0: no limit
        _pool_of(runtime.getDevice()).limit = size

    def get_limit(self) -> int:
        return _pool_of(runtime.getDevice()).limit
