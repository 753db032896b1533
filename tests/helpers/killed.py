"""Runs commands that are killed, or whose disk fills, at the n-th change of a folder's files.

A change is a call of the C library that creates, writes, syncs, renames, links, truncates or
removes: killed.c, preloaded into the command and the processes that it starts, counts them.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 120  # in which any command ends, or it hangs


class Ended(NamedTuple):
    """How a command ended.

    Attributes
    ----------
    status : int
        -SIGKILL if it was killed itself, and not a process that it started.
    printed : str
        Standard output and error.
    changes : int
        How many there were, the one included at which it was killed.
    """

    status: int
    printed: str
    changes: int

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


def run(command: Sequence[str], folder: Path, *, at: int = 0, error: int = 0) -> Ended:
    """Runs a command in a session of its own, and waits until all its processes have ended.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        Changes of this folder, which need not exist yet, and of all in it count.
    at : int
        The process that makes this change, counted from 1, is killed within it: half of what it
        writes is written. 0: none is; the changes are counted.
    error : int
        Instead, this change and all later ones fail with this errno, as on a full disk; those
        that take no space (removing, renaming) do not.
    """
    with tempfile.NamedTemporaryFile() as counter:
        counter.write(bytes(8))
        counter.flush()
        preloaded = [os.environ.get("LD_PRELOAD", ""), str(_library())]
        # A process that outlives the command keeps its standard output open.
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "LD_PRELOAD": " ".join(filter(None, preloaded)),
                "FAULT_COUNTER": counter.name,
                "FAULT_FOLDER": os.path.realpath(folder),
                "FAULT_AT": str(at),
                "FAULT_ERRNO": str(error),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            cwd=Path(__file__).parent,  # where Python finds no pyalexnet that has not been built
            timeout=SECONDS,
            start_new_session=True,
        )
        counter.seek(0)
        changes = int.from_bytes(counter.read(8), sys.byteorder)
    return Ended(done.returncode, done.stdout, changes)


@functools.cache
def _library() -> Path:
    """Compiles killed.c."""
    folder = tempfile.TemporaryDirectory(prefix="pyalexnet-killed-")
    _library.folder = folder  # type: ignore[attr-defined]  # removed when the tests end
    library = Path(folder.name) / "killed.so"
    source = Path(__file__).with_suffix(".c")
    compiler = os.environ.get("CC", "cc")
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library), "-ldl"], check=True)
    return library
