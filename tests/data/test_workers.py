"""A loader with worker processes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import write_folder
from helpers.splits import Dying, Numbered, Process, Unknown, Unpicklable, numbers, workers
from pyalexnet.data import Loader, WorkerDied, open_dataset
from pyalexnet.errors import DataError, UserError

pytestmark = pytest.mark.host_only("reads images")


def test_epochs_have_the_same_bits_whatever_the_number_of_workers() -> None:
    split = Numbered(150)
    given = []
    for count in (0, 1, 3):
        with Loader(split, 64, seed=3, workers=count) as loader:
            given.append(
                [
                    (numbers(batch.images), batch.labels.tolist())
                    for epoch, start in ((5, 0), (6, 1))
                    for batch in loader.epoch(epoch, start=start)
                ]
            )
    assert len(given[0]) == 5
    assert given[0] == given[1] == given[2]


def test_batches_come_in_order_epoch_after_epoch() -> None:
    with Loader(Numbered(300), 50, workers=2) as loader:
        assert not workers()  # none before the first batch
        for epoch in range(3):
            seen: list[int] = []
            for batch in loader.epoch(epoch):
                seen += numbers(batch.images)
                assert batch.labels.tolist() == [i % 7 for i in seen[-50:]]
            assert seen == [*range(300)]
        assert len(workers()) == 2  # the same in every epoch
    assert not workers()


def test_processes_read() -> None:
    with Loader(Process(64), 8, workers=2, ahead=8) as loader:
        pids = {
            int(image.reshape(-1)[:8].view(np.int64)[0])
            for batch in loader.epoch()
            for image in batch.images
        }
        assert pids <= workers() and os.getpid() not in pids


def test_an_epoch_left_early_disturbs_no_other() -> None:
    with Loader(Numbered(400), 8, workers=2) as loader:
        for first in range(5):
            left = loader.epoch(0, start=first)
            assert numbers(next(left).images)[0] == 8 * first
        whole = [i for batch in loader.epoch(1) for i in numbers(batch.images)]
        assert whole == [*range(400)]


def test_leaving_early_ends_the_workers() -> None:
    with pytest.raises(KeyError), Loader(Numbered(400), 8, workers=2) as loader:
        for _ in loader.epoch():
            raise KeyError
    assert not workers()
    loader = Loader(Numbered(400), 8, workers=2)
    next(loader.epoch())
    del loader  # without close
    assert not workers()
    with Loader(Dying(400, "hang"), 8, workers=2) as loader:
        next(loader.epoch())
    assert not workers()  # although one hangs


def test_batch_stays_valid_after_close() -> None:
    with Loader(Numbered(8), 8, workers=1) as loader:
        batch = next(loader.epoch())
    assert numbers(batch.images) == [*range(8)]


def test_unreadable_images_are_known_to_the_callers_split() -> None:
    split = Numbered(100, damaged=(13, 14, 77), skip_bad=True)
    with Loader(split, 10, workers=2) as loader:
        for _ in range(2):
            labels = np.concatenate([batch.labels.copy() for batch in loader.epoch()])
            assert np.flatnonzero(labels < 0).tolist() == [13, 14, 77]
            np.testing.assert_array_equal(labels, split.labels)
            assert split.skipped == 3


def test_an_image_skipped_by_one_worker_is_skipped_by_all(tmp_path: Path) -> None:
    """Workers share the labels, so an image skipped in one epoch is skipped in the next."""
    train = write_folder(tmp_path, classes=("ant",), each=32) / "train"
    whole = {path: path.read_bytes() for path in (train / "ant" / f"{n}.jpg" for n in (0, 3, 6))}
    for image in whole:
        image.write_bytes(b"damaged")
    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    with Loader(split, 16, workers=2, seed=1) as loader:
        for epoch in range(3):
            for batch in loader.epoch(epoch):
                assert all(
                    image.any() == (label >= 0) for image, label in zip(*batch[:2], strict=True)
                )
            for image, content in whole.items():  # repaired, but not read again
                image.write_bytes(content)
    assert split.skipped == 3


def test_error_arrives_as_itself_after_the_batches_before_it() -> None:
    split = Numbered(100, damaged=(38, 28, 20))
    with Loader(split, 16, workers=3) as loader:
        batches = loader.epoch()
        assert numbers(next(batches).images) == [*range(16)]
        with pytest.raises(DataError, match=r"^image 20: damaged$"):
            next(batches)
        assert split.skipped == 0
        assert numbers(next(loader.epoch()).images) == [*range(16)]  # the loader still works


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("SIGKILL", "was killed by SIGKILL, as Linux does when memory runs out"),
        ("SIGBUS", "was killed by SIGBUS, as by a truncated memory-mapped file"),
        ("SIGSEGV", "was killed by SIGSEGV$"),
        ("exit", "ended with status 7; see its output"),
    ],
)
def test_death_of_a_worker_is_reported_with_its_cause(how: str, message: str) -> None:
    with Loader(Dying(400, how), 8, workers=2) as loader:
        with pytest.raises(WorkerDied, match=f"a worker process {message}"):
            for _ in loader.epoch():
                pass
        with pytest.raises(WorkerDied):  # again, without hanging
            next(loader.epoch())
    assert not workers()


def test_bug_in_a_worker_arrives_with_its_traceback() -> None:
    with (
        Loader(Dying(400, "bug"), 8, workers=2) as loader,
        pytest.raises(RuntimeError, match=r"in a worker process:\n(.*\n)*.*splits\.py(.*\n)*.*bug"),
    ):
        list(loader.epoch())


def test_memory_that_cannot_be_pinned_leaves_no_workers() -> None:
    def fail(memory: object) -> None:
        raise MemoryError("cannot be pinned")

    with Loader(Numbered(400), 8, workers=2, pin=fail) as loader:
        with pytest.raises(MemoryError, match="cannot be pinned") as caught:
            next(loader.epoch())
        assert not workers()
        assert caught.traceback  # the frames are alive: workers were stopped explicitly


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_ignore_signals(number: int) -> None:
    with Loader(Numbered(400), 8, workers=1) as loader:
        batches = loader.epoch()
        next(batches)
        [worker] = workers()
        assert os.getsid(worker) != os.getsid(0)  # out of reach of Ctrl-C in a terminal
        os.kill(worker, number)
        assert sum(len(batch.images) for batch in batches) == 392


def test_split_that_cannot_be_pickled(capfd: pytest.CaptureFixture[str]) -> None:
    with Loader(Unpicklable(8), 8) as loader, pytest.raises(TypeError, match="not to be pickled"):
        next(loader.epoch())
    with Loader(Unknown(8), 8) as loader, pytest.raises(WorkerDied, match="ended with status 3"):
        next(loader.epoch())
    assert not workers()


def test_no_room_for_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        Loader(Numbered(400), 8, workers=2) as loader,
        pytest.raises(UserError, match=r"\d+ MB cannot be allocated: No space left on device"),
    ):
        next(loader.epoch())


@pytest.mark.parametrize(
    ("number", "startable", "left"),
    [
        (errno.EAGAIN, 3, 3),
        (errno.EAGAIN, 0, 0),
        (errno.EMFILE, 3, 1),
        (errno.EMFILE, 1, 0),
        (errno.ENOMEM, 2, 2),
    ],
)
def test_fewer_processes(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
    startable: int,
    left: int,
) -> None:
    started, popen = [], subprocess.Popen

    def limited(*args: object, **more: object) -> object:
        if len(started) == startable:
            raise OSError(number, os.strerror(number))
        started.append(1)
        return popen(*args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("subprocess.Popen", limited)
    seen = []
    before = len(os.listdir("/proc/self/fd"))
    with Loader(Numbered(100), 8, workers=4, seed=1) as loader:
        for batch in loader.epoch():
            seen += numbers(batch.images)
            assert len(workers()) == left
    assert sorted(seen) == [*range(100)]
    assert not workers()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the ring, which `batch` holds
    how = f"{left} of 4 worker processes" if left else "the main thread instead of 4 worker"
    printed = capfd.readouterr().err
    assert how in printed and os.strerror(number) in printed and printed.count("\n") == 1


@pytest.mark.parametrize("startable", [0, 2])
def test_fewer_threads(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], startable: int
) -> None:
    split = Numbered(100)
    split.decodes = False
    start, alive = threading.Thread.start, threading.active_count()

    def limited(thread: threading.Thread) -> None:
        if threading.active_count() - alive == startable:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr("threading.Thread.start", limited)
    with Loader(split, 8, workers=4) as loader:
        seen = [i for batch in loader.epoch() for i in numbers(batch.images)]
    assert seen == [*range(100)]
    how = "2 of 4 threads" if startable else "the main thread instead of 4 threads"
    assert capfd.readouterr().err == f"images are read by {how}: no more can be started\n"


@pytest.mark.parametrize("count", [3, 6, 9, 12, 16])
def test_few_descriptors(count: int) -> None:
    """All batches come, however few files may be open; or one error of the package's."""
    split, seen = Numbered(100), []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, limits[1]))
    try:
        with Loader(split, 8, workers=4) as loader:
            for batch in loader.epoch():
                seen += numbers(batch.images)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert seen == [*range(100)]


