"""Prefetched batches, epoch after epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.cores import check_count, count_cores
from pyalexnet.data.dataset import Split
from pyalexnet.data.loading.workers import (
    Inline,
    Processes,
    Reader,
    Result,
    Ring,
    Task,
    Threads,
    Workers,
    say_fewer,
)

_CHUNK = 8  # minimum of images per task of a process
_AHEAD = 4  # minimum of batches to prefetch

Bytes = NDArray[np.uint8]


class Batch(NamedTuple):
    """A batch, or one replica's part of it.

    Attributes
    ----------
    images : uint8 (B, H, W, C)
    labels : int32 (B,)
    first : int
        Index of the first image in the global batch.
    whole : int
        Size of the global batch.
    """

    images: Bytes
    labels: NDArray[np.int32]
    first: int
    whole: int


class Loader:
    """Iterates over the batches of a split and prefetches them.

    Workers start with the first batch and run until `close`, which a `with` statement calls. They
    are processes if the split decodes (`Split.decodes`), else threads. The order and content of the
    batches do not depend on their number.

    A batch's arrays are views of one slot of a ring buffer. They remain valid until the next batch
    is requested, or `hold` batches later, so that a copy to a GPU can overlap with the training of
    the following batches.

    Parameters
    ----------
    split : Split
    batch_size : int
        Images per global batch; the last one of an epoch may be smaller.
    seed : int, optional
        Shuffles, differently each epoch. By default, the order is 0 … n-1.
    workers : int, optional
        Number of threads or processes that read; by default the number of cores available to this
        process, at most `cores.MOST`. 0: the caller reads each batch when it requests it.
    rank, ranks : int
        Return only replica `rank`'s part of every batch: of n images, those from rank·n//ranks to
        (rank+1)·n//ranks - 1, possibly none.
    ahead : int, optional
        Number of batches to prefetch; by default 4, or more if needed to occupy all processes.
    hold : int
        Number of further batches that can be requested while a batch remains valid.
    pin, unpin : callable, optional
        Called with the ring's memory, uint8 (bytes,), before the first batch and on `close`.

    Raises
    ------
    UserError
        `workers` is out of range.

    Attributes
    ----------
    split : Split
    wait_seconds : float
        Total time spent waiting for batches.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int | None = None,
        workers: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        ahead: int | None = None,
        hold: int = 0,
        pin: Callable[[Bytes], object] | None = None,
        unpin: Callable[[Bytes], object] | None = None,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank is {rank}; expected 0 to {ranks - 1}")
        check_count("workers", workers, 0)
        self.split = split
        self.wait_seconds = 0.0
        self._batch_size, self._rank, self._ranks = batch_size, rank, ranks
        self._reader = Reader(split, seed)
        self._workers = count_cores() if workers is None else workers
        self._size = max(1, -(-min(batch_size, len(split)) // ranks))  # images per slot
        self._chunk = self._size
        if self._workers == 0:
            ahead = 0
        elif split.decodes:
            # All processes share a batch, so that a few batches occupy any number of them.
            self._chunk = min(self._size, max(_CHUNK, -(-self._size // self._workers)))
            enough = -(-2 * self._workers * self._chunk // self._size)
            ahead = max(_AHEAD, enough) if ahead is None else ahead
        self._ahead = _AHEAD if ahead is None else ahead
        self._hold, self._pin, self._unpin = hold, pin, unpin
        self._active: Workers | None = None
        self._given = 0  # batches returned, over all epochs
        self._epoch: object = None  # identifies the current epoch
        # Tasks in flight, by batch; errors, by batch and position in it.
        self._left: dict[int, int] = {}
        self._errors: dict[tuple[int, int], Exception] = {}

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the workers. The current batch's arrays stay valid."""
        if self._active is not None:
            self._active.close()
            if self._unpin is not None:
                self._unpin(self._active.ring.memory)
            self._active = None
        self._epoch = None

    def epoch(self, number: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch.

        Parameters
        ----------
        number : int
            Index of the epoch; determines the order if there is a seed.
        start : int
            Number of batches to skip at the start, for a resumed epoch.

        Raises
        ------
        DataError
            An image cannot be read (raised in place of its batch), or a worker died.
        RuntimeError
            Another epoch was started, or the loader closed, before the end of this one.
        """
        self._epoch = me = object()
        end = -(-len(self.split) // self._batch_size)
        if start >= end:
            return
        workers = self._active = self._active or self._started()
        workers.drop()
        self._left.clear()
        self._errors.clear()
        offset = self._given - start  # from this epoch's batch indices to those over all epochs
        submitted = start
        for given in range(start, end):
            begin = time.perf_counter()
            try:
                while submitted < end and submitted <= given + self._ahead:
                    self._submit(workers, number, submitted, submitted + offset)
                    submitted += 1
                while self._left[given + offset]:
                    self._note(workers.wait())
            finally:
                self.wait_seconds += time.perf_counter() - begin
            del self._left[given + offset]
            if errors := [place for place in self._errors if place[0] == given + offset]:
                raise self._errors[min(errors)]
            slot = self._given % len(workers.ring.images)
            self._given += 1
            first, last, whole = self._part(given)
            count = last - first
            yield Batch(
                workers.ring.images[slot, :count], workers.ring.labels[slot, :count], first, whole
            )
            if self._epoch is not me:
                raise RuntimeError("the loader was closed, or another epoch was started")

    def _started(self) -> Workers:
        slots, shape = 1 + self._hold + self._ahead, self.split.shape
        workers: Workers | None = None
        try:
            if self._workers and self.split.decodes:
                workers = Processes(self._reader, slots, self._size, shape, self._workers)
            elif self._workers:
                workers = Threads(self._reader, Ring(slots, self._size, shape), self._workers)
        except OSError as error:  # too few processes, threads or descriptors
            what = "worker processes" if self.split.decodes else "threads"
            say_fewer(0, self._workers, what, error.strerror or str(error))
        if workers is None:
            workers = Inline(self._reader, Ring(slots, self._size, shape))
        if self._pin is not None:
            try:
                self._pin(workers.ring.memory)
            except BaseException:
                workers.close()
                raise
        return workers

    def _part(self, batch: int) -> tuple[int, int, int]:
        """Returns the range of this replica's part in a global batch, and that batch's size."""
        whole = min(self._batch_size, len(self.split) - batch * self._batch_size)
        first, last = (r * whole // self._ranks for r in (self._rank, self._rank + 1))
        return first, last, whole

    def _submit(self, workers: Workers, epoch: int, batch: int, counted: int) -> None:
        first, last, _ = self._part(batch)
        chunks = range(0, last - first, self._chunk)
        self._left[counted] = len(chunks)
        for begin in chunks:
            count = min(self._chunk, last - first - begin)
            position = batch * self._batch_size + first + begin
            slot = counted % len(workers.ring.images)
            workers.submit(Task(counted, slot, begin, count, epoch, position))

    def _note(self, done: Result) -> None:
        self._left[done.task.batch] -= 1
        if done.error is not None:
            self._errors[done.task.batch, done.task.begin] = done.error
        if done.unreadable:  # a worker process has set only its own copy
            self.split.leave_out(done.unreadable)
