"""MNIST and data sets in its format: IDX files, gzipped or not.

An IDX file consists of two zero bytes, a type code, the number of dimensions, each dimension as a
big-endian 32-bit integer, and the values (http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.dataset import ArraySplit, Dataset, check_labels
from pyalexnet.errors import DataError, UserError
from pyalexnet.files import open_regular, reading, real

DIGITS = [str(digit) for digit in range(10)]
FASHION = [
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]

FILES = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, each with or without .gz"
)

# torchvision's folders within the one that is given; its dataset classes name them.
_INNER = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}

# Some archives have a dot where the original names have a hyphen; some unpack each file into a
# folder of its own.
_NAMES = {
    f"{prefix}-{what}": [
        f"{prefix}-{what}{mark}{ending}{gz}" for mark in "-." for gz in ("", ".gz")
    ]
    for prefix in ("train", "t10k")
    for what, ending in (("images", "idx3-ubyte"), ("labels", "idx1-ubyte"))
}

_FASHION_LABELS = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9]  # its first ones

_UINT8 = 8
_MOST_BYTES = 1 << 30  # of values; MNIST has 47 million, EMNIST 550 million


def open_mnist(folder: Path) -> Dataset:
    """Opens the four files of MNIST, or of another set of ten classes in its format."""
    return _open(folder, "mnist", DIGITS, mirror=False)


def open_fashion_mnist(folder: Path) -> Dataset:
    """Opens the four files of Fashion-MNIST."""
    return _open(folder, "fashion-mnist", FASHION, mirror=True)


def is_idx(folder: Path) -> bool:
    """Whether `open_mnist` would find one of its files."""
    return _has_file(folder, "mnist") and not is_fashion(folder)


def is_fashion(folder: Path) -> bool:
    """Whether a folder holds files that `open_fashion_mnist` would find, of Fashion-MNIST.

    MNIST has files of the same names. Fashion-MNIST's training labels begin otherwise; a part of
    it is known by "fashion" in the folder's name.
    """
    if not _has_file(folder, "fashion-mnist"):
        return False
    place = _place(folder, "fashion-mnist")
    if place != folder or "fashion" in real(folder).name.lower():
        return True
    try:
        labels = read_idx(_find(folder, "train-labels"), 1)
    except UserError:  # opening it says what is wrong
        return False
    return bool(labels[: len(_FASHION_LABELS)].tolist() == _FASHION_LABELS)


def _place(folder: Path, name: str) -> Path:
    """The folder, or torchvision's within it."""
    inner = (folder / _INNER[name], folder / "raw")
    return next((place for place in inner if _files(place)), folder)


def _has_file(folder: Path, name: str) -> bool:
    return bool(_files(_place(folder, name)))


def _files(place: Path) -> list[Path]:
    return [file for stem in _NAMES for file in _candidates(place, stem) if file.is_file()]


def _candidates(folder: Path, stem: str) -> list[Path]:
    """Where a file may be: in the folder, or in one of its own name as Kaggle's archive has it."""
    files = [folder / name for name in _NAMES[stem]]
    own = [folder / place / name for place in _NAMES[stem] for name in _NAMES[stem]]
    return files + own


def _open(folder: Path, name: str, classes: list[str], *, mirror: bool) -> Dataset:
    folder = _place(folder, name)
    train = _read_split(folder, "train", len(classes))
    val = _read_split(folder, "t10k", len(classes))
    if train.shape != val.shape:
        raise DataError(
            f"{folder}: image size is {val.shape[:2]} in the t10k file; "
            f"expected {train.shape[:2]}, as in the train file"
        )
    return Dataset(name, classes, train, val, mirror)


def _read_split(folder: Path, prefix: str, classes: int) -> ArraySplit:
    image_file = _find(folder, f"{prefix}-images")
    label_file = _find(folder, f"{prefix}-labels")
    images = read_idx(image_file, 3)
    labels = read_idx(label_file, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{label_file}: number of labels is {len(labels)}; "
            f"expected {len(images)}, as in {image_file.name}"
        )
    check_labels(labels, classes, label_file)
    return ArraySplit(images[..., np.newaxis], labels)


def _find(folder: Path, stem: str) -> Path:
    for file in _candidates(folder, stem):
        if file.is_file():
            return file
    raise DataError(f"{folder}: no {stem} file; expected one of {', '.join(_NAMES[stem])}")


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads an IDX file of bytes, gzipped or not (detected by its content).

    Parameters
    ----------
    path : Path
    dimensions : int
        Required number of dimensions.

    Returns
    -------
    uint8 array of the file's shape

    Raises
    ------
    DataError
        The magic number is wrong, the size does not match the header, there are no values, or the
        gzip stream is damaged.
    """
    try:
        with reading(path), open_regular(path) as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not zipped:
                return _parse(file, path, dimensions)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parse(unzipped, path, dimensions)
    except EOFError:
        raise DataError(f"{path}: truncated; expected a complete gzip file") from None
    except zlib.error as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> NDArray[np.uint8]:
    header = _read(file, 4 + 4 * dimensions)
    magic = bytes([0, 0, _UINT8, dimensions])
    if header.lstrip().lower().startswith((b"<!doc", b"<html")):
        raise DataError(f"{path}: is an HTML page; expected an IDX file: download it again")
    if header[:4] != magic:
        raise DataError(
            f"{path}: magic number is {header[:4].hex() or 'missing'}; expected {magic.hex()} "
            f"(an IDX file of bytes with {dimensions} dimension{'s'[: dimensions > 1]})"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(
            f"{path}: header is {len(header)} bytes; expected {4 + 4 * dimensions} (truncated)"
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if size == 0:
        raise DataError(f"{path}: shape is {shape}; expected at least one value")
    if size > _MOST_BYTES:
        raise DataError(
            f"{path}: shape is {shape}; expected at most {_MOST_BYTES:,} values, or damaged"
        )
    values = _read(file, size + 1)
    if len(values) != size:
        had = f"{len(values)}" if len(values) < size else "more"
        raise DataError(
            f"{path}: number of bytes after the header is {had}; expected {size} for shape {shape}"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read(file: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    # In chunks: a damaged header may specify more bytes than fit in memory.
    values = bytearray()
    while len(values) < size and (part := file.read(min(size - len(values), 1 << 24))):
        values += part
    return values
