from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.data_files import random_bytes
from pyalexnet.data import Loader, mean_image, open_dataset
from pyalexnet.data.augmentation import shuffled
from pyalexnet.data.dataset import ArraySplit, Split
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads images")

IMAGES = random_bytes(50, 3, 4, 2)
LABELS = np.arange(50) % 7


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_batches_come_in_order(workers: int, ahead: int) -> None:
    images, labels, sizes = [], [], []
    with Loader(ArraySplit(IMAGES, LABELS), 8, seed=4, workers=workers, ahead=ahead) as loader:
        for batch in loader.epoch(6):
            assert batch.images.dtype == np.uint8 and batch.labels.dtype == np.int32
            assert (batch.first, batch.whole) == (0, len(batch.images)) == (0, len(batch.labels))
            sizes.append(batch.whole)
            images.append(batch.images.copy())
            labels.append(batch.labels.copy())
    assert sizes == [8] * 6 + [2]
    order = shuffled(4, 6, 50, range(50))
    np.testing.assert_array_equal(np.concatenate(images), IMAGES[order])
    np.testing.assert_array_equal(np.concatenate(labels), LABELS[order])


def test_start_skips_batches() -> None:
    with Loader(ArraySplit(IMAGES, LABELS), 8) as loader:
        rest = [batch.images.copy() for batch in loader.epoch(start=5)]
        assert not list(loader.epoch(start=7))
    np.testing.assert_array_equal(rest[0], IMAGES[40:48])
    np.testing.assert_array_equal(rest[1], IMAGES[48:])
    assert len(rest) == 2


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("workers", [0, 2])
def test_replicas_share_every_batch(ranks: int, workers: int) -> None:
    """The last batch has two images, so most of seven replicas get none."""
    whole = [IMAGES[first : first + 8] for first in range(0, 50, 8)]
    parts: list[list[NDArray[np.uint8]]] = [[] for _ in whole]
    for rank in range(ranks):
        with Loader(
            ArraySplit(IMAGES, LABELS), 8, rank=rank, ranks=ranks, workers=workers
        ) as loader:
            for batch, images, part in zip(loader.epoch(), whole, parts, strict=True):
                assert batch.whole == len(images)
                assert batch.first == sum(map(len, part)) == rank * batch.whole // ranks
                assert len(batch.labels) == len(batch.images) <= -(-8 // ranks)
                part.append(batch.images.copy())
    for images, part in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), images)
    with pytest.raises(ValueError, match=f"rank is {ranks}; expected 0 to {ranks - 1}"):
        Loader(ArraySplit(IMAGES, LABELS), 8, rank=ranks, ranks=ranks)


@pytest.mark.parametrize("hold", [0, 2])
def test_a_batch_stays_until_hold_more_have_been_asked_for(hold: int) -> None:
    order = np.concatenate([shuffled(1, epoch, 50, range(50)) for epoch in range(2)])
    with Loader(ArraySplit(IMAGES, LABELS), 5, seed=1, workers=0, hold=hold) as loader:
        batches = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
        # All have been requested, so only the last ones are still unchanged.
        unchanged = [
            number
            for number, batch in enumerate(batches)
            if np.array_equal(batch.images, IMAGES[order[5 * number :][:5]])
        ]
    assert unchanged == [*range(20)][-1 - hold :]


def test_memory_can_be_pinned_once() -> None:
    pinned: list[NDArray[np.uint8]] = []
    unpinned: list[NDArray[np.uint8]] = []
    with Loader(
        ArraySplit(IMAGES, LABELS), 8, pin=pinned.append, unpin=unpinned.append, hold=1
    ) as loader:
        assert not pinned
        for epoch in range(2):
            for batch in loader.epoch(epoch):
                assert np.shares_memory(batch.images, pinned[0])
                assert np.shares_memory(batch.labels, pinned[0])
        assert len(pinned) == 1 and not unpinned
        assert pinned[0].ctypes.data % 4096 == 0
    assert len(unpinned) == 1 and unpinned[0] is pinned[0]


def test_waiting_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(ArraySplit):
        def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
            nonlocal now
            now += 3

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    with Loader(Slow(IMAGES, LABELS), 10, workers=0) as loader:
        for _ in loader.epoch():
            now += 100  # training
        assert loader.wait_seconds == 5 * 3
        list(loader.epoch(start=3))
        assert loader.wait_seconds == 7 * 3


class Rendezvous(Split):
    """Every read waits until another one runs."""

    decodes = False

    def __init__(self) -> None:
        self.shape = (1, 1, 1)
        self.labels = np.zeros(4, np.int32)
        self.barrier = threading.Barrier(2, timeout=20)

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        self.barrier.wait()


def test_threads_read_at_the_same_time() -> None:
    with Loader(Rendezvous(), 1, workers=2) as loader:
        assert len(list(loader.epoch())) == 4


class Failing(Split):
    """Cannot read image 20, and records all reads."""

    decodes = False

    def __init__(self) -> None:
        self.shape = (3, 4, 2)
        self.labels = np.zeros(50, np.int32)
        self.seen: list[int] = []

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        self.seen += indices.tolist()
        if 20 in indices:
            raise DataError("20.jpg: truncated")
        out[...] = IMAGES[indices]


@pytest.mark.parametrize("workers", [0, 2])
def test_error_in_a_worker_surfaces_after_the_batches_before_it(workers: int) -> None:
    with Loader(Failing(), 8, workers=workers) as loader:
        given = loader.epoch()
        assert len(next(given).images) == len(next(given).images) == 8
        with pytest.raises(DataError, match=r"20\.jpg: truncated"):
            next(given)
        assert len(next(loader.epoch()).images) == 8


def test_leaving_early_stops_the_threads() -> None:
    split = Failing()
    with Loader(split, 2, workers=1, ahead=3) as loader:
        next(loader.epoch())
    assert len(split.seen) <= 8  # the prefetched batches, and no more
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("pyalexnet-loader")]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_ends_where_another_begins(workers: int) -> None:
    with Loader(ArraySplit(IMAGES, LABELS), 8, workers=workers) as loader:
        first = loader.epoch()
        next(first)
        second = loader.epoch(start=3)
        np.testing.assert_array_equal(next(second).images, IMAGES[24:32])
        with pytest.raises(RuntimeError, match="another epoch was started"):
            next(first)
        np.testing.assert_array_equal(next(second).images, IMAGES[32:40])
    with pytest.raises(RuntimeError, match="the loader was closed"):
        next(second)


def test_mean_image() -> None:
    images = random_bytes(700, 4, 5, 3)
    mean = mean_image(ArraySplit(images, np.zeros(700, np.int32)))
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, images.mean(axis=0, dtype=np.float64).astype(np.float32))


def test_mean_of_white_images_does_not_overflow() -> None:
    images = np.full((300, 2, 2, 1), 255, np.uint8)
    mean = mean_image(ArraySplit(images, np.zeros(300, np.int32)))
    np.testing.assert_array_equal(mean, np.full((2, 2, 1), 255, np.float32))


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("mnist", "t10k-labels-idx1-ubyte"),
        ("fashion-mnist", "train-images-idx3-ubyte"),
        ("cifar10", "test_batch"),
        ("folder", "one folder of images per class"),
    ],
)
def test_missing_folder_names_the_files_expected(tmp_path: Path, source: str, files: str) -> None:
    with pytest.raises(
        DataError, match=f"nowhere: no such folder; expected one that holds .*{files}"
    ):
        open_dataset(f"{source}:{tmp_path / 'nowhere'}")
