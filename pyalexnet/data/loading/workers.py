"""Workers that fill a loader's batches: the caller itself, threads, or processes.

A loader's images and labels are in a ring of slots, one batch per slot. A `Task` is part of a
batch; workers run tasks in any order and report each as a `Result`.

Processes are started by `processes`. The ring is anonymous shared memory; parent and workers
communicate only through pipes. If any process dies, the others see end-of-file on their pipe, and
nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.augmentation import shuffled
from pyalexnet.data.dataset import Split
from pyalexnet.data.loading import processes
from pyalexnet.errors import DataError, UserError

_ALIGNMENT = 64  # a cache line
_RECORD = struct.Struct("=6q16x")  # a task in a pipe: 64 bytes, which divide a page


class WorkerDied(DataError):
    """A worker process ended before its work."""


class Task(NamedTuple):
    """A part of a batch to read: consecutive images of an epoch's order, into one slot.

    Attributes
    ----------
    batch : int
        Index of the batch, over all epochs.
    slot, begin, images : int
        Where to: slot, first position in it, and number of images.
    epoch, position : int
        Where from: epoch, and first position in its order.
    """

    batch: int
    slot: int
    begin: int
    images: int
    epoch: int
    position: int


class Result(NamedTuple):
    """The result of a task.

    Attributes
    ----------
    task : Task
    unreadable : list of int
        Indices of images with label -1.
    error : Exception, optional
        Set if the images were not read.
    """

    task: Task
    unreadable: list[int]
    error: Exception | None = None


class Ring:
    """A ring buffer of batches.

    Parameters
    ----------
    slots, size : int
        Number of batches, and of images in each.
    shape : (H, W, C)
    memory : mmap, optional
        The memory to use; allocated by default.

    Attributes
    ----------
    images : uint8 (slots, size, H, W, C)
    labels : int32 (slots, size)
    memory : uint8 (bytes,)
        The whole buffer, page-aligned.
    """

    def __init__(
        self,
        slots: int,
        size: int,
        shape: tuple[int, int, int],
        memory: mmap.mmap | None = None,
    ) -> None:
        held = self.nbytes(slots, size, shape)
        self.memory = np.frombuffer(memory or mmap.mmap(-1, held), np.uint8, held)
        pixels = slots * size * shape[0] * shape[1] * shape[2]
        self.images = self.memory[:pixels].reshape(slots, size, *shape)
        first = _aligned(pixels)
        self.labels = self.memory[first : first + 4 * slots * size].view(np.int32)
        self.labels = self.labels.reshape(slots, size)

    @staticmethod
    def nbytes(slots: int, size: int, shape: tuple[int, int, int]) -> int:
        """Returns the size of the memory in bytes, at least one."""
        pixels = slots * size * shape[0] * shape[1] * shape[2]
        return _aligned(_aligned(pixels) + 4 * slots * size + 1)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Reader(NamedTuple):
    """Runs tasks.

    Attributes
    ----------
    split : Split
    seed : int, optional
        Shuffles; None: every epoch's order is 0 … n-1.
    """

    split: Split
    seed: int | None

    def indices(self, epoch: int, position: int, count: int) -> NDArray[np.int64]:
        """Returns the image indices at consecutive positions of an epoch: int64 (count,)."""
        positions = np.arange(position, position + count)
        if self.seed is None:
            return positions
        return shuffled(self.seed, epoch, len(self.split), positions)

    def do(self, task: Task, ring: Ring) -> Result:
        """Reads a task's images into the ring; an error is returned in the result."""
        places = slice(task.begin, task.begin + task.images)
        indices = self.indices(task.epoch, task.position, task.images)
        try:
            self.split.read_into(indices, ring.images[task.slot, places])
        except Exception as error:
            return Result(task, [], error)
        labels = self.split.labels[indices]  # after reading, which may set labels to -1
        ring.labels[task.slot, places] = labels
        return Result(task, indices[labels < 0].tolist())


