"""Data sets prepared by pyalexnet-prepare.

A folder contains `dataset.json`, `mean.npy` and two NumPy files per shard: `train-00000.npy` with
the images and `train-00000.index.npy` with one record per image. docs/imagenet.md has the format.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data.dataset import LARGEST_SIZE, Colour, Dataset, Split
from pyalexnet.data.reading import insist
from pyalexnet.errors import DataError
from pyalexnet.files import open_regular, read_bytes, read_json, reading
from pyalexnet.text import printable

VERSION = 1
DESCRIPTION, MEAN, UNFINISHED = "dataset.json", "mean.npy", "unfinished.npz"
FILES = f"{DESCRIPTION}, which pyalexnet-prepare writes"
HEADER = 128  # bytes of a shard's .npy header

_INDEX_BYTES = 1 << 30  # of a shard's index at most
_DESCRIPTION_BYTES = 1 << 29  # of dataset.json at most; it may list a million skipped files


class Encoding(NamedTuple):
    """The format of stored images.

    Attributes
    ----------
    format : str
        "jpeg" or "raw".
    size : int
        Rows and columns.
    quality : int
        JPEG quality.
    """

    format: str
    size: int
    quality: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.size, self.size, 3


def shard_name(split: str, number: int) -> str:
    """Returns the name of a shard's files without extension."""
    return f"{split}-{number:05}"


