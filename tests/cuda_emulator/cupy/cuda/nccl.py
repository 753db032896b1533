"""NCCL's all-reduce between emulated devices of one machine."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cupy.cuda import _calls, runtime

available = True

NCCL_SUM, NCCL_PROD, NCCL_MAX, NCCL_MIN, NCCL_AVG = range(5)
NCCL_INT8 = NCCL_CHAR = 0
NCCL_UINT8 = 1
NCCL_INT32 = NCCL_INT = 2
NCCL_UINT32 = 3
NCCL_INT64 = 4
NCCL_UINT64 = 5
NCCL_FLOAT16 = NCCL_HALF = 6
NCCL_FLOAT32 = NCCL_FLOAT = 7
NCCL_FLOAT64 = NCCL_DOUBLE = 8
NCCL_BFLOAT16 = 9

_UNIQUE_ID_BYTES = 128
_PREFIX = "cuda-emulator-nccl-"
_SYSTEM_ERROR, _INVALID_ARGUMENT, _INVALID_USAGE, _REMOTE_ERROR = 2, 4, 5, 6
_ERRORS = {
    _SYSTEM_ERROR: ("NCCL_ERROR_SYSTEM_ERROR", "unhandled system error"),
    _INVALID_ARGUMENT: ("NCCL_ERROR_INVALID_ARGUMENT", "invalid argument"),
    _INVALID_USAGE: ("NCCL_ERROR_INVALID_USAGE", "invalid usage"),
    _REMOTE_ERROR: (
        "NCCL_ERROR_REMOTE_ERROR",
        "remote process exited or there was a network error",
    ),
}


class NcclError(RuntimeError):
    """An error of NCCL.

    Attributes
    ----------
    status : int
        The `ncclResult_t`.
    """

    def __init__(self, status: int, detail: str = "") -> None:
        self.status = status
        name, text = _ERRORS[status]
        super().__init__(f"{name}: {text}" + (f" ({detail})" if detail else ""))


def get_version() -> int:
    """Return the NCCL version that this interface follows."""
    return 22707


get_build_version = get_version


def get_unique_id() -> bytes:
    """Return an ID for a new communicator: the folder through which its ranks communicate."""
    root = Path(tempfile.gettempdir())
    _remove_stale_folders(root)
    folder = str(root / (_PREFIX + secrets.token_hex(8))).encode()
    if len(folder) > _UNIQUE_ID_BYTES:
        raise NcclError(
            _SYSTEM_ERROR, f"{folder.decode()} is {len(folder)} bytes; expected at most 128"
        )
    return folder.ljust(_UNIQUE_ID_BYTES, b"\0")


def _remove_stale_folders(root: Path) -> None:
    """Remove folders left by killed processes."""
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            processes = _processes(folder / "control")
            old = time.time() - folder.stat().st_mtime > 3600
        except OSError:
            continue
        if old and not any(os.path.exists(f"/proc/{process}") for process in processes):
            shutil.rmtree(folder, ignore_errors=True)


def _processes(control: Path) -> list[int]:
    """Return the IDs of the processes that have joined: the first field of each slot."""
    numbers = memoryview(control.read_bytes()).cast("i")
    return [process for process in numbers[::10] if process]


_group_depth = 0
_group: list[NcclCommunicator] = []


def groupStart() -> None:
    """Start a group of calls: creating a communicator does not wait for other ranks."""
    global _group_depth
    _group_depth += 1


def groupEnd() -> None:
    """End a group of calls; wait for the ranks of its communicators."""
    global _group_depth
    if _group_depth == 0:
        raise NcclError(_INVALID_USAGE, "groupEnd without groupStart")
    _group_depth -= 1
    if _group_depth == 0:
        waiting, _group[:] = _group[:], []
        for communicator in waiting:
            communicator._wait_for_ranks()


class NcclCommunicator:
    """A rank of a communicator, on the current device.

    Parameters
    ----------
    ndev : int
        The number of ranks.
    commId : bytes
        From `get_unique_id`, called by one rank.
    rank : int
    """

    def __init__(self, ndev: int, commId: bytes, rank: int, config: object = None) -> None:
        self._handle = 0
        if len(commId) != _UNIQUE_ID_BYTES:
            raise ValueError(f"commId length {len(commId)} != {_UNIQUE_ID_BYTES}.")
        self._ranks, self._rank = ndev, rank
        problem = ctypes.create_string_buffer(512)
        folder = commId.rstrip(b"\0")
        self._handle = _calls.library.emu_communicator_create(folder, ndev, rank, problem) or 0
        if not self._handle:
            raise NcclError(_INVALID_ARGUMENT, problem.value.decode())
        if _group_depth:
            _group.append(self)
        else:
            self._wait_for_ranks()

    def _wait_for_ranks(self) -> None:
        limit = float(os.environ.get("EMU_NCCL_TIMEOUT") or 600)
        end = time.monotonic() + limit
        while (missing := _calls.status("emu_communicator_missing", self._handle)) >= 0:
            if time.monotonic() > end:
                self.destroy()
                raise NcclError(
                    _REMOTE_ERROR,
                    f"rank {missing} of {self._ranks} did not join within {limit:g} s "
                    "(EMU_NCCL_TIMEOUT)",
                )
            time.sleep(0.001)
        for rank in range(self._ranks):
            size = _calls.status("emu_communicator_size_of", self._handle, rank)
            if size != self._ranks:
                self.destroy()
                detail = (
                    f"rank {rank} expects {size} ranks; rank {self._rank} expects {self._ranks}"
                )
                raise NcclError(_INVALID_ARGUMENT, detail)

    @staticmethod
    def initAll(devices: int | Sequence[int]) -> list[NcclCommunicator]:
        """Create a communicator for several devices of this process."""
        numbers = list(range(devices)) if isinstance(devices, int) else list(devices)
        unique, before, made = get_unique_id(), runtime.getDevice(), []
        groupStart()
        try:
            for rank, device in enumerate(numbers):
                runtime.setDevice(device)
                made.append(NcclCommunicator(len(numbers), unique, rank))
        finally:
            runtime.setDevice(before)
            groupEnd()
        return made

    def allReduce(
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        arguments = (sendbuf, recvbuf, count, datatype, op, stream)
        status = _calls.status("emu_all_reduce", self._handle, *arguments)
        if status != 0:
            raise NcclError(status)

    def device_id(self) -> int:
        return _calls.status("emu_communicator_device", self._handle)

    def rank_id(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._ranks

    def check_async_error(self) -> None:
        """Do nothing: the emulator reports errors itself."""

    def destroy(self) -> None:
        if self._handle:
            _calls.library.emu_communicator_destroy(ctypes.c_void_p(self._handle))
            self._handle = 0

    abort = destroy

    def __del__(self) -> None:
        if getattr(self, "_handle", 0) and _calls is not None:
            self.destroy()
