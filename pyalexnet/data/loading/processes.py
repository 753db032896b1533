"""Starts processes that work for this one, and that end with it.

They are started with `subprocess`, not `multiprocessing`: this never forks a process that has
threads, does not run the user's script again (which may be a notebook or standard input), and needs
no semaphore in /dev/shm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence


def start(
    function: Callable[[], None], files: Sequence[int], arguments: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Starts a process that runs a function, in a session of its own, which Ctrl-C does not reach.

    Parameters
    ----------
    function : callable
        A module's. It finds the descriptors' numbers in `sys.argv`, from 1, then the arguments.
    files : sequence of int
        Descriptors that the process gets. The first is an end of a pipe or socket of which only
        this process has the other end: when it closes, as by a kill, the other process ends.
    arguments : sequence of str

    Raises
    ------
    OSError
        There are too few processes, descriptors or memory.
    """
    # The same import path as here: what the process unpickles may be in any module.
    program = (
        f"import sys; sys.path[:] = {list(map(os.fsdecode, sys.path))!r}\n"
        f"from {__name__} import begin; begin()\n"
        f"from {function.__module__} import {function.__name__} as work; work()"
    )
    with contextlib.ExitStack() as copies:
        given = []
        for file in files:
            if file <= 2:  # was closed here, and is replaced there
                file = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
                copies.callback(os.close, file)
            given.append(file)
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, given), *arguments],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            # If one is closed, a file that the process opens would take its place.
            stdout=None if _is_open(1) else subprocess.DEVNULL,
            stderr=None if _is_open(2) else subprocess.DEVNULL,
            start_new_session=True,
            # Otherwise each process's BLAS starts idle threads for all cores.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )


def _is_open(file: int) -> bool:
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def begin() -> None:
    """Prepares a process that `start` has started."""
    # A batch system may signal every process; only the first handles it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watching = threading.Thread(target=_end_with_parent, args=(int(sys.argv[1]),), daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads: it ends when it next reads
        watching.start()


def _end_with_parent(file: int) -> None:
    # A thread, as the process may wait elsewhere: for an image on a file server that is away.
    other_end = select.poll()
    other_end.register(file, 0)  # only POLLHUP and POLLERR
    other_end.poll()
    os._exit(1)


def exit_reason(status: int) -> str:
    """Returns "a worker process …": how it ended, by `Popen.wait`'s status."""
    if status >= 0:
        return f"a worker process ended with status {status}; see its output"
    causes: dict[int, str] = {
        signal.SIGKILL: ", as Linux does when memory runs out",
        signal.SIGBUS: ", as by a truncated memory-mapped file or a disk failure",
    }
    return f"a worker process was killed by {_name(-status)}{causes.get(-status, '')}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
