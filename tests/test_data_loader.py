from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from data_files import random_bytes
from numpy.typing import NDArray

from pyalexnet.data import batches, mean_image, open_dataset
from pyalexnet.data.split import ArraySplit, Split
from pyalexnet.errors import DataError

IMAGES = random_bytes(50, 3, 4, 2)
LABELS = np.arange(50) % 7


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_batches_come_in_order(workers: int, ahead: int) -> None:
    split = ArraySplit(IMAGES, LABELS)
    order = np.random.default_rng(0).permutation(50)
    given = list(batches(split, order, 8, workers=workers, ahead=ahead))
    assert [len(images) for images, _ in given] == [8] * 6 + [2]
    images, labels = (np.concatenate(parts) for parts in zip(*given, strict=True))
    np.testing.assert_array_equal(images, IMAGES[order])
    np.testing.assert_array_equal(labels, LABELS[order])
    assert images.dtype == np.uint8 and labels.dtype == np.int32


def test_start_leaves_out_batches() -> None:
    split = ArraySplit(IMAGES, LABELS)
    whole = list(batches(split, np.arange(50), 8))
    rest = list(batches(split, np.arange(50), 8, start=5))
    assert len(rest) == 2
    np.testing.assert_array_equal(rest[0][0], whole[5][0])
    assert not list(batches(split, np.arange(50), 8, start=7))


class Rendezvous(Split):
    """Every read waits until another is under way."""

    def __init__(self) -> None:
        self.shape = (1, 1, 1)
        self.labels = np.zeros(4, np.int32)
        self.barrier = threading.Barrier(2, timeout=20)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.barrier.wait()
        return np.zeros((len(indices), 1, 1, 1), np.uint8)


def test_workers_read_at_the_same_time() -> None:
    assert len(list(batches(Rendezvous(), np.arange(4), 1, workers=2))) == 4


class Failing(ArraySplit):
    """Cannot read image 20, and remembers what was read."""

    def __init__(self) -> None:
        super().__init__(IMAGES, LABELS)
        self.seen: list[int] = []

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.seen += indices.tolist()
        if 20 in indices:
            raise DataError("20.jpg: truncated")
        return super().read(indices)


def test_error_in_a_worker_surfaces_after_the_batches_before_it() -> None:
    given = batches(Failing(), np.arange(50), 8)
    assert len(next(given)[0]) == len(next(given)[0]) == 8
    with pytest.raises(DataError, match=r"20\.jpg: truncated"):
        next(given)


def test_leaving_early_stops_the_threads() -> None:
    split = Failing()
    given = batches(split, np.arange(50), 2, workers=1, ahead=3)
    next(given)
    given.close()  # type: ignore[attr-defined]
    assert len(split.seen) <= 6  # what was ahead, and no more
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("pyalexnet-loader")]


def test_mean_image() -> None:
    images = random_bytes(700, 4, 5, 3)
    mean = mean_image(ArraySplit(images, np.zeros(700, np.int32)))
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, images.mean(axis=0, dtype=np.float64).astype(np.float32))


def test_mean_of_white_images_does_not_overflow() -> None:
    images = np.full((300, 2, 2, 1), 255, np.uint8)
    mean = mean_image(ArraySplit(images, np.zeros(300, np.int32)))
    np.testing.assert_array_equal(mean, np.full((2, 2, 1), 255, np.float32))


@pytest.mark.parametrize("spec", ["", "imagenet:/x", "mnist", "mnist:", "shapes:/x", "folder"])
def test_unknown_specification(spec: str) -> None:
    with pytest.raises(DataError, match=r"expected one of shapes, mnist:DIR, .*folder:DIR"):
        open_dataset(spec)


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("mnist", "t10k-labels-idx1-ubyte"),
        ("fashion-mnist", "train-images-idx3-ubyte"),
        ("cifar10", "test_batch"),
        ("folder", "train/ and val/"),
    ],
)
def test_missing_folder_names_the_files_expected(tmp_path: Path, source: str, files: str) -> None:
    with pytest.raises(DataError, match=f"nowhere: no such folder; expected it to hold .*{files}"):
        open_dataset(f"{source}:{tmp_path / 'nowhere'}")
