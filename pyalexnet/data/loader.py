"""Batches read ahead, epoch after epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.split import Split
from pyalexnet.data.workers import Caller, Crew, Done, Processes, Reader, Ring, Task, Threads

_CHUNK = 8  # images that a process reads for one message, at least
_AHEAD = 4  # batches read ahead, at least

Bytes = NDArray[np.uint8]


class Batch(NamedTuple):
    """Images of a batch, or a replica's part of them.

    Attributes
    ----------
    images : uint8 (B, H, W, C)
    labels : int32 (B,)
    first : int
        Place of the first image here in the whole batch.
    whole : int
        Images in the whole batch.
    """

    images: Bytes
    labels: NDArray[np.int32]
    first: int
    whole: int


class Loader:
    """Gives the batches of a split, epoch after epoch, and reads ahead.

    Workers start with the first batch and live until `close`, which a `with` statement calls. They
    are processes where the split decodes (`Split.decodes`), else threads. Batches come in order and
    have the same bits whatever their number.

    A batch's arrays are views of a ring of slots. They stay as they are until the batch after it is
    asked for, or `hold` batches later: its slot is filled anew only then. That lets a copy to a GPU
    run on while the next batches are trained.

    Parameters
    ----------
    split : Split
    batch : int
        Images in a whole batch; the last of an epoch may be smaller.
    seed : int, optional
        Of the order, another one each epoch. By default, the order is 0 … n-1.
    workers : int, optional
        Threads or processes that read; by default as many as this process may use cores. 0: the
        caller reads a batch itself when it asks for it.
    rank, ranks : int
        Give only replica `rank`'s part of every batch: of n images, those from rank·n//ranks to
        (rank+1)·n//ranks - 1, perhaps none.
    ahead : int, optional
        Batches that are read, or being read, before they are asked for; by default 4, or more
        where that would not occupy all processes.
    hold : int
        How many more batches can be asked for while one given before stays as it is.
    pin, unpin : callable, optional
        Called with the ring's memory, uint8 (bytes,), before the first batch and at the end.

    Attributes
    ----------
    split : Split
    waited : float
        Seconds that batches have been waited for so far.
    """

    def __init__(
        self,
        split: Split,
        batch: int,
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
            raise ValueError(f"rank {rank}; expected 0 to {ranks - 1}")
        self.split = split
        self.waited = 0.0
        self._batch, self._rank, self._ranks = batch, rank, ranks
        self._reader = Reader(split, seed)
        self._workers = usable_cores() if workers is None else workers
        self._size = max(1, -(-min(batch, len(split)) // ranks))  # images in a slot
        self._chunk = self._size
        if self._workers == 0:
            ahead = 0
        elif split.decodes:
            # All processes share a batch, so that a few batches are enough for any number of them.
            self._chunk = min(self._size, max(_CHUNK, -(-self._size // self._workers)))
            enough = -(-2 * self._workers * self._chunk // self._size)
            ahead = max(_AHEAD, enough) if ahead is None else ahead
        self._ahead = _AHEAD if ahead is None else ahead
        self._hold, self._pin, self._unpin = hold, pin, unpin
        self._crew: Crew | None = None
        self._given = 0  # batches, of all epochs
        self._epoch: object = None  # the one that is being given
        # By batch: how many of its tasks are under way; by batch and place: what went wrong.
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
        """End the workers. The arrays given so far stay valid."""
        if self._crew is not None:
            self._crew.close()
            if self._unpin is not None:
                self._unpin(self._crew.ring.memory)
            self._crew = None
        self._epoch = None

    def epoch(self, number: int = 0, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        number : int
            Which; decides the order where there is a seed.
        start : int
            Batches to leave out at the front: a resumed epoch goes on where it stopped.

        Raises
        ------
        DataError
            An image cannot be read, once the batches before its own have been given; a worker has
            died.
        RuntimeError
            Another epoch has begun, or the loader was closed, before this one came to its end.
        """
        self._epoch = me = object()
        end = -(-len(self.split) // self._batch)
        if start >= end:
            return
        crew = self._crew = self._crew or self._started()
        crew.drop()
        self._left.clear()
        self._errors.clear()
        offset = self._given - start  # from batches of this epoch to those of all
        submitted = start
        for given in range(start, end):
            begin = time.perf_counter()
            try:
                while submitted < end and submitted <= given + self._ahead:
                    self._submit(crew, number, submitted, submitted + offset)
                    submitted += 1
                while self._left[given + offset]:
                    self._note(crew.wait())
            finally:
                self.waited += time.perf_counter() - begin
            del self._left[given + offset]
            if errors := [place for place in self._errors if place[0] == given + offset]:
                raise self._errors[min(errors)]
            slot = self._given % len(crew.ring.images)
            self._given += 1
            first, last, whole = self._part(given)
            count = last - first
            yield Batch(
                crew.ring.images[slot, :count], crew.ring.labels[slot, :count], first, whole
            )
            if self._epoch is not me:
                raise RuntimeError("the loader was closed, or has begun another epoch")

    def _started(self) -> Crew:
        slots, shape = 1 + self._hold + self._ahead, self.split.shape
        crew: Crew
        if self._workers and self.split.decodes:
            crew = Processes(self._reader, slots, self._size, shape, self._workers)
        else:
            ring = Ring(slots, self._size, shape)
            crew = Caller(self._reader, ring)
            if self._workers:
                crew = Threads(self._reader, ring, self._workers)
        if self._pin is not None:
            try:
                self._pin(crew.ring.memory)
            except BaseException:
                crew.close()
                raise
        return crew

    def _part(self, batch: int) -> tuple[int, int, int]:
        """Places in a whole batch where this replica's part begins and ends, and its images."""
        whole = min(self._batch, len(self.split) - batch * self._batch)
        first, last = (r * whole // self._ranks for r in (self._rank, self._rank + 1))
        return first, last, whole

    def _submit(self, crew: Crew, epoch: int, batch: int, counted: int) -> None:
        first, last, _ = self._part(batch)
        chunks = range(0, last - first, self._chunk)
        self._left[counted] = len(chunks)
        for begin in chunks:
            count = min(self._chunk, last - first - begin)
            position = batch * self._batch + first + begin
            slot = counted % len(crew.ring.images)
            crew.submit(Task(counted, slot, begin, count, epoch, position))

    def _note(self, done: Done) -> None:
        self._left[done.task.batch] -= 1
        if done.error is not None:
            self._errors[done.task.batch, done.task.begin] = done.error
        self.split.labels[done.unreadable] = -1  # a process has set its own only


def usable_cores() -> int:
    """Give the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
