"""Finds image files in a folder, and divides them into training and validation images by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.images import endings
from pyalexnet.errors import DataError
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
        self._names: list[str] = []

    def add(self, name: str) -> None:
        """Counts a file or, with a slash behind its name, a folder with all that is in it."""
        self.count += 1
        if len(self._names) < _NAMED:
            self._names.append(name)

    def in_words(self) -> str:
        """Returns a line: "5 left out: a.txt, .b, c/ and 2 more (hidden, …)"; "" if none is."""
        if not self.count:
            return ""
        return (
            f"{self.count:,} left out: {listed(self._names, self.count)} (hidden, no regular file, "
            "or not named as an image)"
        )


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
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder, or a link to one, that is not hidden."""
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:  # links in a circle
        return False


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether this is a regular file, or a link to one, that is named as an image and not hidden.

    Pipes, sockets and devices are none: reading from them may not end.
    """
    name = entry.name
    try:
        return not name.startswith(".") and name.lower().endswith(endings()) and entry.is_file()
    except OSError:
        return False


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
    for name, entry in _walk(folder):
        if is_image(entry):
            images.append(os.fsencode(name))
        else:
            left_out.add(f"{folder.name}/{name}")
    return sorted(images)


def holds_image(folder: Path) -> bool:
    """Whether `find_images` would find any; errors as it."""
    return any(is_image(entry) for _, entry in _walk(folder))


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yields all but the folders that it goes into, each with its path relative to `folder`."""
    pending, seen = [""], set()
    while pending:
        prefix = pending.pop()
        place = folder / prefix
        try:
            status = place.stat()
        except OSError as error:
            raise DataError(f"{place}: cannot be read: {error.strerror}") from error
        if (status.st_dev, status.st_ino) in seen:  # links may lead back
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries(place):
            if is_folder(entry):
                pending.append(f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry


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
