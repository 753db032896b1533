"""Shards written: what the worker processes of pyalexnet-prepare do.

This module is imported by every worker, so it imports little.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import struct
import threading
import warnings
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data.images import decode_image
from pyalexnet.data.listing import LeftOut, Listing, printable
from pyalexnet.data.shards import HEADER, Encoding, ShardSplit, check_sizes, decode, shard_name
from pyalexnet.data.statistics import PixelSums
from pyalexnet.errors import DataError

PART = ".part"  # ends the name of a file that is being written


class Stopped(Exception):
    """The work was called off."""


_done: Synchronized[int]
_stop: Any


def begin(done: Synchronized[int], stop: Any) -> None:
    """Prepare a worker process: `done` counts images for all, `stop.value` calls the work off."""
    global _done, _stop
    _done, _stop = done, stop
    # Of images, only errors count; a bomb is refused by its size.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A parent that is killed cannot tell its workers, which would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def advance() -> None:
    """Count an image; raise Stopped where the work was called off."""
    if _stop.value:
        raise Stopped
    with _done.get_lock():
        _done.value += 1


@dataclass(frozen=True)
class Task:
    """A shard to write.

    Attributes
    ----------
    folder : Path
        Where to.
    split : str
        "train": unreadable images are left out, the others summed. "val": unreadable images keep
        their positions, with label -1.
    number : int
        Which of the split's shards.
    images : Listing
        Those of this shard.
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
    """What became of a task.

    It is small, and the sums are in a file, because a process that is killed while it sends much
    would leave the receiver waiting for the rest.

    Attributes
    ----------
    task : (str, int)
        Split and number.
    shard : dict
        Its entry in dataset.json.
    sums : Path, optional
        Where what it adds to the sums is, until it is recorded.
    left_out : list of LeftOut
    """

    task: tuple[str, int]
    shard: dict[str, Any]
    sums: Path | None
    left_out: list[LeftOut]


def encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Make a JPEG of an image, uint8 (H, W, 3), with colours at half the resolution."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def write_shard(task: Task) -> Written:
    """Write a shard's two files; they appear under their names once they are whole.

    Raises
    ------
    DataError
        The source cannot be read, disk or memory is full, or the task is strict and an image
        unreadable.
    """
    path = task.folder / f"{shard_name(task.split, task.number)}.npy"
    try:
        return _write(task, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
    except MemoryError:
        raise DataError(
            f"{path}: not enough memory to decode an image; fewer --workers need less"
        ) from None


def _write(task: Task, path: Path) -> Written:
    encoding, jpeg = task.encoding, task.encoding.format == "jpeg"
    sums = PixelSums(encoding.shape)
    left_out: list[LeftOut] = []
    records: list[tuple[Any, ...]] = []
    part = path.with_name(path.name + PART)
    with part.open("wb") as file, task.images.reader() as read:
        file.write(bytes(HEADER))
        for i in range(len(task.images)):
            advance()
            name, label = task.images.names[i], int(task.images.labels[i])
            shown = printable(os.fsdecode(name))
            content = read(i)  # where this fails, it is not the image's fault
            try:
                pixels = decode_image(content, encoding.size, name=shown)
            except DataError as error:
                if task.strict:
                    raise DataError(f"{task.images.place}: {error}") from error
                left_out.append(LeftOut(shown, str(error).removeprefix(f"{shown}: ")))
                if task.split == "train":
                    continue
                label, content = -1, b""
                pixels = np.zeros(encoding.shape, np.uint8)
            else:
                if jpeg:
                    content = encode(pixels, encoding.quality)
                    pixels = decode(content, encoding.shape)  # as training will see it
                if task.split == "train":
                    sums.add(pixels[np.newaxis])
            begins = file.tell() - HEADER
            records.append((label, name, begins, len(content)) if jpeg else (label, name))
            file.write(content if jpeg else pixels.data)
        shape = (file.tell() - HEADER,) if jpeg else (len(records), *encoding.shape)
        file.seek(0)
        file.write(npy_header(shape))
        _flush(file)
    index = path.with_name(f"{path.stem}.index.npy")
    _write_index(index, records, jpeg)
    os.replace(part, path)
    shard = {
        "images": len(records),
        "bytes": path.stat().st_size,
        "sha256": checksum(path),
        "index_bytes": index.stat().st_size,
        "index_sha256": checksum(index),
    }
    if task.split != "train":
        return Written((task.split, task.number), shard, None, left_out)
    summed = path.with_name(f"{path.stem}.sums.npz{PART}")
    with summed.open("wb") as file:
        np.savez(file, **sums.arrays())
    return Written((task.split, task.number), shard, summed, left_out)


def _write_index(path: Path, records: list[tuple[Any, ...]], jpeg: bool) -> None:
    longest = max((len(record[1]) for record in records), default=1)
    fields = [("label", "<i4"), ("name", f"S{longest}")]
    if jpeg:
        fields += [("offset", "<i8"), ("bytes", "<i8")]
    part = path.with_name(path.name + PART)
    with part.open("wb") as file:
        np.save(file, np.array(records, fields))
        _flush(file)
    os.replace(part, path)


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Give the start of a .npy file of bytes, always `HEADER` long.

    NumPy's own would depend on the shape, which is known only when the bytes are written.
    """
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape})
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", HEADER - 10)
    return start + text.ljust(HEADER - 11).encode() + b"\n"


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """Give a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def sample(images: Listing, encoding: Encoding) -> list[int]:
    """Give how many bytes each readable image takes as a JPEG."""
    sizes = []
    with images.reader() as read:
        for i in range(len(images)):
            advance()
            try:
                pixels = decode_image(read(i), encoding.size, name=images.names[i])
            except DataError:
                continue  # the run itself reports it
            sizes.append(len(encode(pixels, encoding.quality)))
    return sizes


def verify_shard(folder: Path, split: str, number: int, description: dict[str, Any]) -> list[str]:
    """Compare a shard's checksums and decode its images; give what is wrong, file by file."""
    shard, name = description[split]["shards"][number], shard_name(split, number)
    try:
        check_sizes(folder, name, shard)
        wrong = [
            f"{folder / file}: damaged: its SHA-256 is not the one in dataset.json"
            for file, key in ((f"{name}.npy", "sha256"), (f"{name}.index.npy", "index_sha256"))
            if checksum(folder / file) != shard[key]
        ]
        images = ShardSplit(folder, split, description, only=number)
    except DataError as error:
        return [str(error)]
    for i in range(len(images)):
        advance()
        try:
            images.read(np.array([i]))
        except DataError as error:
            wrong.append(str(error))
    return wrong
