from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import idx, random_bytes, write_mnist
from pyalexnet.data import find_source, open_dataset
from pyalexnet.data.sources.idx import read_idx
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


@pytest.mark.parametrize("gz", [False, True])
def test_reads_images_and_labels(tmp_path: Path, gz: bool) -> None:
    data = open_dataset(f"mnist:{write_mnist(tmp_path, gz=gz)}")
    assert (len(data.train), len(data.val)) == (12, 5)
    assert data.train.shape == data.val.shape == (28, 28, 1)
    assert data.classes == list("0123456789") and not data.mirror
    images = data.train.read(np.array([7, 0, 7]))
    expected = random_bytes(12, 28, 28, seed=12)[[7, 0, 7]][..., None]
    np.testing.assert_array_equal(images, expected, strict=True)
    assert data.train.labels.dtype == np.int32
    np.testing.assert_array_equal(data.train.labels, np.arange(12) % 10)
    assert data.train.skipped == 0


def test_gzip_is_known_by_content_and_names_may_have_a_point(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    plain = tmp_path / "train-images-idx3-ubyte"
    (tmp_path / "train-images.idx3-ubyte").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    assert len(open_dataset(f"mnist:{tmp_path}").train) == 12


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inner", ["{}/raw", "raw"])
def test_torchvision_folders(tmp_path: Path, name: str, inner: str) -> None:
    folder = inner.format({"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name])
    write_mnist(tmp_path / folder)
    assert len(open_dataset(f"{name}:{tmp_path}").train) == 12
    if "/" in folder:
        assert find_source(str(tmp_path))[0].name == name


def test_files_in_folders_of_their_names(tmp_path: Path) -> None:
    for path in list(write_mnist(tmp_path).iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / path.name.replace("-idx", ".idx")).write_bytes(content)
    assert len(open_dataset(str(tmp_path)).train) == 12


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: cannot be read: not a regular file"):
        read_idx(tmp_path / "pipe", 3)


def test_fashion_mnist_has_its_names_and_may_be_mirrored(tmp_path: Path) -> None:
    data = open_dataset(f"fashion-mnist:{write_mnist(tmp_path)}")
    assert data.name == "fashion-mnist" and data.mirror
    assert data.classes[9] == "ankle boot" and len(data.classes) == 10


GOOD = idx(random_bytes(12, 28, 28))
ZIPPED = gzip.compress(GOOD, mtime=0)  # the same in every process: it names tests


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic number is missing; expected 00000803"),
        (b"\x00\x00\x08\x01" + GOOD[4:], "magic number is 00000801; expected 00000803"),
        (b"<tml>>" + GOOD, "magic number is 3c746d6c"),
        (b"\n<!DOCTYPE html>" + GOOD, "is an HTML page; expected an IDX file"),
        (GOOD[:10], "header is 10 bytes; expected 16"),
        (GOOD[:-1], r"after the header is 9407; expected 9408 for shape \(12, 28, 28\)"),
        (GOOD + b"x", "after the header is more; expected 9408"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "expected at most 1,073,741,824 values"),
        (GOOD[:4] + b"\0\0\1\0" + GOOD[8:], "after the header is 9408; expected 200704 for"),
        (gzip.compress(GOOD[:4] + b"\x7f" * 12 + bytes(1 << 22), mtime=0), "expected at most"),
        (gzip.compress(GOOD + bytes(1 << 22), mtime=0), "after the header is more; expected 9408"),
        (GOOD[:4] + bytes(12), r"shape is \(0, 0, 0\); expected at least one value"),
        (ZIPPED[: len(ZIPPED) // 2], "truncated; expected a complete gzip file"),
        (ZIPPED[:10] + b"\xff" * 50 + ZIPPED[60:], "cannot be read: .*invalid block type"),
        (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "CRC"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (write_mnist(tmp_path) / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte: .*{message}"):
        open_dataset(f"mnist:{tmp_path}")


def test_label_out_of_range(tmp_path: Path) -> None:
    labels = np.array([1, 2, 10, 3, 4], np.uint8)
    (write_mnist(tmp_path) / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(DataError, match=r"t10k-labels.*label of image 2 is 10; expected 0 to 9"):
        open_dataset(f"mnist:{tmp_path}")


def test_count_mismatch(tmp_path: Path) -> None:
    (write_mnist(tmp_path) / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(11, np.uint8)))
    with pytest.raises(DataError, match=r"train-labels.*labels is 11; expected 12, as in train-im"):
        open_dataset(f"mnist:{tmp_path}")


def test_sizes_of_both_splits_must_agree(tmp_path: Path) -> None:
    (write_mnist(tmp_path) / "t10k-images-idx3-ubyte").write_bytes(idx(random_bytes(5, 20, 20)))
    with pytest.raises(DataError, match=r"image size is \(20, 20\) .*; expected \(28, 28\)"):
        open_dataset(f"mnist:{tmp_path}")


def test_missing_file_names_what_was_looked_for(tmp_path: Path) -> None:
    (write_mnist(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels file; expected .*idx1-ubyte\.gz"):
        open_dataset(f"mnist:{tmp_path}")
