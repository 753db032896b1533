"""The functions of pyalexnet-prepare: convert ImageNet as published to shards of small images.

Each process of a pool writes one shard at a time. The state (entries of finished shards, exact
sums) is in one file, replaced atomically after each shard: a run may be killed at any time and
resumes after the last recorded shard. The output does not depend on scheduling. What killed
processes leave is removed at the next start.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from pyalexnet import text
from pyalexnet.cores import check_count
from pyalexnet.data.dataset import LARGEST_SIZE
from pyalexnet.data.imagenet import writing
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.devkit import read_devkit
from pyalexnet.data.imagenet.labels import assemble
from pyalexnet.data.imagenet.listing import Listing
from pyalexnet.data.imagenet.pool import Pool
from pyalexnet.data.imagenet.preparation import SPLITS, Preparation, listed_shards
from pyalexnet.data.imagenet.writing import Task, write_shard
from pyalexnet.data.sources.shards import DESCRIPTION, MEAN, Encoding, read_description
from pyalexnet.errors import DataError, UserError
from pyalexnet.files import expanded, failure, locked, reading, real, remove_leftovers, same
from pyalexnet.streams import say

FORMATS = ("jpeg", "raw")

_SHOWN = 5  # number of skipped images, or of damaged files, to print
_SAMPLES, _SAMPLE = 64, 4  # number of samples, and images in each, for estimating the size
_RECORD = 64  # upper estimate of an index record in bytes
_SPARE = 1.05  # required free space, relative to the estimated size


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
    """Writes ImageNet's images to shards in a folder, or resumes an unfinished folder.

    Parameters
    ----------
    train, val : Path
        An archive as published, or a folder; see docs/imagenet.md.
    output : Path
        A new or empty folder, or one started by this function.
    devkit : Path, optional
        The devkit's .tar.gz or folder; required if validation images are not in class folders.
    encoding : Encoding, optional
        By default, JPEGs of quality 90, 256×256.
    shard_images : int
        Images per shard.
    workers : int, optional
        Number of processes, all cores by default. The output does not depend on it.
    strict : bool
        Raise DataError instead of skipping a file.
    progress : bool
        Show progress.

    Raises
    ------
    UserError
        Sources or output folder cannot be used, or not with these options.
    KeyboardInterrupt
        Interrupted, or ended by SIGTERM or SIGHUP; finished shards are kept.
    """
    encoding = encoding or Encoding("jpeg", 256, 90)
    _check(encoding, shard_images, workers)
    train, val, output = expanded(train), expanded(val), expanded(output)
    place = real(output)
    for source in (train, val):
        if any(same(source, folder) for folder in (place, *place.parents)):
            raise UserError(f"output folder {output}: is inside {source}; expected another folder")
    kit = None if devkit is None else read_devkit(expanded(devkit))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failure(error, f"output folder {output}: cannot be created") from error
    with _stoppable(), _claimed(output), Pool(workers, progress) as pool:
        say(f"listing images in {train} and {val}")
        images = assemble(list_source(train, pool.map), list_source(val, pool.map), kit)
        for note in images.notes:
            say(f"note: {note}")
        run = Preparation(output, images, encoding, shard_images)
        if run.finished():
            say(f"{output}: already prepared from the same images; nothing to do")
            return
        run.resume()
        if strict and (skipped := run.all_skipped()):
            raise DataError(f"{skipped[0]['name']}: {skipped[0]['reason']}")
        _check_space(run, pool)
        _write(run, pool, strict)
        run.finish()
    _report(run)


def verify(output: Path, *, workers: int | None = None, progress: bool = True) -> None:
    """Compares all checksums of a prepared folder and decodes all its images.

    Raises
    ------
    DataError
        Files are missing or damaged; the message names the first few, the others are printed.
    """
    check_count("workers", workers)
    output = expanded(output)
    description = read_description(output)
    mean = description["mean"]["sha256"]
    parts = listed_shards(description)
    total = sum(description[split]["images"] for split in SPLITS)
    wrong = []
    path = output / MEAN
    if not path.exists() or writing.checksum(path) != mean:
        wrong.append(f"{path}: missing, or damaged: SHA-256 differs from {DESCRIPTION}")
    with Pool(workers, progress) as pool:
        calls = ((output, *part, description) for part in parts)
        for lines in pool.run(writing.verify_shard, calls, "verifying", total):
            wrong += lines
    for line in sorted(wrong)[_SHOWN:]:
        say(line)
    if wrong:
        raise DataError("; ".join(sorted(wrong)[:_SHOWN]))
    say(f"{output}: {total:,} images in {len(parts)} shards, all as they were written")


def _check(encoding: Encoding, shard_images: int, workers: int | None) -> None:
    if encoding.format not in FORMATS:
        raise UserError(f"format is {encoding.format!r}; expected {' or '.join(FORMATS)}")
    if not 1 <= encoding.size <= LARGEST_SIZE:
        raise UserError(f"size is {encoding.size}; expected 1 to {LARGEST_SIZE}")
    if not 1 <= encoding.quality <= 100:
        raise UserError(f"quality is {encoding.quality}; expected 1 to 100")
    if shard_images < 1:
        raise UserError(f"shard-images is {shard_images}; expected at least 1")
    check_count("workers", workers)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Has SIGTERM and SIGHUP do as Ctrl-C within the block, where they would end the process."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Locks the folder, and removes at the end what killed processes have left.

    A finished folder may be locked or read-only: it is not written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except UserError:
            if not (folder / DESCRIPTION).exists():
                raise
        try:
            yield
        finally:
            remove_leftovers(folder)


def _check_space(run: Preparation, pool: Pool) -> None:
    """Prints the estimated size; raises UserError if it exceeds the free space."""
    train, val = run.images.train, run.images.val
    each = float(np.prod(run.encoding.shape))
    about = ""
    if run.encoding.format == "jpeg":
        each, about = _jpeg_bytes(train, run.encoding, pool), "about "
    size = int((len(train) + len(val)) * (each + _RECORD))
    done = sum(shard["bytes"] + shard["index_bytes"] for shard in run.shards.values())
    with reading(run.folder):
        free = shutil.disk_usage(run.folder).free
    say(
        f"{len(train):,} training and {len(val):,} validation images in "
        f"{len(run.images.classes):,} classes, to {run.folder}: {about}{text.size(size)}, "
        f"{text.size(free)} free" + f"; {run.state()}" * bool(run.shards)
    )
    if (size - done) * _SPARE > free:
        raise UserError(
            f"output folder {run.folder}: free space is {text.size(free)}; expected {about}"
            f"{text.size((size - done) * _SPARE)}"
        )


def _jpeg_bytes(images: Listing, encoding: Encoding, pool: Pool) -> float:
    starts = np.unique(np.linspace(0, max(0, len(images) - _SAMPLE), _SAMPLES).astype(int))
    calls = ((images.part(first, first + _SAMPLE), encoding) for first in starts.tolist())
    total = len(starts) * _SAMPLE
    found = pool.run(writing.sample, calls, "sampling", total, lines=False)
    sizes = [size for some in found for size in some]
    if not sizes:
        raise DataError(
            f"{images.place}: number of readable images in the sample is 0; expected JPEGs or PNGs"
        )
    return float(np.mean(sizes))


def _write(run: Preparation, pool: Pool, strict: bool) -> None:
    left = [part for part in run.parts() if part not in run.shards]
    total = sum(run.size(*part) for part in left)
    tasks = ((Task(run.folder, *part, run.part(*part), run.encoding, strict),) for part in left)
    try:
        for written in pool.run(write_shard, tasks, "preparing", total):
            run.record(written)
    except KeyboardInterrupt:
        say(f"{run.state()}; run the same command again to continue")
        raise


def _report(run: Preparation) -> None:
    skipped = run.all_skipped()
    for item in skipped[:_SHOWN]:
        say(f"skipped in {item['split']}: {item['name']}: {item['reason']}")
    if len(skipped) > _SHOWN:
        say(f"… {len(skipped):,} in all; {run.folder / DESCRIPTION} lists them")
    images = sum(shard["images"] for shard in run.shards.values())
    size = sum(shard["bytes"] + shard["index_bytes"] for shard in run.shards.values())
    say(f"{run.folder}: {images:,} images, {text.size(size)}; --data imagenet:{run.folder}")