class Workers(ABC):
    """Runs the tasks of one ring.

    Attributes
    ----------
    ring : Ring
    """

    ring: Ring

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Queues a task."""

    @abstractmethod
    def wait(self) -> Result:
        """Waits for a task and returns its result. At least one must be in flight."""

    @abstractmethod
    def drop(self) -> None:
        """Discards all tasks in flight; none is running on return."""

    @abstractmethod
    def close(self) -> None:
        """Stops the workers immediately."""


class Inline(Workers):
    """Reads in the caller's thread, inside `wait`."""

    def __init__(self, reader: Reader, ring: Ring) -> None:
        self.ring, self._reader = ring, reader
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self) -> Result:
        return self._reader.do(self._tasks.popleft(), self.ring)

    def drop(self) -> None:
        self._tasks.clear()

    close = drop


class Threads(Workers):
    """Threads of this process, for splits in memory."""

    def __init__(self, reader: Reader, ring: Ring, workers: int) -> None:
        self.ring, self._reader = ring, reader
        started = _startable(workers)
        if not started:
            raise OSError(errno.EAGAIN, "no more can be started")
        if started < workers:
            say_fewer(started, workers, "threads", "no more can be started")
        self._pool = ThreadPoolExecutor(started, thread_name_prefix="pyalexnet-loader")
        self._tasks: deque[Future[Result]] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(self._pool.submit(self._reader.do, task, self.ring))

    def wait(self) -> Result:
        return self._tasks.popleft().result()

    def drop(self) -> None:
        tasks = [task for task in self._tasks if not task.cancel()]
        self._tasks.clear()
        for task in tasks:
            task.result()

    def close(self) -> None:
        self._tasks.clear()
        self._pool.shutdown(cancel_futures=True)


def _startable(count: int) -> int:
    """How many of so many threads this process can start."""
    end, started = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=end.wait)
            thread.start()
            started.append(thread)
    except RuntimeError:
        pass
    finally:
        end.set()
        for thread in started:
            thread.join()
    return len(started)


def say_fewer(started: int, wanted: int, what: str, why: str) -> None:
    """Prints that images are read by fewer workers than asked for."""
    if sys.stderr is not None:
        how = (
            f"{started} of {wanted} {what}"
            if started
            else f"the main thread instead of {wanted} {what}"
        )
        with contextlib.suppress(OSError):
            print(f"images are read by {how}: {why}", file=sys.stderr, flush=True)


