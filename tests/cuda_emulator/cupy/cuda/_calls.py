"""Calls into the emulator's CUDA runtime."""

from __future__ import annotations

import ctypes
import os
from typing import Any

if not os.environ.get("EMU_LIBRARY"):
    raise ImportError(
        "this cupy works only in the CUDA emulator; start the program with "
        "tests/cuda_emulator/run, or remove tests/cuda_emulator from PYTHONPATH"
    )

library = ctypes.CDLL(os.environ["EMU_LIBRARY"])
library.cudaGetErrorName.restype = ctypes.c_char_p
library.cudaGetErrorString.restype = ctypes.c_char_p
library.emu_communicator_create.restype = ctypes.c_void_p
library.emu_take_ranges.restype = ctypes.c_char_p

ERROR_MEMORY_ALLOCATION = 2


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime.

    Attributes
    ----------
    status : int
        The `cudaError_t`.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        name = library.cudaGetErrorName(status).decode()
        super().__init__(f"{name}: {library.cudaGetErrorString(status).decode()}")


def status(name: str, *arguments: Any) -> int:
    """Call a function of the runtime.

    Integers are passed as 64 bits, which narrower parameters accept.
    """
    values = [ctypes.c_longlong(a.__index__()) if hasattr(a, "__index__") else a for a in arguments]
    return int(getattr(library, name)(*values))


def call(name: str, *arguments: Any) -> None:
    """Call a function of the runtime; raise CUDARuntimeError if it fails."""
    result = status(name, *arguments)
    if result != 0:
        library.cudaGetLastError()
        raise CUDARuntimeError(result)


def pointer(name: str, *arguments: Any) -> int:
    """Return the pointer or handle that a function writes through its first parameter."""
    out = ctypes.c_void_p()
    call(name, ctypes.byref(out), *arguments)
    return out.value or 0


def integer(name: str, *arguments: Any) -> int:
    """Return the int that a function writes through its first parameter."""
    out = ctypes.c_int()
    call(name, ctypes.byref(out), *arguments)
    return out.value


def ranges() -> list[str] | None:
    """Return the names of the NVTX ranges opened since the last call, in order.

    Recording starts with the first call. None: the CUDA toolkit has no NVTX.
    """
    names: bytes | None = library.emu_take_ranges()
    return None if names is None else names.decode().splitlines()
