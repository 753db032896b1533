"""A process pool with progress output: a bar on a terminal, lines elsewhere.

Each process has a socket, on which it gets one call at a time, and answers with messages: how many
images it has finished, and the call's result or error.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

from pyalexnet.cores import count_cores
from pyalexnet.data.loading import processes
from pyalexnet.errors import MachineError, UserError
from pyalexnet.text import duration, printable

_LINES = 20  # number of progress lines without a terminal
_PAUSE = 0.2  # seconds between two messages of a process about its progress
_PATIENCE = 10  # seconds until a killed process, which may wait for a disk, is left to itself

T = TypeVar("T")


class Pool:
    """A pool of processes that call functions of modules.

    Processes start when there is work for them: fewer than wanted if the system allows no more.
    Leaving the context kills them: what they write is temporary until it is complete.

    Parameters
    ----------
    workers : int, optional
        Number of processes; by default the number of cores available to this process.
    progress : bool
        Show progress.
    """

    def __init__(self, workers: int | None = None, progress: bool = True) -> None:
        self._limit = workers or count_cores()
        self._progress = progress
        self._workers: dict[Connection, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers.values():
            worker.kill()
        for link, worker in self._workers.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(_PATIENCE)
            link.close()
        self._workers = {}

    def map(self, function: Callable[[Any], T], items: list[Any]) -> Iterator[T]:
        """Yields the function's results for all items, in order."""
        found: dict[int, T] = {}
        wanted = 0
        for number, result in self._results(function, ((item,) for item in items), _ignore):
            found[number] = result
            while wanted in found:
                yield found.pop(wanted)
                wanted += 1

    def run(
        self,
        function: Callable[..., T],
        calls: Iterable[tuple[Any, ...]],
        title: str,
        total: int,
        *,
        lines: bool = True,
    ) -> Iterator[T]:
        """Yields the function's results for all calls, in order of completion.

        Parameters
        ----------
        function : callable
            Calls `advance` for each image.
        calls : iterable of tuple
            Arguments; consumed as processes become available.
        title : str
            Label of the progress.
        total : int
            Total number of images.
        lines : bool
            Print progress lines if there is no terminal for a bar.
        """
        with _meter(title, total, self._progress, lines) as show:
            for _, result in self._results(function, calls, show):
                yield result

    def _results(
        self,
        function: Callable[..., T],
        calls: Iterable[tuple[Any, ...]],
        show: Callable[[int], None],
    ) -> Iterator[tuple[int, T]]:
        """Yields each call's position and result, in order of completion."""
        left = enumerate(calls)
        running: dict[Connection, int] = {}
        done = 0
        while True:
            while (link := self._idle(running)) and (call := next(left, None)):
                running[link] = call[0]
                with self._alive(link):
                    link.send((function, call[1]))
            if not running:
                return
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                with self._alive(ready):
                    finished, error, result = ready.recv()
                if error is not None:
                    raise error
                if finished:
                    done += finished
                    show(done)
                else:
                    yield running.pop(ready), result

    def _idle(self, running: dict[Connection, int]) -> Connection | None:
        """Returns a process without a call; starts one if needed and possible."""
        for link in self._workers:
            if link not in running:
                return link
        if len(self._workers) == self._limit:
            return None
        try:
            return self._start()
        except OSError as error:
            if not self._workers:
                raise MachineError(f"a worker process cannot be started: {error}") from error
            self._limit = len(self._workers)
            return None

    def _start(self) -> Connection:
        link, other = multiprocessing.Pipe()
        try:
            self._workers[link] = processes.start(serve, [other.fileno()])
        except BaseException:
            link.close()
            raise
        finally:
            other.close()
        return link

    @contextmanager
    def _alive(self, link: Connection) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):  # perhaps within a message
            worker = self._workers[link]
            try:
                reason = processes.exit_reason(worker.wait(_PATIENCE))
            except subprocess.TimeoutExpired:
                reason = "a worker process does not answer"
            raise MachineError(
                f"{reason}; finished shards are kept: run the same command again to continue "
                "(fewer --workers need less memory)"
            ) from None


def _ignore(done: int) -> None:
    pass


class _Told:
    """What a worker process has told of its progress."""

    link: Connection | None = None
    finished = 0  # images since
    when = 0.0


def advance() -> None:
    """Counts an image in a worker process."""
    _Told.finished += 1
    if time.monotonic() >= _Told.when + _PAUSE:
        _tell()


def _tell() -> None:
    if _Told.link is not None and _Told.finished:
        _Told.link.send((_Told.finished, None, None))
    _Told.finished, _Told.when = 0, time.monotonic()


def serve() -> None:
    """Answers calls in a worker process until the pool closes."""
    # Only errors of images matter; oversized ones are rejected by their pixel count.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    link = _Told.link = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, arguments = link.recv()
            error: Exception | None = None
            result = None
            try:
                result = function(*arguments)
            except MemoryError:
                error = MachineError(
                    "not enough memory in a worker process; fewer --workers need less"
                )
            except Exception as raised:
                error = _portable(raised)
            _tell()
            link.send((0, error, result))
    os._exit(0)  # skips the interpreter's slow shutdown


def _portable(error: Exception) -> Exception:
    system = isinstance(error, OSError) and type(error).__module__ == "builtins"
    if system or isinstance(error, UserError):
        return error
    # Tracebacks, and some exceptions, cannot be pickled.
    return RuntimeError(f"in a worker process:\n{''.join(traceback.format_exception(error))}")


def say(line: str) -> None:
    """Prints a line, if it can be: a closed pipe or a full disk stops no work.

    Characters that the encoding lacks are escaped.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    shown = printable(line).encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError):
        print(shown, flush=True)


@contextmanager
def _meter(title: str, total: int, progress: bool, lines: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the number of finished images."""
    terminal = sys.stderr.isatty()
    if not progress or not (terminal or lines):
        yield lambda done: None
    elif terminal:
        from tqdm import tqdm

        gone = contextlib.suppress(OSError)  # a terminal that has been closed
        bar = None
        with gone:
            bar = tqdm(total=total, desc=title, unit=" images", leave=False, dynamic_ncols=True)

        def update(done: int) -> None:
            with gone:
                if bar is not None:
                    bar.update(done - bar.n)

        try:
            yield update
        finally:
            with gone:
                if bar is not None:
                    bar.close()
    else:
        begin, shown = time.monotonic(), 0

        def show(done: int) -> None:
            nonlocal shown
            if done * _LINES // max(total, 1) > shown:
                shown = done * _LINES // total
                passed = time.monotonic() - begin
                say(
                    f"{title}: {done:,} of {total:,} images, {done / passed:,.0f} images/s, "
                    f"{duration((total - done) * passed / done)} left"
                )

        yield show