SCRIPT = """
import os, signal
from helpers.splits import Numbered
from pyalexnet.data import Loader

# Without `if __name__ == "__main__"`: workers do not run this script again.
loader = Loader(Numbered(4000), 8, workers=2, hold=1)
for number, batch in enumerate(loader.epoch()):
    if number == 20:
        print("begun", flush=True)
        {end}
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.killpg(0, signal.SIGINT)", -signal.SIGINT),
        ("os._exit(4)", 4),
        ("raise SystemExit(5)", 5),
        ("pass", 0),
    ],
)
def test_workers_end_with_their_parent(end: str, status: int) -> None:
    """Workers inherit standard output, which reaches its end only when all have ended."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(end=end)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert (ended.returncode, ended.stdout) == (status, "begun\n")
    expected = "KeyboardInterrupt" if status == -signal.SIGINT else ""
    assert ended.stderr.strip().endswith(expected) and bool(ended.stderr) == bool(expected)
    assert ended.stderr.count("Traceback") == bool(expected)


def test_split_without_images() -> None:
    with Loader(Numbered(0), 8) as loader:
        assert not list(loader.epoch())


def test_workers_start_without_standard_streams() -> None:
    """The pipes' descriptors are then 0 to 2."""
    script = SCRIPT.format(end="os.write(9, b'went on'); break")
    reading, writing = os.pipe()
    closed = f"import os\nos.dup2({writing}, 9)\nfor n in (0, 1, 2): os.close(n)\n{script}"
    with os.fdopen(reading, "rb") as told:
        ended = subprocess.run(
            [sys.executable, "-c", closed],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[writing],
            timeout=60,
        )
        os.close(writing)
        assert (ended.returncode, told.read()) == (0, b"went on")


def test_worker_ends_with_its_parent_although_it_hangs(tmp_path: Path) -> None:
    """As within the opening of a file that a server does not give."""
    os.mkfifo(tmp_path / "pipe")
    script = f"""
import os, signal, sys
from pyalexnet.data.loading import processes
taking, giving = os.pipe()
telling, told = os.pipe()
from helpers.splits import hang
processes.start(hang, (taking, told), [{str(tmp_path / "pipe")!r}])
os.read(telling, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,  # which a worker that stays keeps open
        timeout=60,
    )
    assert ended.returncode == -signal.SIGKILL
