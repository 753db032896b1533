"""Importable splits for tests of worker processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data import Split
from pyalexnet.errors import DataError


def workers() -> set[int]:
    """Returns the process ids of this process's running loader workers."""
    while True:
        # A thread that ends during the scan hands its children to another one: scan again.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return _scan()


def _scan() -> set[int]:
    pids = set()
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"pyalexnet.data.loading.workers" in Path(f"/proc/{pid}/cmdline").read_bytes():
                pids.add(int(pid))
    return pids


class Numbered(Split):
    """Every pixel of image i holds the two bytes of i as its channels; the label is i % 7.

    Parameters
    ----------
    n : int
    damaged : tuple of int
        Unreadable images.
    skip_bad : bool
        Skip these instead of raising DataError.
    """

    def __init__(self, n: int, damaged: tuple[int, ...] = (), *, skip_bad: bool = False) -> None:
        self.shape = (2, 3, 2)
        self.labels = np.arange(n, dtype=np.int32) % 7
        self._damaged, self._skip_bad = damaged, skip_bad

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        out[...] = np.stack([indices % 256, indices // 256], axis=1)[:, None, None, :]
        for place, index in enumerate(indices.tolist()):
            if index in self._damaged:
                if not self._skip_bad:
                    raise DataError(f"image {index}: damaged")
                out[place] = 0
                self.labels[index] = -1


def numbers(images: NDArray[np.uint8]) -> list[int]:
    """Returns the indices that `Numbered` images hold."""
    pixels = images.reshape(len(images), -1, 2).astype(int)
    assert (pixels == pixels[:, :1]).all()
    return (pixels[:, 0, 0] + 256 * pixels[:, 0, 1]).tolist()


class Process(Numbered):
    """Every image holds the id of the process that read it."""

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        out.reshape(len(indices), -1)[:, :8] = np.array([os.getpid()]).view(np.uint8)


class Dying(Numbered):
    """The process that reads image 20 fails or dies as `how` says."""

    def __init__(self, n: int, how: str) -> None:
        super().__init__(n)
        self._how = how

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        if 20 in indices:
            if self._how == "bug":
                raise ZeroDivisionError("a bug")
            if self._how == "exit":
                os._exit(7)
            if self._how != "hang":
                os.kill(os.getpid(), signal.Signals[self._how])
            signal.pause()
        super().read_into(indices, out)


class Unpicklable(Numbered):
    """Cannot be pickled for a worker."""

    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


class Unknown(Numbered):
    """Cannot be unpickled by a worker."""

    def __setstate__(self, state: object) -> None:
        sys.exit(3)


def hang() -> None:
    """A worker that tells its parent and then waits for a pipe's other end."""
    os.write(int(sys.argv[2]), b"x")
    open(sys.argv[3], "rb").close()
