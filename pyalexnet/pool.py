"""Long work shared by processes, and how far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from types import TracebackType
from typing import Any, TypeVar

from pyalexnet.data import writing
from pyalexnet.display import duration
from pyalexnet.errors import UserError

_LINES = 20  # that are printed where there is no terminal
_LOOK = 0.2  # seconds between looks at how far the work is

T = TypeVar("T")


class Pool:
    """Processes that count what they have done, and stop together.

    They are spawned, as the kernels' threads would not survive a fork. Ctrl-C reaches this process
    only. On leaving the context, unfinished work is called off.

    Parameters
    ----------
    workers : int, optional
        Processes; as many as there are cores for this one by default.
    progress : bool
        Show how far the work is.
    """

    def __init__(self, workers: int | None = None, progress: bool = True) -> None:
        self._workers = workers or cores()
        self._progress = progress
        context = get_context("spawn")
        self._done = context.Value("q", 0)
        # Without a lock, which a process that is killed might hold for ever.
        self._stop = context.RawValue("b", 0)
        self._executor = ProcessPoolExecutor(
            self._workers, context, writing.begin, (self._done, self._stop)
        )

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.value = 1
        self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Any], T], items: list[Any]) -> Iterator[T]:
        """Yield the function's results for all items, in order."""
        futures = [self._submit(function, item) for item in items]
        with _alive():
            for future in futures:
                yield future.result()

    def run(
        self,
        function: Callable[..., T],
        calls: Iterable[tuple[Any, ...]],
        title: str,
        total: int,
        *,
        lines: bool = True,
    ) -> Iterator[T]:
        """Yield the function's results for all calls as they come.

        Parameters
        ----------
        function : callable
            Calls `writing.advance` for each image.
        calls : iterable of tuple
            Arguments; taken as processes have room for them.
        title : str
            What the work is called.
        total : int
            How many images that will be.
        lines : bool
            Print lines where there is no terminal for a bar.
        """
        calls = iter(calls)
        pending: set[Future[T]] = set()
        base = self._done.get_obj().value
        with _meter(title, total, self._progress, lines) as show, _alive():
            while True:
                for call in islice(calls, 2 * self._workers - len(pending)):
                    pending.add(self._submit(function, *call))
                if not pending:
                    return
                finished, pending = wait(pending, _LOOK, FIRST_COMPLETED)
                # Without its lock, likewise.
                show(self._done.get_obj().value - base)
                for future in finished:
                    yield future.result()

    def _submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        # This may start processes, which inherit that they are deaf to Ctrl-C.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _alive():
                return self._executor.submit(function, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _alive() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps killed for want of memory; what is finished is kept, "
            "and the same command goes on from there (fewer --workers need less memory)"
        ) from None


@contextmanager
def _meter(title: str, total: int, progress: bool, lines: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function that shows how many of the images are done."""
    terminal = sys.stderr.isatty()
    if not progress or not (terminal or lines):
        yield lambda done: None
    elif terminal:
        from tqdm import tqdm

        with tqdm(total=total, desc=title, unit=" images", leave=False, dynamic_ncols=True) as bar:

            def update(done: int) -> None:
                bar.update(done - bar.n)

            yield update
    else:
        begin, shown = time.monotonic(), 0

        def show(done: int) -> None:
            nonlocal shown
            if done * _LINES // max(total, 1) > shown:
                shown = done * _LINES // total
                passed = time.monotonic() - begin
                print(
                    f"{title}: {done:,} of {total:,} images, {done / passed:,.0f} images/s, "
                    f"{duration((total - done) * passed / done)} left",
                    flush=True,
                )

        yield show
