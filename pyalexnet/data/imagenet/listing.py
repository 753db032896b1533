"""Compact lists of images: names, and the files' locations in archives or folders."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.errors import DataError
from pyalexnet.files import open_regular, read_bytes, reading

LARGEST = 256 << 20  # bytes of an image file; ImageNet's largest has about 15 MB


class Skipped(NamedTuple):
    """A file that was skipped, and why."""

    name: str
    reason: str


class Names:
    """A list of names in one byte string: 50 MB for 1.3 million images.

    Parameters
    ----------
    names : iterable of bytes
    """

    def __init__(self, names: Iterable[bytes] = ()) -> None:
        names = list(names)
        self.text = b"".join(names)
        self.ends = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in names], out=self.ends[1:])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.text[self.ends[index] : self.ends[index + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))

    def part(self, first: int, last: int) -> Names:
        """Returns the names from `first` up to, but not including, `last`."""
        part = Names()
        ends = self.ends[first : last + 1]
        part.text, part.ends = self.text[ends[0] : ends[-1]], ends - ends[0]
        return part

    @classmethod
    def joined(cls, parts: Sequence[Names]) -> Names:
        """Returns the concatenation of several lists."""
        joined = cls()
        joined.text = b"".join(part.text for part in parts)
        lengths = [np.diff(part.ends) for part in parts]
        joined.ends = np.concatenate([np.zeros(1, np.int64), *lengths])
        np.cumsum(joined.ends, out=joined.ends)
        return joined


@dataclass(frozen=True)
class Listing:
    """A list of labelled images and the locations of their files.

    Attributes
    ----------
    place : Path
        An archive, or a folder of files and class archives.
    names : Names
        Paths in it; those from class archives begin with the class.
    labels : int32 (n,)
    offsets : int64 (n,)
        Byte offsets of the files in the archive; -1 for files that are in none.
    sizes : int64 (n,)
        Sizes of the files in bytes.
    """

    place: Path
    names: Names
    labels: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, first: int, last: int) -> Listing:
        """Returns the images from `first` up to, but not including, `last`."""
        cut = slice(first, last)
        names = self.names.part(first, last)
        return Listing(self.place, names, self.labels[cut], self.offsets[cut], self.sizes[cut])

    def fingerprint(self) -> str:
        """Returns a checksum of names, labels, offsets and sizes, not of the files' content."""
        digest = hashlib.sha256(self.names.text)
        for values in (self.names.ends, self.labels, self.offsets, self.sizes):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], bytes]]:
        """Yields a function that returns the content of an image's file by index.

        The function raises DataError if the archive or file can no longer be read.
        """
        with contextlib.ExitStack() as stack:
            archives: dict[Path, int] = {}

            def read(index: int) -> bytes:
                name = os.fsdecode(self.names[index])
                if self.offsets[index] < 0:
                    return read_bytes(self.place / name, LARGEST)
                path = self.place
                if is_folder:
                    path /= f"{name.partition('/')[0]}.tar"
                if path not in archives:
                    stack.close()  # images are sorted by class
                    archives.clear()
                    archives[path] = stack.enter_context(opened(path))
                size = int(self.sizes[index])
                with reading(path):
                    content = os.pread(archives[path], size, int(self.offsets[index]))
                if len(content) < size:
                    raise DataError(f"{path}: truncated since its images were listed")
                return content

            is_folder = self.place.is_dir()
            yield read


@dataclass(frozen=True)
class Group:
    """The images of one class folder or class archive, sorted by name.

    Attributes
    ----------
    names : Names
        File names without folders.
    offsets, sizes : int64 (n,)
        As in `Listing`.
    skipped : list of Skipped
    """

    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Source:
    """The content of an archive or folder.

    Attributes
    ----------
    place : Path
    groups : dict of str to Group
        By class; group "" has the images that are not in a class folder.
    skipped : list of Skipped
        Skipped files outside groups.
    """

    place: Path
    groups: dict[str, Group] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Opens a regular file for os.pread within the block; raises DataError on failure."""
    with reading(path):
        file = open_regular(path)
    with file:
        yield file.fileno()
