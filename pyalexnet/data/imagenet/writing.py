"""Writing and verifying shards in the worker processes of pyalexnet-prepare.

Every worker imports this module, so it imports little.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data.imagenet.listing import Listing, Skipped
from pyalexnet.data.imagenet.pool import advance
from pyalexnet.data.images import decode_image
from pyalexnet.data.sources.shards import (
    HEADER,
    Encoding,
    ShardSplit,
    check_sizes,
    decode,
    shard_name,
)
from pyalexnet.data.statistics import PixelSums
from pyalexnet.errors import DataError, MachineError
from pyalexnet.files import naming, open_regular, reading, replacing
from pyalexnet.text import printable


@dataclass(frozen=True)
class Task:
    """A shard to write.

    Attributes
    ----------
    folder : Path
        The output folder.
    split : str
        "train": unreadable images are skipped, the others summed. "val": unreadable images keep
        their positions, with label -1.
    number : int
        Index of the shard in its split.
    images : Listing
        The shard's source images.
    encoding : Encoding
    strict : bool
        Raise DataError at an unreadable image.
    """

    folder: Path
    split: str
    number: int
    images: Listing
    encoding: Encoding
    strict: bool


@dataclass(frozen=True)
class Written:
    """The result of a task.

    Attributes
    ----------
    task : (str, int)
        Split and number.
    shard : dict
        The shard's entry in dataset.json.
    sums : PixelSums, optional
        Over the shard's images, for training images.
    skipped : list of Skipped
    """

    task: tuple[str, int]
    shard: dict[str, Any]
    sums: PixelSums | None
    skipped: list[Skipped]


def encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Encodes an image, uint8 (H, W, 3), as JPEG with chroma at half the resolution."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def write_shard(task: Task) -> Written:
    """Writes a shard's two files, each under a temporary name until it is complete.

    Raises
    ------
    UserError
        The source cannot be read, disk or memory is full, or the task is strict and an image
        unreadable.
    """
    path = task.folder / f"{shard_name(task.split, task.number)}.npy"
    try:
        with naming(path):
            return _write(task, path)
    except MemoryError:
        raise MachineError(
            f"{path}: not enough memory to decode an image; fewer --workers need less"
        ) from None


def _write(task: Task, path: Path) -> Written:
    encoding, jpeg = task.encoding, task.encoding.format == "jpeg"
    sums = PixelSums(encoding.shape)
    skipped: list[Skipped] = []
    records: list[tuple[Any, ...]] = []
    index = path.with_name(f"{path.stem}.index.npy")
    with (
        replacing(path) as file,
        task.images.reader() as read,
    ):
        file.write(bytes(HEADER))
        for i in range(len(task.images)):
            advance()
            name, label = task.images.names[i], int(task.images.labels[i])
            shown = printable(os.fsdecode(name))
            content = read(i)  # an error here is of the source, not the image
            try:
                pixels = decode_image(content, encoding.size, name=shown)
            except DataError as error:
                if task.strict:
                    raise DataError(f"{task.images.place}: {error}") from error
                skipped.append(Skipped(shown, str(error).removeprefix(f"{shown}: ")))
                if task.split == "train":
                    continue
                label, content = -1, b""
                pixels = np.zeros(encoding.shape, np.uint8)
            else:
                if jpeg:
                    content = encode(pixels, encoding.quality)
                    pixels = decode(content, encoding.shape)  # as in training
                if task.split == "train":
                    sums.add(pixels[np.newaxis])
            begins = file.tell() - HEADER
            records.append((label, name, begins, len(content)) if jpeg else (label, name))
            file.write(content if jpeg else pixels.data)
        shape = (file.tell() - HEADER,) if jpeg else (len(records), *encoding.shape)
        file.seek(0)
        file.write(npy_header(shape))
    _write_index(index, records, jpeg)
    shard = {
        "images": len(records),
        "bytes": path.stat().st_size,
        "sha256": checksum(path),
        "index_bytes": index.stat().st_size,
        "index_sha256": checksum(index),
    }
    return Written(
        (task.split, task.number), shard, sums if task.split == "train" else None, skipped
    )


def _write_index(path: Path, records: list[tuple[Any, ...]], jpeg: bool) -> None:
    longest = max((len(record[1]) for record in records), default=1)
    fields = [("label", "<i4"), ("name", f"S{longest}")]
    if jpeg:
        fields += [("offset", "<i8"), ("bytes", "<i8")]
    with replacing(path) as file:
        np.save(file, np.array(records, fields))


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of a uint8 .npy file, always `HEADER` bytes long.

    The length of NumPy's own depends on the shape, which is known only after writing the data.
    """
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape})
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10)
    return start + text.ljust(HEADER - 11).encode() + b"\n"


def checksum(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal; raises DataError if it cannot be read."""
    digest = hashlib.sha256()
    with reading(path), open_regular(path) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def sample(images: Listing, encoding: Encoding) -> list[int]:
    """Returns the size of each readable image as a JPEG, in bytes."""
    sizes = []
    with images.reader() as read:
        for i in range(len(images)):
            advance()
            try:
                pixels = decode_image(read(i), encoding.size, name=images.names[i])
            except DataError:
                continue  # reported when the shard is written
            sizes.append(len(encode(pixels, encoding.quality)))
    return sizes


def verify_shard(folder: Path, split: str, number: int, description: dict[str, Any]) -> list[str]:
    """Compares a shard's checksums and decodes its images; returns all errors found."""
    shard, name = description[split]["shards"][number], shard_name(split, number)
    wrong: list[str] = []
    try:
        check_sizes(folder, name, shard)
        wrong += [
            f"{folder / file}: damaged: SHA-256 differs from dataset.json"
            for file, key in ((f"{name}.npy", "sha256"), (f"{name}.index.npy", "index_sha256"))
            if checksum(folder / file) != shard[key]
        ]
        images = ShardSplit(folder, split, description, only=number)
    except DataError as error:
        return [*wrong, str(error)]
    for i in range(len(images)):
        advance()
        try:
            images.read(np.array([i]))
        except DataError as error:
            wrong.append(str(error))
    return wrong
