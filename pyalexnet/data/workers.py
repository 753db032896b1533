"""Who fills the slots of a loader: the caller itself, threads, or processes.

A loader's images and labels lie in a ring of slots, a batch in each. A `Task` is a part of a batch;
a crew does tasks in any order, and tells when one is done.

Processes are started by `subprocess`, not by `multiprocessing`: they never fork a process that has
threads, do not run the user's script again, and work in a session of their own, which a terminal's
Ctrl-C does not reach. The ring is memory without a name, and pipes are all that holds parent and
workers together: whoever dies, and however, the others see it by a pipe's end, and nothing is left
behind.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
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
from pyalexnet.data.split import Split
from pyalexnet.errors import DataError, UserError

_ALIGNMENT = 64  # a cache line
_RECORD = struct.Struct("=6q16x")  # a task in a pipe: 64 bytes, so that a page ends with one


class WorkerDied(DataError):
    """A worker process has ended before its work."""


class Task(NamedTuple):
    """Fill places of a slot, from `begin` on, with images from a position of an epoch on.

    Attributes
    ----------
    batch : int
        Which batch this is a part of, as the loader counts them.
    slot, begin, images : int
    epoch, position : int
    """

    batch: int
    slot: int
    begin: int
    images: int
    epoch: int
    position: int


class Done(NamedTuple):
    """What became of a task.

    Attributes
    ----------
    task : Task
    unreadable : list of int
        Images whose label is -1.
    error : Exception, optional
        Why the places have not been filled.
    """

    task: Task
    unreadable: list[int]
    error: Exception | None = None


class Ring:
    """Slots for the images and labels of batches.

    Parameters
    ----------
    slots, size : int
        Batches, and images in each.
    shape : (H, W, C)
    memory : mmap, optional
        Where they lie; by default new memory.

    Attributes
    ----------
    images : uint8 (slots, size, H, W, C)
    labels : int32 (slots, size)
    memory : uint8 (bytes,)
        All of it, from the beginning of a page.
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
        """Give the bytes of the memory, at least one."""
        pixels = slots * size * shape[0] * shape[1] * shape[2]
        return _aligned(_aligned(pixels) + 4 * slots * size + 1)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Reader(NamedTuple):
    """Does tasks.

    Attributes
    ----------
    split : Split
    seed : int, optional
        Of the order; None: epochs go in order 0 … n-1.
    """

    split: Split
    seed: int | None

    def indices(self, epoch: int, position: int, count: int) -> NDArray[np.int64]:
        """Give the images at some positions of an epoch: int64 (count,)."""
        positions = np.arange(position, position + count)
        if self.seed is None:
            return positions
        return shuffled(self.seed, epoch, len(self.split), positions)

    def do(self, task: Task, ring: Ring) -> Done:
        """Read a task's images into the ring; what goes wrong is in the result."""
        places = slice(task.begin, task.begin + task.images)
        indices = self.indices(task.epoch, task.position, task.images)
        try:
            self.split.read_into(indices, ring.images[task.slot, places])
        except Exception as error:
            return Done(task, [], error)
        labels = self.split.labels[indices]  # after reading, which may set labels to -1
        ring.labels[task.slot, places] = labels
        return Done(task, indices[labels < 0].tolist())


class Crew(ABC):
    """Does the tasks of one ring.

    Attributes
    ----------
    ring : Ring
    """

    ring: Ring

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Have a task done, some time."""

    @abstractmethod
    def wait(self) -> Done:
        """Give a task that has been done since; waits for one. Some must be under way."""

    @abstractmethod
    def drop(self) -> None:
        """Forget the tasks under way; none is being worked on any more on return."""

    @abstractmethod
    def close(self) -> None:
        """End the work, at once."""


class Caller(Crew):
    """Reads when waited for, in the caller's own thread."""

    def __init__(self, reader: Reader, ring: Ring) -> None:
        self.ring, self._reader = ring, reader
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(task)

    def wait(self) -> Done:
        return self._reader.do(self._tasks.popleft(), self.ring)

    def drop(self) -> None:
        self._tasks.clear()

    close = drop


class Threads(Crew):
    """Threads of this process, for splits that lie in memory."""

    def __init__(self, reader: Reader, ring: Ring, workers: int) -> None:
        self.ring, self._reader = ring, reader
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pyalexnet-loader")
        self._tasks: deque[Future[Done]] = deque()

    def submit(self, task: Task) -> None:
        self._tasks.append(self._pool.submit(self._reader.do, task, self.ring))

    def wait(self) -> Done:
        return self._tasks.popleft().result()

    def drop(self) -> None:
        tasks = [task for task in self._tasks if not task.cancel()]
        self._tasks.clear()
        for task in tasks:
            task.result()

    def close(self) -> None:
        self._tasks.clear()
        self._pool.shutdown(cancel_futures=True)


