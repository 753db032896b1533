"""Finds image files in a folder, and divides them into training and validation images by name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.images import endings
from pyalexnet.errors import DataError
from pyalexnet.files import failure, reading
from pyalexnet.text import printable

_NAMED = 3  # files that are named where many are counted


class LeftOut:
    """Counts what lies among images and is not read, and keeps the first names.

    Attributes
    ----------
    count : int
    """

    def __init__(self) -> None:
        self.count = 0
        self._named: list[str] = []

    def add(self, name: str, reason: str) -> None:
        """Counts a file or, with a slash behind its name, a folder with all that is in it."""
        self.count += 1
        if len(self._named) < _NAMED:
            self._named.append(f"{name} ({reason})")

    def in_words(self) -> str:
        """Returns a line: "5 left out: a.txt (not named as …), .b (hidden) and 3 more"."""
        return f"{self.count:,} left out: {listed(self._named, self.count)}"


def listed(names: Sequence[str], count: int) -> str:
    """Returns "a, b, c and 2 more" for the first three of `count` names."""
    shown = [printable(name) for name in names[:_NAMED]]
    more = count - len(shown)
    return f"{', '.join(shown)} and {more:,} more" if more else ", ".join(shown)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns what a folder contains, by name.

    Raises
    ------
    DataError
        The folder cannot be read.
    """
    with reading(folder), os.scandir(folder) as found:
        return sorted(found, key=lambda entry: os.fsencode(entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder, or a link to one, that is not hidden; errors as `entries`."""
    if entry.name.startswith("."):
        return False
    mode = _mode(entry)
    return mode is not None and stat.S_ISDIR(mode)


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether this is a regular file, or a link to one, that is named as an image and not hidden.

    Pipes, sockets and devices are none: reading from them may not end.
    """
    return not why_none(entry)


def why_none(entry: os.DirEntry[str]) -> str:
    """Why this is no image, as `is_image` says: "hidden"; "" if it is one; errors as `entries`."""
    if entry.name.startswith("."):
        return "hidden"
    mode = _mode(entry)
    if mode is None:
        return "a link that leads nowhere"
    if stat.S_ISDIR(mode):
        return "a folder"
    if not stat.S_ISREG(mode):
        return "no regular file"
    return "" if entry.name.lower().endswith(endings()) else "not named as an image"


def _mode(entry: os.DirEntry[str]) -> int | None:
    """The mode of what an entry leads to; None for links that lead nowhere or in a circle."""
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG  # known without asking the disk
    try:
        return entry.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        path = Path(entry.path)
        raise failure(error, f"{path}: cannot be read", DataError) from error


def find_images(folder: Path, left_out: LeftOut) -> list[bytes]:
    """Returns the images in a folder and the folders in it, as sorted paths relative to it.

    Parameters
    ----------
    folder : Path
    left_out : LeftOut
        Counts the others.

    Raises
    ------
    DataError
        A folder cannot be read.
    """
    images = []
    for name, reason in _walk(folder):
        if reason:
            left_out.add(f"{folder.name}/{name}", reason)
        else:
            images.append(os.fsencode(name))
    return sorted(images)


def holds_image(folder: Path) -> bool:
    """Whether `find_images` would find any; errors as it."""
    return any(not reason for _, reason in _walk(folder))


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields all but the folders that it goes into: path relative to `folder`, `why_none`."""
    pending, seen = [""], set()
    while pending:
        prefix = pending.pop()
        place = folder / prefix
        with reading(place):
            status = place.stat()
        if (status.st_dev, status.st_ino) in seen:
            yield prefix, "a link back"
            continue
        seen.add((status.st_dev, status.st_ino))
        inner = []
        for entry in entries(place):
            name = prefix + entry.name
            if is_folder(entry):
                inner.append(f"{name}/")
            else:
                yield name, why_none(entry)
        # The last one is the next: folders come by name, so a link back is always the same one.
        pending += reversed(inner)


def held_out(class_name: str, names: Sequence[bytes], share: float) -> NDArray[np.bool_]:
    """Chooses a class's validation images: those whose name's hash is in the lowest `share`.

    So the choice is the same on every machine, and a file that is added moves no other, except
    where a class would have no image on one side: then the one nearest to the limit changes sides.
    A single image is for training.

    Parameters
    ----------
    class_name : str
    names : sequence of bytes (n)
        Paths relative to the class's folder.
    share : float
        Between 0 and 1.

    Returns
    -------
    bool (n,)
        True for validation.
    """
    prefix = os.fsencode(class_name) + b"/"
    digests = [blake2b(prefix + name, digest_size=8).digest() for name in names]
    keys = np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)
    chosen = keys < np.uint64(share * 2.0**64)
    if len(names) > 1 and not chosen.any():
        chosen[keys.argmin()] = True
    elif chosen.all():
        chosen[keys.argmax()] = False
    return chosen
