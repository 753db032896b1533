"""The state of an output folder: its content, its progress, and how it is completed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from pyalexnet.data.imagenet import writing
from pyalexnet.data.imagenet.labels import ImageNet
from pyalexnet.data.imagenet.listing import Listing, Skipped
from pyalexnet.data.imagenet.writing import Written
from pyalexnet.data.sources.shards import (
    DESCRIPTION,
    MEAN,
    UNFINISHED,
    VERSION,
    Encoding,
    check,
    check_shard,
    check_sizes,
    open_imagenet,
    read_description,
    shard_name,
)
from pyalexnet.data.statistics import PixelSums
from pyalexnet.errors import DataError, UserError
from pyalexnet.files import is_passing, naming, parse_json, read_bytes, reading, real, replace
from pyalexnet.text import printable, shortened

SPLITS = ("train", "val")

_STATE_BYTES = 1 << 28  # of an unfinished folder's state at most, without the sums


class Preparation:
    """The output of one preparation and its progress.

    Attributes
    ----------
    sums : PixelSums
        Over the training images of all finished shards.
    skipped : list of (split, Skipped)
        Unreadable images of all finished shards.
    shards : dict of (split, number) to dict
        Finished shards: their entries in dataset.json.
    """

    def __init__(
        self, folder: Path, images: ImageNet, encoding: Encoding, shard_images: int
    ) -> None:
        self.folder, self.images, self.encoding = folder, images, encoding
        self.shard_images = shard_images
        self.sums = PixelSums(encoding.shape)
        self.skipped: list[tuple[str, Skipped]] = []
        self.shards: dict[tuple[str, int], dict[str, Any]] = {}

    def listing(self, split: str) -> Listing:
        return self.images.train if split == "train" else self.images.val

    def parts(self) -> list[tuple[str, int]]:
        """Returns split and number of all shards."""
        size = self.shard_images
        return [(s, n) for s in SPLITS for n in range(-(-len(self.listing(s)) // size))]

    def part(self, split: str, number: int) -> Listing:
        size = self.shard_images
        return self.listing(split).part(number * size, (number + 1) * size)

    def size(self, split: str, number: int) -> int:
        """Returns the number of source images of a shard."""
        return min(self.shard_images, len(self.listing(split)) - number * self.shard_images)

    def state(self) -> str:
        return f"{len(self.shards)} of {len(self.parts())} shards are finished"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that must be equal to resume a folder."""
        # Other versions of Pillow may scale or encode differently.
        encoding = {**self.encoding._asdict(), "pillow": PIL.__version__}
        if self.encoding.format != "jpeg":
            del encoding["quality"]
        return {
            "encoding": encoding,
            "shard_images": self.shard_images,
            "classes": self.images.classes,
            "sources": {
                split: {
                    "name": real(self.listing(split).place).name,
                    "images": len(self.listing(split)),
                    "sha256": self.listing(split).fingerprint(),
                }
                for split in SPLITS
            },
        }

    def finished(self) -> bool:
        """Returns whether the folder has the complete output for these images and options.

        Raises
        ------
        UserError
            The output is of other images or options.
        DataError
            The output is damaged.
        """
        if not (self.folder / DESCRIPTION).exists():
            return False
        before = read_description(self.folder)
        self._compare(before)
        open_imagenet(self.folder)
        self._remove_state()
        return True

    def resume(self) -> None:
        """Loads the state of an unfinished folder, or starts an empty one.

        Raises
        ------
        UserError
            The folder has other files, or was started with other images or options.
        DataError
            The state or a finished shard is damaged.
        """
        path = self.folder / UNFINISHED
        with reading(self.folder):
            names = os.listdir(self.folder)
            links = [name for name in names if os.path.islink(self.folder / name)]
        if links:
            raise UserError(
                f"output folder {self.folder}: {printable(links[0])} is a link; expected only files"
            )
        if not path.exists():
            strange = [name for name in names if not is_passing(name)]
            if strange:
                raise UserError(
                    f"output folder {self.folder}: contains {printable(strange[0])}; expected a "
                    f"new or empty folder, or one started by pyalexnet-prepare"
                )
            self.save()
            return
        try:
            self._restore(read_bytes(path, self.sums.total.nbytes + _STATE_BYTES))
        except UserError:
            raise
        except Exception as error:  # NumPy raises many types for damaged files
            raise DataError(f"{path}: damaged; delete {self.folder} and start again") from error
        for (split, number), shard in self.shards.items():
            check_sizes(self.folder, shard_name(split, number), shard)

    def _restore(self, content: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                raise ValueError("compressed")  # as `save` never does
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            before = parse_json(saved["state"].tobytes(), str(self.folder / UNFINISHED))
            self._compare(before["identity"])
            self.sums = PixelSums.restored(saved)
        self.shards = {(split, number): shard for split, number, shard in before["shards"]}
        self.skipped = [(split, Skipped(*item)) for split, item in before["left_out"]]
        check(self.shards.keys() <= set(self.parts()), "the list of shards")
        for (split, number), shard in self.shards.items():
            check_shard(shard)
            check(shard["images"] <= self.size(split, number), "a shard's images")
        for split, item in self.skipped:
            names = split in SPLITS and all(isinstance(part, str) for part in item)
            check(names, "the list of skipped files")
        counts = [shard["images"] for (split, _), shard in self.shards.items() if split == "train"]
        sums = self.sums.total.shape == self.encoding.shape and self.sums.count == sum(counts)
        check(sums, "the sums")

    def _compare(self, before: dict[str, Any]) -> None:
        try:
            old, new = _facts(before), _facts(self.identity)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{self.folder}: description is damaged") from error
        for what in new:
            if old[what] != new[what]:
                given, started = (shortened(printable(str(x[what])), 80) for x in (new, old))
                raise UserError(
                    f"output folder {self.folder}: {what} is {given}; expected {started}, with "
                    "which it was started, or another folder"
                )

    def record(self, written: Written) -> None:
        """Records a finished shard."""
        if written.sums is not None:
            self.sums.merge(written.sums)
        self.shards[written.task] = written.shard
        self.skipped += [(written.task[0], item) for item in written.skipped]
        self.save()

    def save(self) -> None:
        state = {
            "identity": self.identity,
            "shards": [(*task, shard) for task, shard in sorted(self.shards.items())],
            "left_out": self.skipped,
        }
        file = io.BytesIO()
        np.savez(
            file,
            state=np.frombuffer(json.dumps(state).encode(), np.uint8),
            **self.sums.arrays(),
        )
        replace(self.folder / UNFINISHED, file.getvalue())

    def all_skipped(self) -> list[dict[str, str]]:
        """Returns all skipped files, sorted by split and name."""
        found = sorted((*self.images.skipped, *self.skipped))
        return [{"split": split, "name": name, "reason": why} for split, (name, why) in found]

    def finish(self) -> None:
        """Writes mean.npy and dataset.json; all shards must be finished."""
        colour = self.sums.colour()
        file = io.BytesIO()
        np.save(file, self.sums.mean())
        replace(self.folder / MEAN, file.getvalue())
        description = {
            "description": "images prepared by pyalexnet-prepare",
            "version": VERSION,
            **self.identity,
            "colour": {"values": colour.values.tolist(), "vectors": colour.vectors.tolist()},
            "mean": {"sha256": writing.checksum(self.folder / MEAN)},
        }
        for split in SPLITS:
            shards = [self.shards[part] for part in self.parts() if part[0] == split]
            images = sum(shard["images"] for shard in shards)
            description[split] = {"images": images, "shards": shards}
        description["left_out"] = self.all_skipped()
        replace(self.folder / DESCRIPTION, json.dumps(description, indent=1).encode())
        self._remove_state()

    def _remove_state(self) -> None:
        path = self.folder / UNFINISHED
        with naming(path):
            path.unlink(missing_ok=True)


def _facts(identity: dict[str, Any]) -> dict[str, Any]:
    """Returns the identity as options and other facts known to the user."""
    encoding = identity["encoding"]
    facts = {f"--{key}": encoding.get(key) for key in ("format", "size", "quality")}
    facts["Pillow"] = encoding["pillow"]
    facts["--shard-images"] = identity["shard_images"]
    for split in SPLITS:
        source = identity["sources"][split]
        facts[f"--{split}"] = f"{source['images']:,} images (list {source['sha256'][:12]})"
    names = [entry.get("words", entry["wnid"]) for entry in identity["classes"]]
    facts["classes"] = f"{len(names):,} (list {_checksum(names)})"
    return facts


def _checksum(names: list[str]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]


def listed_shards(description: dict[str, Any]) -> list[tuple[str, int]]:
    """Returns split and number of all shards in dataset.json."""
    return [(split, n) for split in SPLITS for n in range(len(description[split]["shards"]))]