def decode(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decodes a stored JPEG; raises ValueError or OSError if it is damaged."""
    with Image.open(BytesIO(content), formats=("JPEG",)) as image:
        stored = (image.height, image.width, len(image.getbands()))
        if stored != shape:
            raise ValueError(f"shape is {stored}; expected {shape}")
        return np.asarray(image)


class ShardSplit(Split):
    """Images in shards.

    Only labels, and offsets and sizes of JPEGs, are kept in memory: 26 MB for the 1.3 million of
    ImageNet. Files are read, not memory-mapped: that is as fast from the page cache, does not
    inflate the process's resident size, and a disk failure raises an error instead of SIGBUS.
    Pickling stores only the arguments; unpickling opens the files again.

    Parameters
    ----------
    folder : Path
        As for `open_imagenet`.
    split : str
        "train" or "val".
    description : dict
        Content of dataset.json.
    only : int, optional
        Index of the only shard to open.

    Raises
    ------
    DataError
        A file is missing or damaged.
    """

    def __init__(
        self, folder: Path, split: str, description: dict[str, Any], only: int | None = None
    ) -> None:
        self._made_from = (folder, split, description, only)
        self._folder = folder
        with described(folder):
            encoding = description["encoding"]
            classes = len(description["classes"])
            self._jpeg = {"jpeg": True, "raw": False}[encoding["format"]]
            self.decodes = self._jpeg
            self.shape = (encoding["size"], encoding["size"], 3)
            shards = description[split]["shards"]
            numbers = range(len(shards)) if only is None else [only]
            self._shards = [shard_name(split, number) for number in numbers]
            counts = [shards[number]["images"] for number in numbers]
            self._bytes = [shards[number]["bytes"] for number in numbers]
            for name, number in zip(self._shards, numbers, strict=True):
                check_sizes(folder, name, shards[number])
        self._latest: tuple[int, NDArray[np.void]] | None = None  # see `_index`
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.labels = np.empty(self._starts[-1], np.int32)
        self._offsets = np.empty(len(self) if self._jpeg else 0, np.int64)
        self._sizes = np.empty_like(self._offsets)
        for number, (first, last) in enumerate(
            zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True)
        ):
            index = self._index(number)
            self.labels[first:last] = index["label"]
            if self._jpeg:
                self._offsets[first:last] = index["offset"]
                self._sizes[first:last] = index["bytes"]
        for label in (self.labels.min(), self.labels.max()) if len(self) else ():
            if not -1 <= label < classes:
                raise DataError(
                    f"{folder}: damaged: a label of {split} is {label}; expected -1 to "
                    f"{classes - 1}"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardSplit, self._made_from

    def name(self, index: int) -> str:
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        name = bytes(self._index(shard)["name"][index - self._starts[shard]])
        return os.fsdecode(name)

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"indices is {indices.min()} to {indices.max()}; expected within 0 to "
                f"{len(self) - 1}"
            )
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        for shard in np.unique(shards).tolist():
            rows = np.flatnonzero(shards == shard)
            path = self._folder / f"{self._shards[shard]}.npy"
            with insist(path, functools.partial(open_regular, path)) as file:
                for row in rows.tolist():
                    self._read_one(file.fileno(), path, shard, int(indices[row]), out[row])

    def _read_one(
        self, file: int, path: Path, shard: int, index: int, image: NDArray[np.uint8]
    ) -> None:
        if self.labels[index] < 0:
            image[...] = 0
            return
        offset, size = (index - int(self._starts[shard])) * image.nbytes, image.nbytes
        if self._jpeg:
            offset, size = int(self._offsets[index]), int(self._sizes[index])
        content = insist(path, lambda: os.pread(file, size, HEADER + offset))
        try:
            if len(content) < size:
                raise ValueError(f"size is {len(content)} bytes; expected {size}")
            if self._jpeg:
                image[...] = decode(content, self.shape)
            else:
                image.reshape(-1)[...] = np.frombuffer(content, np.uint8)
        except Exception as error:  # Pillow raises many types for damaged files
            raise DataError(
                f"{path}: damaged: image {index} ({printable(self.name(index))}): {error}"
            ) from error

    def _index(self, shard: int) -> NDArray[np.void]:
        """A shard's index; the latest one is kept, for the names of many images."""
        if self._latest is not None and self._latest[0] == shard:
            return self._latest[1]
        path = self._folder / f"{self._shards[shard]}.index.npy"
        count = int(self._starts[shard + 1] - self._starts[shard])
        index = _array(path, _INDEX_BYTES)
        kinds = {"label": "i", "name": "S"} | ({"offset": "i", "bytes": "i"} if self._jpeg else {})
        fields: Any = index.dtype.fields or {}
        if index.shape != (count,) or any(
            name not in fields or fields[name][0].kind != kind for name, kind in kinds.items()
        ):
            raise DataError(
                f"{path}: damaged: array is {printable(str(index.dtype))} {index.shape}; expected "
                f"{count} records of {', '.join(kinds)}"
            )
        if self._jpeg and count:
            room = self._bytes[shard] - HEADER
            offsets, sizes = index["offset"], index["bytes"]
            if min(offsets.min(), sizes.min()) < 0 or (sizes > room - offsets).any():
                raise DataError(f"{path}: damaged: an image lies outside of the shard's file")
        self._latest = shard, index
        return index


def _array(path: Path, limit: int) -> NDArray[Any]:
    """The array in a .npy file of at most `limit` bytes; DataError if it is damaged."""
    content = read_bytes(path, limit)
    try:
        file = BytesIO(content)
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version)
        if read is None:
            raise ValueError(f"version is {version}; expected (1, 0)")
        shape, _, dtype = read(file)
        # Python's integers, before anything is allocated.
        if math.prod(shape) * dtype.itemsize > len(content) or min(shape, default=0) < 0:
            raise ValueError("its array is larger than the file")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array
    except Exception as error:  # NumPy raises many types for damaged headers
        words = printable(str(error).partition("\n")[0])[:200]
        raise DataError(f"{path}: cannot be read: {words}") from error


def check_sizes(folder: Path, name: str, shard: dict[str, Any]) -> None:
    """Raises DataError naming the file unless a shard's files exist and have the recorded sizes."""
    for ending, key in (("npy", "bytes"), ("index.npy", "index_bytes")):
        path = folder / f"{name}.{ending}"
        with reading(path), open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
        if size != shard[key]:
            raise DataError(f"{path}: damaged: size is {size:,} bytes; expected {shard[key]:,}")


def is_prepared(folder: Path) -> bool:
    """Whether pyalexnet-prepare has written a data set here, or begun to."""
    return any((folder / name).is_file() for name in (DESCRIPTION, UNFINISHED))


def read_description(folder: Path) -> dict[str, Any]:
    """Reads dataset.json.

    Raises
    ------
    DataError
        The file is missing, damaged or of another version, or the data set is unfinished.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if (folder / UNFINISHED).is_file():
            raise DataError(
                f"{folder}: unfinished; run the same pyalexnet-prepare command again to continue"
            )
        raise DataError(f"{folder}: no {DESCRIPTION}; expected the output of pyalexnet-prepare")
    description = read_json(path, limit=_DESCRIPTION_BYTES)
    with described(folder):
        version = description["version"]
        if version != VERSION:
            raise DataError(f"{path}: version is {version!r}; expected {VERSION}")
        _check_fields(description)
    checked: dict[str, Any] = description
    return checked


def _check_fields(description: dict[str, Any]) -> None:
    """Raises an error for `described` unless all that is read of dataset.json is as documented."""
    encoding, classes = description["encoding"], description["classes"]
    size = encoding["size"]
    check(type(size) is int and 1 <= size <= LARGEST_SIZE, "the images' size")
    check(encoding["format"] in ("jpeg", "raw"), "the images' format")
    check(isinstance(classes, list) and bool(classes), "the list of classes")
    for one in classes:
        check(isinstance(one["wnid"], str), "a class's wnid")
        check(isinstance(one.get("words", ""), str), "a class's words")
        check(type(one.get("id", 0)) is int and 0 <= one.get("id", 0) < 1 << 31, "a class's id")
    for split in ("train", "val"):
        shards = description[split]["shards"]
        check(isinstance(shards, list), f"{split}'s shards")
        for shard in shards:
            check_shard(shard)
        images = sum(shard["images"] for shard in shards)
        check(description[split]["images"] == images, f"{split}'s number of images")
    check(isinstance(description["mean"]["sha256"], str), "the mean's sha256")
    values, vectors = _colour(description)
    check(values.shape == (3,) and vectors.shape == (3, 3), "the colour's shape")
    check(bool(np.isfinite(values).all() and np.isfinite(vectors).all()), "the colour")


def _colour(description: dict[str, Any]) -> Colour:
    values, vectors = (np.array(description["colour"][key], float) for key in Colour._fields)
    return Colour(values, vectors)


def check_shard(shard: Any) -> None:
    """Raises ValueError unless this is a shard's entry in dataset.json."""
    counts, sums = ("images", "bytes", "index_bytes"), ("sha256", "index_sha256")
    check(isinstance(shard, dict) and shard.keys() == {*counts, *sums}, "a shard's keys")
    for key in counts:
        check(type(shard[key]) is int and 0 <= shard[key] < 1 << 50, f"a shard's {key}")
    for key in sums:
        check(isinstance(shard[key], str), f"a shard's {key}")
    # A record has more than one byte, so memory is in proportion to the files.
    check(shard["images"] <= shard["index_bytes"], "a shard's images")


def check(holds: bool, what: str) -> None:
    """Raises ValueError, for `described`, unless a part of dataset.json is as documented."""
    if not holds:
        raise ValueError(f"{what} is not as pyalexnet-prepare writes it")


def open_imagenet(folder: Path) -> Dataset:
    """Opens the output folder of pyalexnet-prepare.

    Raises
    ------
    DataError
        A file is missing, damaged or of another version.
    """
    description = read_description(folder)
    train, val = (ShardSplit(folder, split, description) for split in ("train", "val"))
    with described(folder):
        classes = description["classes"]
        names = [f"{c['wnid']} {c['words']}" if "words" in c else c["wnid"] for c in classes]
        ids = [int(c["id"]) for c in classes] if all("id" in c for c in classes) else None
        colour = _colour(description)
    path = folder / MEAN
    mean = _array(path, HEADER + 4 * math.prod(train.shape) + 4096)
    if mean.shape != train.shape or mean.dtype != np.float32 or not np.isfinite(mean).all():
        raise DataError(
            f"{path}: array is {printable(str(mean.dtype))} {mean.shape}; expected float32 "
            f"{train.shape} of finite numbers"
        )
    return Dataset("imagenet", names, train, val, mirror=True, mean=mean, colour=colour, ids=ids)


@contextmanager
def described(folder: Path) -> Iterator[None]:
    """Turns errors of parsing dataset.json within the block into a DataError that names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{folder / DESCRIPTION}: damaged, or not a data set's description: "
            f"{type(error).__name__}: {printable(str(error))[:200]}"
        ) from error
