"""A folder that is being prepared: what is in it, how far it has come, what makes it whole."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from pyalexnet.data import writing
from pyalexnet.data.imagenet import ImageNet
from pyalexnet.data.listing import LeftOut, Listing, printable
from pyalexnet.data.shards import (
    DESCRIPTION,
    MEAN,
    UNFINISHED,
    VERSION,
    Encoding,
    check_sizes,
    read_description,
    shard_name,
)
from pyalexnet.data.statistics import PixelSums
from pyalexnet.data.writing import Written
from pyalexnet.errors import DataError, UserError

SPLITS = ("train", "val")


class Preparation:
    """What is written into a folder, and how far it has come."""

    def __init__(
        self, folder: Path, images: ImageNet, encoding: Encoding, shard_images: int
    ) -> None:
        self.folder, self.images, self.encoding = folder, images, encoding
        self.shard_images = shard_images
        self.sums = PixelSums(encoding.shape)
        self.left_out: list[tuple[str, LeftOut]] = []
        self.shards: dict[tuple[str, int], dict[str, Any]] = {}

    def listing(self, split: str) -> Listing:
        return self.images.train if split == "train" else self.images.val

    def parts(self) -> list[tuple[str, int]]:
        """All shards."""
        size = self.shard_images
        return [(s, n) for s in SPLITS for n in range(-(-len(self.listing(s)) // size))]

    def part(self, split: str, number: int) -> Listing:
        size = self.shard_images
        return self.listing(split).part(number * size, (number + 1) * size)

    def size(self, split: str, number: int) -> int:
        """Images that a shard is made of."""
        return min(self.shard_images, len(self.listing(split)) - number * self.shard_images)

    def state(self) -> str:
        return f"{len(self.shards)} of {len(self.parts())} shards are finished"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a folder to be gone on with."""
        # Another version of Pillow may scale or encode otherwise.
        encoding = {**self.encoding._asdict(), "pillow": PIL.__version__}
        if self.encoding.format != "jpeg":
            del encoding["quality"]
        return {
            "encoding": encoding,
            "shard_images": self.shard_images,
            "classes": self.images.classes,
            "sources": {
                split: {
                    "name": self.listing(split).place.resolve().name,
                    "images": len(self.listing(split)),
                    "sha256": self.listing(split).fingerprint(),
                }
                for split in SPLITS
            },
        }

    def finished(self) -> bool:
        """Whether the folder holds the whole result of these images and options.

        Raises
        ------
        UserError
            It holds that of others.
        """
        if not (self.folder / DESCRIPTION).exists():
            return False
        before = read_description(self.folder)
        self._compare(before)
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        return True

    def go_on(self) -> None:
        """Take up what the folder has, or begin."""
        path = self.folder / UNFINISHED
        if not path.exists():
            strange = [entry.name for entry in os.scandir(self.folder)]
            if strange:
                raise UserError(
                    f"output folder {self.folder}: holds {printable(strange[0])}; expected "
                    f"a new or empty folder, or one that pyalexnet-prepare began"
                )
            self.save()
            return
        try:
            with np.load(path, allow_pickle=False) as saved:
                before = json.loads(saved["state"].tobytes())
                self._compare(before["identity"])
                self.sums = PixelSums.restored(saved)
            self.shards = {(split, number): shard for split, number, shard in before["shards"]}
            self.left_out = [(split, LeftOut(*item)) for split, item in before["left_out"]]
        except UserError:
            raise
        except Exception as error:  # NumPy raises nearly anything for damaged files
            raise DataError(f"{path}: damaged; delete {self.folder} and begin again") from error
        for (split, number), shard in self.shards.items():
            check_sizes(self.folder, shard_name(split, number), shard)
        for part in self.folder.glob(f"*{writing.PART}"):
            part.unlink()

    def _compare(self, before: dict[str, Any]) -> None:
        try:
            old, new = _facts(before), _facts(self.identity)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.folder}: its description is damaged") from error
        for what in new:
            if old[what] != new[what]:
                raise UserError(
                    f"output folder {self.folder}: was begun with {what} {old[what]}, not "
                    f"{new[what]}; expected the same, or another folder"
                )

    def record(self, written: Written) -> None:
        """A shard is whole."""
        if written.sums is not None:
            with np.load(written.sums) as arrays:
                self.sums.merge(PixelSums.restored(arrays))
            written.sums.unlink()
        self.shards[written.task] = written.shard
        self.left_out += [(written.task[0], item) for item in written.left_out]
        self.save()

    def save(self) -> None:
        state = {
            "identity": self.identity,
            "shards": [(*task, shard) for task, shard in sorted(self.shards.items())],
            "left_out": self.left_out,
        }
        file = io.BytesIO()
        np.savez(
            file,
            state=np.frombuffer(json.dumps(state).encode(), np.uint8),
            **self.sums.arrays(),
        )
        _replace(self.folder / UNFINISHED, file.getvalue())

    def all_left_out(self) -> list[dict[str, str]]:
        """What was found not to be an image, in order of name."""
        found = sorted((*self.images.left_out, *self.left_out))
        return [{"split": split, "name": name, "reason": why} for split, (name, why) in found]

    def finish(self) -> None:
        """All shards are whole: write what makes them a data set."""
        colour = self.sums.colour()
        file = io.BytesIO()
        np.save(file, self.sums.mean())
        _replace(self.folder / MEAN, file.getvalue())
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
        description["left_out"] = self.all_left_out()
        _replace(self.folder / DESCRIPTION, json.dumps(description, indent=1).encode())
        (self.folder / UNFINISHED).unlink()


def _facts(identity: dict[str, Any]) -> dict[str, Any]:
    """What tells one run from another, as a user knows it."""
    encoding = identity["encoding"]
    facts = {f"--{key}": encoding.get(key) for key in ("format", "size", "quality")}
    facts["Pillow"] = encoding["pillow"]
    facts["--shard-images"] = identity["shard_images"]
    for split in SPLITS:
        source = identity["sources"][split]
        facts[f"--{split}"] = f"{source['images']:,} images (list {source['sha256'][:12]})"
    facts["classes"] = [entry.get("words", entry["wnid"]) for entry in identity["classes"]]
    return facts


def _replace(path: Path, content: bytes) -> None:
    """Writes a file so that it is there either whole or not at all, whatever happens."""
    part = path.with_name(path.name + writing.PART)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with suppress(OSError):  # not all file systems have this
            os.fsync(folder)  # the names of the shards that the content speaks of, too
    finally:
        os.close(folder)
