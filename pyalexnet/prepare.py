"""What pyalexnet-prepare runs: from ImageNet as it is published to shards of small images.

A pool of processes writes a shard each. What the finished ones have in common (their entries, the
exact sums) lies in one file, replaced at once after each, so that a run may be killed at any moment
and goes on after the last shard recorded. Order and sums do not depend on who does what when.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pyalexnet.data import writing
from pyalexnet.data.archives import list_source
from pyalexnet.data.devkit import read_devkit
from pyalexnet.data.imagenet import assemble
from pyalexnet.data.listing import Listing
from pyalexnet.data.preparation import SPLITS, Preparation
from pyalexnet.data.shards import DESCRIPTION, MEAN, Encoding, described, read_description
from pyalexnet.data.writing import Task, write_shard
from pyalexnet.errors import DataError, UserError
from pyalexnet.pool import Pool

FORMATS = ("jpeg", "raw")

_SHOWN = 5  # of the images left out, or of damaged files
_SAMPLES, _SAMPLE = 64, 4  # places, and images there, whose JPEGs are made to foretell the size
_RECORD = 64  # bytes of an image's record in an index, at most about
_SPARE = 1.05  # times the size foretold must be free


def prepare(
    train: Path,
    val: Path,
    output: Path,
    *,
    devkit: Path | None = None,
    encoding: Encoding | None = None,
    shard_images: int = 4096,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> None:
    """Write ImageNet's images, small and in order, to a folder; go on with one begun before.

    Parameters
    ----------
    train, val : Path
        Each a tar as published, or a folder; see docs/imagenet.md.
    output : Path
        A new or empty folder, or one of this function's.
    devkit : Path, optional
        The devkit's .tar.gz or folder; needed where the validation images lie in no class folders.
    encoding : Encoding, optional
        Default: JPEGs of quality 90, 256×256.
    shard_images : int
        Images in a shard's files.
    workers : int, optional
        Processes; as many as there are cores by default. They change no bit of what is written.
    strict : bool
        Raise DataError where something would be left out.
    progress : bool
        Show how it goes on.

    Raises
    ------
    UserError
        Sources or output folder cannot be used, or not with these options.
    KeyboardInterrupt
        Finished shards are kept.
    """
    encoding = encoding or Encoding("jpeg", 256, 90)
    _check(encoding, shard_images, workers)
    for source in (train, val):
        if source.resolve() in (output.resolve(), *output.resolve().parents):
            raise UserError(f"output folder {output}: lies in {source}; expected another place")
    kit = None if devkit is None else read_devkit(devkit)
    with _locked(output), Pool(workers, progress) as pool:
        print(f"looking for images in {train} and {val}", flush=True)
        images = assemble(list_source(train, pool.map), list_source(val, pool.map), kit)
        for note in images.notes:
            print(f"note: {note}")
        run = Preparation(output, images, encoding, shard_images)
        if run.finished():
            print(f"{output}: prepared before, from the same images; nothing to do")
            return
        run.go_on()
        if strict and (left_out := run.all_left_out()):
            raise DataError(f"{left_out[0]['name']}: {left_out[0]['reason']}")
        _check_space(run, pool)
        _write(run, pool, strict)
        run.finish()
    _report(run)


def verify(output: Path, *, workers: int | None = None, progress: bool = True) -> None:
    """Compare all checksums of a prepared folder and decode all its images.

    Raises
    ------
    DataError
        Something is missing or damaged; the first few files are named, the others printed.
    """
    _check_workers(workers)
    description = read_description(output)
    with described(output):
        mean = description["mean"]["sha256"]
        parts = [(split, n) for split in SPLITS for n in range(len(description[split]["shards"]))]
        total = sum(int(description[split]["images"]) for split in SPLITS)
    wrong = []
    path = output / MEAN
    if not path.is_file() or writing.checksum(path) != mean:
        wrong.append(f"{path}: missing, or damaged: its SHA-256 is another")
    with Pool(workers, progress) as pool:
        calls = ((output, *part, description) for part in parts)
        for found in pool.run(writing.verify_shard, calls, "verifying", total):
            wrong += found
    for text in sorted(wrong)[_SHOWN:]:
        print(text)
    if wrong:
        raise DataError("; ".join(sorted(wrong)[:_SHOWN]))
    print(f"{output}: {total:,} images in {len(parts)} shards, all as they were written")


def _check(encoding: Encoding, shard_images: int, workers: int | None) -> None:
    if encoding.format not in FORMATS:
        raise UserError(f"format is {encoding.format!r}; expected {' or '.join(FORMATS)}")
    if encoding.size < 1:
        raise UserError(f"size is {encoding.size}; expected at least 1")
    if not 1 <= encoding.quality <= 100:
        raise UserError(f"quality is {encoding.quality}; expected 1 to 100")
    if shard_images < 1:
        raise UserError(f"shard-images is {shard_images}; expected at least 1")
    _check_workers(workers)


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}; expected at least 1")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder is there, and this process alone writes to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"output folder {folder}: another process is writing to it") from None
        except OSError:
            pass  # a file system without locks: nothing more can be done
        yield
    finally:
        os.close(lock)


def _check_space(run: Preparation, pool: Pool) -> None:
    """Says how much will be written, and raises UserError where there is no room for it."""
    train, val = run.images.train, run.images.val
    each = float(np.prod(run.encoding.shape))
    about = ""
    if run.encoding.format == "jpeg":
        each, about = _jpeg_bytes(train, run.encoding, pool), "about "
    size = int((len(train) + len(val)) * (each + _RECORD))
    done = sum(shard["bytes"] + shard["index_bytes"] for shard in run.shards.values())
    free = shutil.disk_usage(run.folder).free
    print(
        f"{len(train):,} training and {len(val):,} validation images in "
        f"{len(run.images.classes):,} classes, to {run.folder}: {about}{_bytes(size)}, "
        f"{_bytes(free)} free" + f"; {run.state()}" * bool(run.shards),
        flush=True,
    )
    if (size - done) * _SPARE > free:
        raise UserError(
            f"output folder {run.folder}: {_bytes(free)} free; expected {about}"
            f"{_bytes((size - done) * _SPARE)}"
        )


def _jpeg_bytes(images: Listing, encoding: Encoding, pool: Pool) -> float:
    starts = np.unique(np.linspace(0, max(0, len(images) - _SAMPLE), _SAMPLES).astype(int))
    calls = ((images.part(first, first + _SAMPLE), encoding) for first in starts.tolist())
    total = len(starts) * _SAMPLE
    found = pool.run(writing.sample, calls, "sampling", total, lines=False)
    sizes = [size for some in found for size in some]
    if not sizes:
        raise DataError(f"{images.place}: none of the images looked at is a readable JPEG or PNG")
    return float(np.mean(sizes))


def _bytes(size: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.3g} {units[0]}"


def _write(run: Preparation, pool: Pool, strict: bool) -> None:
    left = [part for part in run.parts() if part not in run.shards]
    total = sum(run.size(*part) for part in left)
    tasks = ((Task(run.folder, *part, run.part(*part), run.encoding, strict),) for part in left)
    try:
        for written in pool.run(write_shard, tasks, "preparing", total):
            run.record(written)
    except KeyboardInterrupt:
        print(f"{run.state()}; the same command goes on from there", flush=True)
        raise


def _report(run: Preparation) -> None:
    left_out = run.all_left_out()
    for item in left_out[:_SHOWN]:
        print(f"left out of {item['split']}: {item['name']}: {item['reason']}")
    if len(left_out) > _SHOWN:
        print(f"… {len(left_out):,} in all; {run.folder / DESCRIPTION} lists them")
    images = sum(shard["images"] for shard in run.shards.values())
    size = sum(shard["bytes"] + shard["index_bytes"] for shard in run.shards.values())
    print(f"{run.folder}: {images:,} images, {_bytes(size)}; --data imagenet:{run.folder}")