class Processes(Crew):
    """Processes, for splits whose reading is work.

    All take their tasks from one pipe, in which 64 bytes are a task: what Linux reads of a pipe, it
    reads at once, so that they need no lock, which a dying worker might keep. Each has a pipe of
    its own for results. The split is pickled once, into the same memory as the ring; its large
    arrays stay there, whatever the number of workers.

    Raises
    ------
    UserError
        There is no room for the ring, or no process can be started.
    """

    def __init__(
        self, reader: Reader, slots: int, size: int, shape: tuple[int, int, int], workers: int
    ) -> None:
        self._workers: dict[connection.Connection, subprocess.Popen[bytes]] = {}
        self._done: deque[Done] = deque()
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
                for _ in range(workers):
                    self._start(taking, file, form)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise UserError(f"a worker process cannot be started: {error}") from error
            raise
        finally:
            os.close(taking)

    def _start(self, taking: int, file: int, form: str) -> None:
        results, sender = multiprocessing.Pipe(duplex=False)
        # The modules found here are found there: a split may be of any.
        program = f"import sys; sys.path[:] = {sys.path!r}\nfrom {__name__} import serve\nserve()"
        files = (taking, sender.fileno(), file)
        try:
            worker = subprocess.Popen(
                [sys.executable, "-c", program, *map(str, files), form],
                pass_fds=files,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                # Or each worker's BLAS would start threads for all cores, to do nothing.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        finally:
            sender.close()
        self._workers[results] = worker

    def submit(self, task: Task) -> None:
        self._under_way += 1
        # A pipe that is broken has no reader left, which `wait` finds and says.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._giving, _RECORD.pack(*task))

    def wait(self) -> Done:
        while not self._done:
            for results in connection.wait(list(self._workers)):
                assert isinstance(results, connection.Connection)
                try:
                    self._done.append(results.recv())
                except (EOFError, OSError):  # the end, or one within a message
                    raise WorkerDied(_obituary(self._workers[results].wait())) from None
        self._under_way -= 1
        return self._done.popleft()

    def drop(self) -> None:
        while self._under_way:
            self.wait()

    def close(self) -> None:
        if self._giving >= 0:
            os.close(self._giving)
            self._giving = -1
        # They only read, so there is nothing that one might leave half done.
        for worker in self._workers.values():
            worker.kill()
        for results, worker in self._workers.items():
            worker.wait()
            results.close()
        self._workers = {}

    def __del__(self) -> None:
        self.close()


@contextlib.contextmanager
def _shared(size: int) -> Any:
    """A file of memory that has no name, by its descriptor, with room for `size` bytes."""
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
                os.posix_fallocate(file, 0, size)  # now, or a write later would end the process
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        raise UserError(
            f"no {size / 1e6:,.0f} MB of shared memory for images read ahead: {error.strerror}; "
            "a smaller batch or fewer workers need less"
        ) from error
    try:
        yield file
    finally:
        os.close(file)


def _obituary(status: int) -> str:
    if status >= 0:
        return f"a worker process ended with status {status}; what it printed says why"
    cause = {
        signal.SIGKILL: ", as Linux does when memory runs out",
        signal.SIGBUS: ", as by a mapped file that has been cut short, or a disk's failure",
    }.get(signal.Signals(-status), "")
    return f"a worker process was killed by {signal.Signals(-status).name}{cause}"


def serve() -> None:
    """Be a worker process: do tasks until the pipe that they come by ends, as the parent's does."""
    # A batch system may send every process these; the parent decides what they mean.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    taking, sending, file = map(int, sys.argv[1:4])
    slots, size, (rows, columns, channels), layout = json.loads(sys.argv[4])
    memory = mmap.mmap(file, 0)
    os.close(file)
    ring = Ring(slots, size, (rows, columns, channels), memory)
    view = memoryview(memory)
    results = connection.Connection(sending, readable=False)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        _work(taking, results, ring, [view[begin : begin + length] for begin, length in layout])
    os._exit(0)  # nothing is left that would be worth the time of taking down the interpreter


def _work(
    taking: int, results: connection.Connection, ring: Ring, parts: Sequence[memoryview]
) -> None:
    reader: Reader = pickle.loads(parts[0], buffers=parts[1:])
    while record := os.read(taking, _RECORD.size):
        done = reader.do(Task(*_RECORD.unpack(record)), ring)
        if done.error is not None and not isinstance(done.error, UserError):
            # A traceback cannot be sent, nor can every exception.
            trace = "".join(traceback.format_exception(done.error))
            done = done._replace(error=RuntimeError(f"in a worker process:\n{trace}"))
        results.send(done)
