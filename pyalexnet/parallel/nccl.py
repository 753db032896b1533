"""Sums over GPUs by NCCL."""

from __future__ import annotations

from typing import Any

from pyalexnet.device import CudaDevice, cuda
from pyalexnet.errors import DeviceError


class NcclSum:
    """Sums a GPU's arrays over the processes of a job by NCCL, on a stream of its own.

    Made by all processes at once, with the `nccl_unique_id` of one of them.

    Raises
    ------
    DeviceError
        NCCL cannot connect the GPUs.
    """

    def __init__(self, device: CudaDevice, rank: int, size: int, unique: Any) -> None:
        self._nccl = cuda.nccl()
        self._gpu = device
        with device._device:
            self._stream = device._cuda.Stream(non_blocking=True)
            try:
                self._job = self._nccl.NcclCommunicator(size, unique, rank)
            except self._nccl.NcclError as error:
                raise DeviceError(f"device {device.name}: NCCL: {error}") from error

    def start(self, array: Any) -> None:
        with self._gpu._device:
            self._stream.wait_event(self._gpu._stream.record())
            at, float32, add = array.data.ptr, self._nccl.NCCL_FLOAT32, self._nccl.NCCL_SUM
            self._job.allReduce(at, at, array.size, float32, add, self._stream.ptr)

    def poll(self) -> None:
        pass

    def finish(self) -> None:
        with self._gpu._device:
            self._gpu._stream.wait_event(self._stream.record())


def unique_id() -> Any:
    """What the processes of a job find each other by; DeviceError without NCCL."""
    return cuda.nccl().get_unique_id()
