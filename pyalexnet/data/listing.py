"""Lists of very many images: names, and where in tars or folders their files are."""

from __future__ import annotations

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


class LeftOut(NamedTuple):
    """Something that does not become an image, and why."""

    name: str
    reason: str


class Names:
    """Many names as one string of bytes: those of 1.3 million images take 50 MB.

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
        """Give those from `first` up to, without, `last`."""
        part = Names()
        ends = self.ends[first : last + 1]
        part.text, part.ends = self.text[ends[0] : ends[-1]], ends - ends[0]
        return part

    @classmethod
    def joined(cls, parts: Sequence[Names]) -> Names:
        """Put several together."""
        joined = cls()
        joined.text = b"".join(part.text for part in parts)
        lengths = [np.diff(part.ends) for part in parts]
        joined.ends = np.concatenate([np.zeros(1, np.int64), *lengths])
        np.cumsum(joined.ends, out=joined.ends)
        return joined


@dataclass(frozen=True)
class Listing:
    """Images, and where their files are.

    Attributes
    ----------
    place : Path
        A tar, or a folder.
    names : Names
        Paths within; those of a class tar's images begin with the class.
    labels : int32 (n,)
    offsets : int64 (n,)
        Where files begin in the tar; -1 for those in a folder.
    sizes : int64 (n,)
        Bytes of the files.
    """

    place: Path
    names: Names
    labels: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, first: int, last: int) -> Listing:
        """Give the images from `first` up to, without, `last`."""
        cut = slice(first, last)
        names = self.names.part(first, last)
        return Listing(self.place, names, self.labels[cut], self.offsets[cut], self.sizes[cut])

    def fingerprint(self) -> str:
        """Give a checksum of names, sizes, places and labels, though not of the images."""
        digest = hashlib.sha256(self.names.text)
        for values in (self.names.ends, self.labels, self.offsets, self.sizes):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    @contextmanager
    def reader(self) -> Iterator[Callable[[int], bytes]]:
        """Give a function from an image's index to its file's content.

        It raises DataError where the tar or file cannot be read any more.
        """
        if self.place.is_dir():
            yield self._read_file
            return
        with opened(self.place) as file:

            def read(index: int) -> bytes:
                size = int(self.sizes[index])
                try:
                    content = os.pread(file, size, int(self.offsets[index]))
                except OSError as error:
                    what = f"{self.place}: cannot be read: {error.strerror}"
                    raise DataError(what) from error
                if len(content) < size:
                    raise DataError(f"{self.place}: has become shorter")
                return content

            yield read

    def _read_file(self, index: int) -> bytes:
        path = self.place / os.fsdecode(self.names[index])
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Group:
    """The images of one folder or one class tar, by name.

    Attributes
    ----------
    names : Names
        Of the files, without folders.
    offsets, sizes : int64 (n,)
        As in `Listing`.
    left_out : list of LeftOut
    """

    names: Names
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Source:
    """What a tar or folder holds.

    Attributes
    ----------
    place : Path
    groups : dict of str to Group
        By class; the images that lie in no class folder are in group "".
    left_out : list of LeftOut
        Of no group.
    """

    place: Path
    groups: dict[str, Group] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for os.pread; raise DataError where that cannot be done."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        yield file
    finally:
        os.close(file)


def printable(name: str) -> str:
    """Give a name as it can be shown anywhere: what no terminal should get is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )
