"""Data sets prepared by pyalexnet-prepare.

A folder contains `dataset.json`, `mean.npy` and two NumPy files per shard: `train-00000.npy` with
the images and `train-00000.index.npy` with one record per image. docs/imagenet.md has the format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data.dataset import Colour, Dataset, Split
from pyalexnet.errors import DataError, UserError
from pyalexnet.files import open_regular, read_json, reading
from pyalexnet.text import printable

VERSION = 1
DESCRIPTION, MEAN, UNFINISHED = "dataset.json", "mean.npy", "unfinished.npz"
FILES = f"{DESCRIPTION}, which pyalexnet-prepare writes"
HEADER = 128  # bytes of a shard's .npy header

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
        pixels = np.asarray(image)
    if pixels.shape != shape:
        raise ValueError(f"shape is {pixels.shape}; expected {shape}")
    return pixels


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
            counts = [int(shards[number]["images"]) for number in numbers]
            for name, number in zip(self._shards, numbers, strict=True):
                check_sizes(folder, name, shards[number])
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
            try:
                file = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}") from error
            try:
                for row in rows.tolist():
                    self._read_one(file, path, shard, int(indices[row]), out[row])
            finally:
                os.close(file)

    def _read_one(
        self, file: int, path: Path, shard: int, index: int, image: NDArray[np.uint8]
    ) -> None:
        if self.labels[index] < 0:
            image[...] = 0
            return
        try:
            if self._jpeg:
                offset, size = int(self._offsets[index]), int(self._sizes[index])
                image[...] = decode(os.pread(file, size, HEADER + offset), self.shape)
                return
            offset = (index - int(self._starts[shard])) * image.nbytes
            got = os.preadv(file, [image.reshape(-1).data], HEADER + offset)
            if got < image.nbytes:
                raise ValueError(f"size is {got} bytes; expected {image.nbytes}")
        except Exception as error:  # Pillow raises many types for damaged files
            raise DataError(
                f"{path}: damaged: image {index} ({printable(self.name(index))}): {error}"
            ) from error

    def _index(self, shard: int) -> NDArray[np.void]:
        path = self._folder / f"{self._shards[shard]}.index.npy"
        count = self._starts[shard + 1] - self._starts[shard]
        try:
            # An empty array cannot be memory-mapped.
            index: NDArray[np.void] = np.load(path, mmap_mode="r" if count else None)
        except Exception as error:  # NumPy raises many types for damaged headers
            raise DataError(f"{path}: cannot be read: {error}") from error
        fields = ("label", "name", *(("offset", "bytes") if self._jpeg else ()))
        if index.shape != (count,) or not set(fields) <= set(index.dtype.names or ()):
            raise DataError(
                f"{path}: damaged: array is {index.dtype} {index.shape}; expected {count} records "
                f"of {', '.join(fields)}"
            )
        return index


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
    with described(folder):
        description: dict[str, Any] = read_json(path, limit=_DESCRIPTION_BYTES)
        version = description["version"]
        if version != VERSION:
            raise DataError(f"{path}: version is {version!r}; expected {VERSION}")
    return description


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
        values, vectors = (np.array(description["colour"][key], float) for key in Colour._fields)
        if values.shape != (3,) or vectors.shape != (3, 3):
            raise ValueError(
                f"colour is of shapes {values.shape} and {vectors.shape}; expected (3,) and (3, 3)"
            )
    path = folder / MEAN
    try:
        with reading(path), open_regular(path) as file:
            mean = np.load(file, allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # NumPy raises many types for damaged headers
        raise DataError(f"{path}: cannot be read: {error}") from error
    if mean.shape != train.shape or mean.dtype != np.float32:
        raise DataError(
            f"{path}: array is {mean.dtype} {mean.shape}; expected float32 {train.shape}"
        )
    colour = Colour(values, vectors)
    return Dataset("imagenet", names, train, val, mirror=True, mean=mean, colour=colour, ids=ids)


@contextmanager
def described(folder: Path) -> Iterator[None]:
    """Turns errors of parsing dataset.json within the block into a DataError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise DataError(
            f"{folder / DESCRIPTION}: damaged, or not a data set's description: "
            f"{type(error).__name__}: {error}"
        ) from error
