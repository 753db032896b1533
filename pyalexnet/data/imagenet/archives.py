"""Lists the images in tar archives as published, nested ones included, and in folders.

An uncompressed tar, nested or not, is a sequence of headers and files. One pass over the headers
yields the offset of every image, at which any process can read it.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyalexnet.data.imagenet.listing import Group, Names, Skipped, Source, opened
from pyalexnet.errors import DataError
from pyalexnet.text import printable

ENDINGS = (".jpg", ".jpeg", ".png")

_BLOCK = 512  # block size of a tar
_LONGEST = 255  # bytes of a file name, the limit of most file systems
_LARGEST = 256 << 20  # bytes of an image file; ImageNet's largest has about 15 MB


class Nested(NamedTuple):
    """A class folder, or a class archive at byte `start` of the archive `place`."""

    place: Path
    group: str
    start: int = -1  #: -1 for a folder
    size: int = 0


Entries = list[tuple[bytes, int, int]]  # name, offset, size


def list_source(
    path: Path, mapped: Callable[[Callable[[Nested], Group], list[Nested]], Iterable[Group]] = map
) -> Source:
    """Lists the images in an archive or folder without unpacking.

    Parameters
    ----------
    path : Path
        An archive of class archives, an archive of images, or a folder of images or class folders.
    mapped : callable
        As `map`; a process pool's version lists class archives or folders in parallel.

    Raises
    ------
    DataError
        The path does not exist, or the archive is damaged.
    """
    source = Source(path)
    inner: dict[str, Nested] = {}
    found: dict[str, Entries] = {}
    if path.is_dir():
        _list_folder(source, inner, found)
    elif path.is_file():
        _list_tar(source, inner, found)
    else:
        raise DataError(f"{path}: no such archive or folder")
    for name, images in found.items():
        source.groups[name] = _group(name, images, [])
    for name, group in zip(inner, mapped(list_nested, list(inner.values())), strict=True):
        if name in source.groups:
            raise DataError(f"{path}: class {name} is an archive and a folder; expected one")
        source.groups[name] = group
    return source


def list_nested(nested: Nested) -> Group:
    """Lists the images of one class archive or folder."""
    images: Entries = []
    skipped: list[Skipped] = []

    def skip(name: str, reason: str) -> None:
        skipped.append(Skipped(printable(f"{nested.group}/{name}"), reason))

    if nested.start < 0:
        for entry in _scan(nested.place):
            _add_entry(entry, images, skip)
    else:
        with opened(nested.place) as file:
            window = _Window(file, nested.start, nested.size)
            name = f"{nested.place}: {nested.group}.tar"
            for member in _members(window, name, nested=True):
                reason = _refusal(member) or _no_image(member.name)
                if reason:
                    skip(member.name, reason)
                else:
                    offset = nested.start + member.offset_data
                    images.append((_base(member.name), offset, member.size))
    return _group(nested.group, images, skipped)


def _list_folder(source: Source, inner: dict[str, Nested], found: dict[str, Entries]) -> None:
    images: Entries = []
    for entry in _scan(source.place):
        if entry.is_dir():
            if reason := _bad_name(entry.name):
                source.skipped.append(Skipped(printable(entry.name), reason))
            elif not entry.name.startswith("."):
                inner[entry.name] = Nested(Path(entry.path), entry.name)
        else:
            _add_entry(
                entry,
                images,
                lambda *what: source.skipped.append(Skipped(printable(what[0]), what[1])),
            )
    if images:
        found[""] = images


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def _list_tar(source: Source, inner: dict[str, Nested], found: dict[str, Entries]) -> None:
    with opened(source.place) as file:
        window = _Window(file, 0, os.fstat(file).st_size)
        for member in _members(window, str(source.place), nested=False):
            folder, _, name = f"/{member.name}".rpartition("/")
            is_tar = name.endswith(".tar")
            reason = _refusal(member) or _no_image(name.removesuffix(".tar") + ".jpg" * is_tar)
            if is_tar and not reason and name[:-4] in inner:
                reason = "another archive has this name"
            if reason:
                source.skipped.append(Skipped(printable(member.name), reason))
            elif is_tar:
                inner[name[:-4]] = Nested(source.place, name[:-4], member.offset_data, member.size)
            else:
                group = folder.rpartition("/")[2]
                images = found.setdefault("" if group == "." else group, [])
                images.append((_base(name), member.offset_data, member.size))


def _add_entry(entry: os.DirEntry[str], images: Entries, skip: Callable[[str, str], None]) -> None:
    try:
        status = entry.stat()
    except OSError as error:  # such as a dangling link
        skip(entry.name, f"cannot be read: {error.strerror}")
        return
    reason = _no_image(entry.name) or _bad_name(entry.name)
    if not stat.S_ISREG(status.st_mode):
        reason = "not a file"
    elif status.st_size > _LARGEST:
        reason = f"size is {status.st_size:,} bytes; expected at most {_LARGEST:,}"
    if reason:
        skip(entry.name, reason)
    else:
        images.append((os.fsencode(entry.name), -1, status.st_size))


def _group(group: str, images: Entries, skipped: list[Skipped]) -> Group:
    images.sort(key=lambda image: image[0])
    single: Entries = []
    for image in images:
        if single and single[-1][0] == image[0]:
            name = os.path.join(group, os.fsdecode(image[0]))
            skipped.append(Skipped(printable(name), "another file has this name"))
        else:
            single.append(image)
    return Group(
        Names(name for name, _, _ in single),
        np.array([offset for _, offset, _ in single], np.int64),
        np.array([size for _, _, size in single], np.int64),
        sorted(skipped),
    )


def _base(name: str) -> bytes:
    return os.fsencode(name.rpartition("/")[2])


def _no_image(name: str) -> str:
    if name.rpartition("/")[2].startswith("."):
        return "hidden"
    if name.lower().endswith(ENDINGS):
        return ""
    return f"not named as an image ({', '.join(ENDINGS)})"


def _bad_name(name: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "name has control characters"
    size = len(os.fsencode(name.rpartition("/")[2]))
    if size > _LONGEST:
        return f"name is {size} bytes; expected at most {_LONGEST} bytes"
    return ""


def _refusal(member: tarfile.TarInfo) -> str:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "name leads out of its folder"
    if not member.isreg():
        kinds = {
            tarfile.SYMTYPE: "a symbolic link",
            tarfile.LNKTYPE: "a hard link",
            tarfile.CHRTYPE: "a device",
            tarfile.BLKTYPE: "a device",
            tarfile.FIFOTYPE: "a pipe",
        }
        return f"{kinds.get(member.type, 'of unknown type')}, not a file"
    if member.issparse():
        return "a sparse file"
    if member.size > _LARGEST and not member.name.endswith(".tar"):
        return f"size is {member.size:,} bytes; expected at most {_LARGEST:,}"
    return _bad_name(member.name)


class _Window(io.RawIOBase):
    """A byte range of an open file, as a file object."""

    def __init__(self, file: int, start: int, size: int) -> None:
        self._file, self._start, self.size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self.size)[whence] + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._at)
        wanted = left if size < 0 else min(size, left)
        content = os.pread(self._file, wanted, self._start + self._at)
        self._at += len(content)
        return content


def _members(window: _Window, name: str, *, nested: bool) -> Iterator[tarfile.TarInfo]:
    """Yields all members except folders; raises DataError unless the archive is complete."""
    start = window.read(6)
    window.seek(0)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start == b"\xfd7zXZ\0":
        raise DataError(f"{name}: compressed; expected an uncompressed archive, as published")
    try:
        with tarfile.open(fileobj=window, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or tarfile keeps all members
                if member.offset_data + member.size > window.size:
                    raise DataError(
                        f"{name}: truncated: ends at byte {window.size:,}, within "
                        f"{printable(member.name)}"
                    )
                if not member.isdir():
                    yield member
            at = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{name}: damaged, or not a tar archive: {error}") from error
    # tarfile takes any invalid header for the end; the real end is marked by zeros.
    window.seek(at)
    end = window.read(_BLOCK)
    if end.strip(b"\0"):
        raise DataError(f"{name}: damaged: no member header at byte {at:,}")
    if len(end) < _BLOCK and not (nested and at == window.size):
        raise DataError(
            f"{name}: truncated: no end-of-archive marker (file ends at byte {window.size:,})"
        )
