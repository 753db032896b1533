"""Devices, streams, events, graphs and memory of the emulator, under CuPy's names."""

from cupy.cuda import device, graph, memory, pinned_memory, runtime, stream
from cupy.cuda.device import Device
from cupy.cuda.graph import Graph
from cupy.cuda.memory import MemoryPointer, MemoryPool, alloc
from cupy.cuda.pinned_memory import (
    PinnedMemory,
    PinnedMemoryPointer,
    PinnedMemoryPool,
    alloc_pinned_memory,
)
from cupy.cuda.stream import Event, Stream, get_current_stream, get_elapsed_time

__all__ = [
    "Device",
    "Event",
    "Graph",
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemory",
    "PinnedMemoryPointer",
    "PinnedMemoryPool",
    "Stream",
    "alloc",
    "alloc_pinned_memory",
    "device",
    "get_current_stream",
    "get_elapsed_time",
    "graph",
    "is_available",
    "memory",
    "pinned_memory",
    "runtime",
    "stream",
]


def is_available() -> bool:
    return runtime.getDeviceCount() > 0