class Processes(Workers):
    """Processes, for splits that decode.

    All take their tasks from one pipe, 64 bytes per task. Linux reads that atomically, so they need
    no lock, which a dying worker might hold. Each has its own pipe for results. The split is
    pickled once, into the ring's shared memory; all workers use its large arrays there.

    Where the system has too few processes or descriptors, there are fewer, which a line says.

    Raises
    ------
    UserError
        There is too little memory for the ring.
    OSError
        No process can be started.
    """

    def __init__(
        self, reader: Reader, slots: int, size: int, shape: tuple[int, int, int], workers: int
    ) -> None:
        self._workers: dict[connection.Connection, subprocess.Popen[bytes]] = {}
        self._done: deque[Result] = deque()
        self._under_way = 0
        self._giving = -1
        arrays: list[pickle.PickleBuffer] = []
        program = pickle.dumps(reader, protocol=5, buffer_callback=arrays.append)
        parts = [memoryview(program), *(array.raw() for array in arrays)]
        layout, end = [], Ring.nbytes(slots, size, shape)
        for part in parts:
            layout.append((end, part.nbytes))
            end = _aligned(end + part.nbytes)
        taking, self._giving = os.pipe()
        try:
            with _shared(end) as file:
                memory = mmap.mmap(file, end)
                for (begin, length), part in zip(layout, parts, strict=True):
                    memory[begin : begin + length] = part
                self.ring = Ring(slots, size, shape, memory)
                form = json.dumps([slots, size, shape, layout])
                self._start_all(workers, taking, file, form)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(taking)

    def _start_all(self, count: int, taking: int, file: int, form: str) -> None:
        for _ in range(count):
            try:
                self._start(taking, file, form)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):  # others need some, too
                    for results in list(self._workers)[len(self._workers) // 2 :]:
                        self._end(results)
                if not self._workers:
                    raise
                why = error.strerror or str(error)
                say_fewer(len(self._workers), count, "worker processes", why)
                return

    def _end(self, results: connection.Connection) -> None:
        worker = self._workers.pop(results)
        worker.kill()  # workers only read, so that is safe
        worker.wait()
        results.close()

    def _start(self, taking: int, file: int, form: str) -> None:
        results, sender = multiprocessing.Pipe(duplex=False)
        try:
            worker = processes.start(serve, (taking, sender.fileno(), file), [form])
        except BaseException:
            results.close()
            raise
        finally:
            sender.close()
        self._workers[results] = worker

    def submit(self, task: Task) -> None:
        self._under_way += 1
        # A broken pipe means that all workers died, which `wait` reports.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._giving, _RECORD.pack(*task))

    def wait(self) -> Result:
        while not self._done:
            for results in connection.wait(list(self._workers)):
                assert isinstance(results, connection.Connection)
                try:
                    self._done.append(results.recv())
                except (EOFError, OSError):  # end-of-file, perhaps within a message
                    raise WorkerDied(processes.exit_reason(self._workers[results].wait())) from None
        self._under_way -= 1
        return self._done.popleft()

    def drop(self) -> None:
        while self._under_way:
            self.wait()

    def close(self) -> None:
        if self._giving >= 0:
            os.close(self._giving)
            self._giving = -1
        for worker in self._workers.values():  # all of them before the first is waited for
            worker.kill()
        for results in list(self._workers):
            self._end(results)

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def _shared(size: int) -> Any:
    """Yields the descriptor of an anonymous file in memory with `size` bytes allocated."""
    try:
        if sys.platform == "linux":
            file = os.memfd_create("pyalexnet-loader")
        else:
            with tempfile.TemporaryFile() as named:
                file = os.dup(named.fileno())
        try:
            if sys.platform == "darwin":
                os.truncate(file, size)
            else:
                os.posix_fallocate(file, 0, size)  # or a later write would kill the process
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise UserError(
            f"shared memory for prefetched images: {size / 1e6:,.0f} MB cannot be allocated: "
            f"{error.strerror}; a smaller batch or fewer workers need less"
        ) from error
    try:
        yield file
    finally:
        os.close(file)


def serve() -> None:
    """Runs tasks in a worker process until the task pipe closes, as when the parent ends."""
    taking, sending, file = map(int, sys.argv[1:4])
    slots, size, (rows, columns, channels), layout = json.loads(sys.argv[4])
    memory = mmap.mmap(file, 0)
    os.close(file)
    ring = Ring(slots, size, (rows, columns, channels), memory)
    view = memoryview(memory)
    results = connection.Connection(sending, readable=False)
    with contextlib.suppress(BrokenPipeError):  # the parent ended
        _work(taking, results, ring, [view[begin : begin + length] for begin, length in layout])
    os._exit(0)  # skips the interpreter's slow shutdown


def _work(
    taking: int, results: connection.Connection, ring: Ring, parts: Sequence[memoryview]
) -> None:
    reader: Reader = pickle.loads(parts[0], buffers=parts[1:])
    while record := os.read(taking, _RECORD.size):
        done = reader.do(Task(*_RECORD.unpack(record)), ring)
        if done.error is not None and not isinstance(done.error, UserError):
            # Tracebacks, and some exceptions, cannot be pickled.
            trace = "".join(traceback.format_exception(done.error))
            done = done._replace(error=RuntimeError(f"in a worker process:\n{trace}"))
        results.send(done)
