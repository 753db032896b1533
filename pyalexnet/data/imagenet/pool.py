"""A process pool with progress output: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

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

from pyalexnet.cores import count_cores
from pyalexnet.data.imagenet import writing
from pyalexnet.errors import UserError
from pyalexnet.text import duration

_LINES = 20  # number of progress lines without a terminal
_LOOK = 0.2  # seconds between updates of the progress

T = TypeVar("T")


class Pool:
    """A pool of processes with a shared progress counter and stop flag.

    Processes are spawned, because the kernels' threads do not survive a fork. They ignore Ctrl-C.
    Leaving the context cancels unfinished work.

    Parameters
    ----------
    workers : int, optional
        Number of processes; by default the number of cores available to this process.
    progress : bool
        Show progress.
    """

    def __init__(self, workers: int | None = None, progress: bool = True) -> None:
        self._workers = workers or count_cores()
        self._progress = progress
        context = get_context("spawn")
        self._done = context.Value("q", 0)
        # No lock: a killed process might hold it forever.
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
        """Yields the function's results for all items, in order."""
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
        """Yields the function's results for all calls, in order of completion.

        Parameters
        ----------
        function : callable
            Calls `writing.advance` for each image.
        calls : iterable of tuple
            Arguments; consumed as processes become available.
        title : str
            Label of the progress.
        total : int
            Total number of images.
        lines : bool
            Print progress lines if there is no terminal for a bar.
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
                # No lock, as above.
                show(self._done.get_obj().value - base)
                for future in finished:
                    yield future.result()

    def _submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        # This may start processes, which inherit the blocked SIGINT.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _alive():
                return self._executor.submit(function, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _alive() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps because memory ran out; finished shards are kept: run "
            "the same command again to continue (fewer --workers need less memory)"
        ) from None


@contextmanager
def _meter(title: str, total: int, progress: bool, lines: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the number of finished images."""
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
