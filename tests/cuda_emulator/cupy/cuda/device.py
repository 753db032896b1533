"""Devices."""

from __future__ import annotations

import threading
from typing import Any

from cupy.cuda import runtime

#: `cudaDeviceAttr` values, by their names in `Device.attributes`.
ATTRIBUTES = {
    "ComputeCapabilityMajor": 75,
    "ComputeCapabilityMinor": 76,
    "ConcurrentKernels": 31,
    "HostRegisterSupported": 99,
    "MaxBlockDimX": 2,
    "MaxBlockDimY": 3,
    "MaxBlockDimZ": 4,
    "MaxGridDimX": 5,
    "MaxGridDimY": 6,
    "MaxGridDimZ": 7,
    "MaxRegistersPerBlock": 12,
    "MaxRegistersPerMultiprocessor": 82,
    "MaxSharedMemoryPerBlock": 8,
    "MaxSharedMemoryPerBlockOptin": 97,
    "MaxSharedMemoryPerMultiprocessor": 81,
    "MaxThreadsPerBlock": 1,
    "MaxThreadsPerMultiProcessor": 39,
    "MultiProcessorCount": 16,
    "ReservedSharedMemoryPerBlock": 111,
    "UnifiedAddressing": 41,
    "WarpSize": 10,
}

_local = threading.local()


class Device:
    """A device, and a context manager that makes it current."""

    __slots__ = ("id",)

    def __init__(self, device: Any = None) -> None:
        self.id = runtime.getDevice() if device is None else int(device)

    def __enter__(self) -> Device:
        if not hasattr(_local, "before"):
            _local.before = []
        _local.before.append(runtime.getDevice())
        runtime.setDevice(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        runtime.setDevice(_local.before.pop())

    def use(self) -> Device:
        runtime.setDevice(self.id)
        return self

    def synchronize(self) -> None:
        with self:
            runtime.deviceSynchronize()

    @property
    def compute_capability(self) -> str:
        attributes = self.attributes
        return f"{attributes['ComputeCapabilityMajor']}{attributes['ComputeCapabilityMinor']}"

    @property
    def attributes(self) -> dict[str, int]:
        return {
            name: runtime.deviceGetAttribute(number, self.id) for name, number in ATTRIBUTES.items()
        }

    @property
    def mem_info(self) -> tuple[int, int]:
        """Free and total memory, in bytes."""
        with self:
            return runtime.memGetInfo()

    @property
    def pci_bus_id(self) -> str:
        return f"0000:{self.id:02X}:00.0"

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"
