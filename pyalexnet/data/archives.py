"""What is in tars as they are published, tars within a tar too, and in folders.

An uncompressed tar is its members' bytes with headers between, and so is a tar within: one pass
over the headers tells where every image begins, and any process can read any of them there.
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

from pyalexnet.data.folder import ENDINGS
from pyalexnet.data.listing import Group, LeftOut, Names, Source, opened, printable
from pyalexnet.errors import DataError

_BLOCK = 512  # a tar's unit
_LONGEST = 255  # bytes of a name; no file system has longer ones
_LARGEST = 256 << 20  # bytes of an image file; ImageNet's largest has some 15 MB


class Within(NamedTuple):
    """A folder or class tar yet to be looked into: a tar's bytes from `start`, or (-1) a folder."""

    place: Path
    group: str
    start: int = -1
    size: int = 0


Found = list[tuple[bytes, int, int]]  # name, offset, size


def list_source(
    path: Path, mapped: Callable[[Callable[[Within], Group], list[Within]], Iterable[Group]] = map
) -> Source:
    """Find the images in a tar or folder; nothing is unpacked.

    Parameters
    ----------
    path : Path
        A tar of class tars, a tar of images, or a folder of either images or class folders.
    mapped : callable
        As `map`; that of a process pool looks into many class tars or folders at once.

    Raises
    ------
    DataError
        There is no such thing, or it is damaged.
    """
    source = Source(path)
    inner: dict[str, Within] = {}
    found: dict[str, Found] = {}
    if path.is_dir():
        _list_folder(source, inner, found)
    elif path.is_file():
        _list_tar(source, inner, found)
    else:
        raise DataError(f"{path}: no such tar or folder")
    for name, images in found.items():
        source.groups[name] = _group(name, images, [])
    for name, group in zip(inner, mapped(look_into, list(inner.values())), strict=True):
        if name in source.groups:
            raise DataError(f"{path}: class {name} is there twice, as a tar and as a folder")
        source.groups[name] = group
    return source


def look_into(within: Within) -> Group:
    """Find the images of one class tar or folder."""
    images: Found = []
    left_out: list[LeftOut] = []

    def leave_out(name: str, reason: str) -> None:
        left_out.append(LeftOut(printable(f"{within.group}/{name}"), reason))

    if within.start < 0:
        for entry in _entries(within.place):
            _add_entry(entry, images, leave_out)
    else:
        with opened(within.place) as file:
            window = _Window(file, within.start, within.size)
            name = f"{within.place}: {within.group}.tar"
            for member in _members(window, name, nested=True):
                reason = _refusal(member) or _no_image(member.name)
                if reason:
                    leave_out(member.name, reason)
                else:
                    offset = within.start + member.offset_data
                    images.append((_base(member.name), offset, member.size))
    return _group(within.group, images, left_out)


def _list_folder(source: Source, inner: dict[str, Within], found: dict[str, Found]) -> None:
    images: Found = []
    for entry in _entries(source.place):
        if entry.is_dir():
            if reason := _bad_name(entry.name):
                source.left_out.append(LeftOut(printable(entry.name), reason))
            elif not entry.name.startswith("."):
                inner[entry.name] = Within(Path(entry.path), entry.name)
        else:
            _add_entry(
                entry,
                images,
                lambda *what: source.left_out.append(LeftOut(printable(what[0]), what[1])),
            )
    if images:
        found[""] = images


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def _list_tar(source: Source, inner: dict[str, Within], found: dict[str, Found]) -> None:
    with opened(source.place) as file:
        window = _Window(file, 0, os.fstat(file).st_size)
        for member in _members(window, str(source.place), nested=False):
            folder, _, name = f"/{member.name}".rpartition("/")
            is_tar = name.endswith(".tar")
            reason = _refusal(member) or _no_image(name.removesuffix(".tar") + ".jpg" * is_tar)
            if is_tar and not reason and name[:-4] in inner:
                reason = "another tar has this name"
            if reason:
                source.left_out.append(LeftOut(printable(member.name), reason))
            elif is_tar:
                inner[name[:-4]] = Within(source.place, name[:-4], member.offset_data, member.size)
            else:
                group = folder.rpartition("/")[2]
                images = found.setdefault("" if group == "." else group, [])
                images.append((_base(name), member.offset_data, member.size))


def _add_entry(
    entry: os.DirEntry[str], images: Found, leave_out: Callable[[str, str], None]
) -> None:
    try:
        status = entry.stat()
    except OSError as error:  # such as a link to nowhere
        leave_out(entry.name, f"cannot be read: {error.strerror}")
        return
    reason = _no_image(entry.name) or _bad_name(entry.name)
    if not stat.S_ISREG(status.st_mode):
        reason = "not a file"
    elif status.st_size > _LARGEST:
        reason = f"{status.st_size:,} bytes; expected at most {_LARGEST:,}"
    if reason:
        leave_out(entry.name, reason)
    else:
        images.append((os.fsencode(entry.name), -1, status.st_size))


def _group(group: str, images: Found, left_out: list[LeftOut]) -> Group:
    images.sort(key=lambda image: image[0])
    single: Found = []
    for image in images:
        if single and single[-1][0] == image[0]:
            name = os.path.join(group, os.fsdecode(image[0]))
            left_out.append(LeftOut(printable(name), "another file has this name"))
        else:
            single.append(image)
    return Group(
        Names(name for name, _, _ in single),
        np.array([offset for _, offset, _ in single], np.int64),
        np.array([size for _, _, size in single], np.int64),
        sorted(left_out),
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
        return "has control characters in its name"
    if len(os.fsencode(name.rpartition("/")[2])) > _LONGEST:
        return f"has a name of more than {_LONGEST} bytes"
    return ""


def _refusal(member: tarfile.TarInfo) -> str:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "has a name that leads out of its folder"
    if not member.isreg():
        kinds = {
            tarfile.SYMTYPE: "a symbolic link",
            tarfile.LNKTYPE: "a hard link",
            tarfile.CHRTYPE: "a device",
            tarfile.BLKTYPE: "a device",
            tarfile.FIFOTYPE: "a pipe",
        }
        return f"{kinds.get(member.type, 'of unknown kind')}, not a file"
    if member.issparse():
        return "stored with holes (sparse)"
    if member.size > _LARGEST and not member.name.endswith(".tar"):
        return f"{member.size:,} bytes; expected at most {_LARGEST:,}"
    return _bad_name(member.name)


class _Window(io.RawIOBase):
    """Some bytes of an open file, as a file."""

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
    """Yields all members but folders; raises DataError unless the tar is whole to its end."""
    start = window.read(6)
    window.seek(0)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh" or start == b"\xfd7zXZ\0":
        raise DataError(f"{name}: compressed; expected the tar as published, or unpack it before")
    try:
        with tarfile.open(fileobj=window, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                if member.offset_data + member.size > window.size:
                    raise DataError(
                        f"{name}: truncated: {window.size:,} bytes, within {printable(member.name)}"
                    )
                if not member.isdir():
                    yield member
            at = archive.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{name}: damaged, or no tar: {error}") from error
    # tarfile takes whatever is no header for the end, which is marked by zeros.
    window.seek(at)
    end = window.read(_BLOCK)
    if end.strip(b"\0"):
        raise DataError(f"{name}: damaged: no member's header at byte {at:,}")
    if len(end) < _BLOCK and not (nested and at == window.size):
        raise DataError(f"{name}: truncated: ends at byte {window.size:,} without an end's mark")
