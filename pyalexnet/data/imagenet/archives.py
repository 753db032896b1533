"""Lists the images in tar archives as published, nested ones included, and in folders.

A folder may hold class folders, class archives or both, as while the archive of all is unpacked.

An uncompressed tar, nested or not, is a sequence of headers and files. One pass over the headers
yields the offset of every image, at which any process can read it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyalexnet.data.imagenet.listing import LARGEST, Group, Names, Skipped, Source, opened
from pyalexnet.data.imagenet.tar import Member, members
from pyalexnet.errors import DataError
from pyalexnet.files import reading
from pyalexnet.text import printable

ENDINGS = (".jpg", ".jpeg", ".png")

_LONGEST = 255  # bytes of a file name, the limit of most file systems
_WHOLE = "ILSVRC"  # how the published archives of all classes are called


class Nested(NamedTuple):
    """A class folder, or a class archive at byte `start` of the file `place`."""

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
        An archive of class archives, an archive of images, or a folder of images, class folders
        and class archives.
    mapped : callable
        As `map`; a process pool's version lists class archives or folders in parallel.

    Raises
    ------
    DataError
        The path does not exist, or the archive is damaged.
    """
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    if is_folder and (alone := _only_archive(path)):
        path, is_folder = alone, False
    source = Source(path)
    inner: dict[str, Nested] = {}
    found: dict[str, Entries] = {}
    if is_folder:
        _list_folder(source, inner, found)
    else:
        _list_tar(source, inner, found)
    for name, images in found.items():
        source.groups[name] = _group(name, images, [])
    for name, group in zip(inner, mapped(list_nested, list(inner.values())), strict=True):
        if name in source.groups:
            raise DataError(
                f"{path}: class {printable(name)} is an archive and a folder; expected one"
            )
        source.groups[name] = group
    return source


def list_nested(nested: Nested) -> Group:
    """Lists the images of one class archive or folder."""
    images: Entries = []
    skipped: list[Skipped] = []

    def skip(name: str, reason: str) -> None:
        skipped.append(Skipped(printable(f"{nested.group}/{name}"), reason))

    if nested.start < 0:
        _walk(nested.place, images, skip)
    else:
        with opened(nested.place) as file:
            name = str(nested.place)
            if nested.start:
                name += f": {nested.group}.tar"
            for member in members(
                _Window(file, nested.place, nested.start, nested.size).read,
                nested.size,
                name,
                nested=True,
            ):
                if reason := _refusal(member) or _no_image(member.name):
                    skip(member.name, reason)
                else:
                    offset = nested.start + member.offset
                    images.append((_base(member.name), offset, member.size))
    return _group(nested.group, images, skipped)


def _only_archive(folder: Path) -> Path | None:
    """Returns the archive of a folder that has nothing else, such as a download."""
    entries = [entry for entry in _scan(folder) if not entry.name.startswith(".")]
    if len(entries) == 1 and entries[0].name.endswith(".tar") and not _is_folder(entries[0]):
        return Path(entries[0].path)
    return None


def _list_folder(source: Source, inner: dict[str, Nested], found: dict[str, Entries]) -> None:
    images: Entries = []

    def skip(name: str, reason: str) -> None:
        source.skipped.append(Skipped(printable(name), reason))

    # Archives last: one is whole when the folder of its name may be half unpacked.
    for entry in sorted(_scan(source.place), key=lambda entry: entry.name.endswith(".tar")):
        folder = _is_folder(entry)
        if not (folder or entry.name.endswith(".tar")):
            _add_entry(entry, entry.name, images, skip)
        elif reason := _bad_name(entry.name):
            skip(entry.name, reason)
        elif entry.name.startswith("."):
            if not folder:
                skip(entry.name, "hidden")
        elif folder:
            inner[entry.name] = Nested(Path(entry.path), entry.name)
        elif entry.name.startswith(_WHOLE):
            skip(entry.name, "an archive of the whole beside its parts")
        else:
            name = entry.name.removesuffix(".tar")
            if name in inner:
                skip(f"{name}/", f"{entry.name} is read instead")
            with reading(Path(entry.path)):
                inner[name] = Nested(Path(entry.path), name, 0, entry.stat().st_size)
    if images:
        found[""] = images


def _walk(folder: Path, images: Entries, skip: Callable[[str, str], None]) -> None:
    """Lists the images in a class's folder and the folders in it."""
    pending, seen = [""], set()
    while pending:
        prefix = pending.pop()
        with reading(folder / prefix):
            status = (folder / prefix).stat()
        if (status.st_dev, status.st_ino) in seen:  # links may lead back
            skip(prefix, "a link to a folder that is read already")
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in _scan(folder / prefix):
            name = prefix + entry.name
            if not _is_folder(entry):
                _add_entry(entry, name, images, skip)
            elif reason := "hidden" * entry.name.startswith(".") or _bad_name(entry.name):
                skip(name, reason)
            else:
                pending.append(f"{name}/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as links in a circle
        return False


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as found:
        return list(found)


def _list_tar(source: Source, inner: dict[str, Nested], found: dict[str, Entries]) -> None:
    with opened(source.place) as file:
        size = os.fstat(file).st_size
        read = _Window(file, source.place, 0, size).read
        for member in members(read, size, str(source.place)):
            folder, _, name = f"/{member.name}".rpartition("/")
            is_tar = name.endswith(".tar")
            reason = _refusal(member) or _no_image(name.removesuffix(".tar") + ".jpg" * is_tar)
            if is_tar and not reason and name[:-4] in inner:
                reason = "another archive has this name"
            if reason:
                source.skipped.append(Skipped(printable(member.name), reason))
            elif is_tar:
                inner[name[:-4]] = Nested(source.place, name[:-4], member.offset, member.size)
            else:
                group = folder.rpartition("/")[2]
                images = found.setdefault("" if group == "." else group, [])
                images.append((_base(name), member.offset, member.size))


def _add_entry(
    entry: os.DirEntry[str], name: str, images: Entries, skip: Callable[[str, str], None]
) -> None:
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):  # links that lead nowhere
            with reading(Path(entry.path)):
                raise
        skip(name, f"cannot be read: {error.strerror}")
        return
    reason = _no_image(entry.name) or _bad_name(entry.name)
    if not stat.S_ISREG(status.st_mode):
        reason = "not a file"
    elif status.st_size > LARGEST:
        reason = f"size is {status.st_size:,} bytes; expected at most {LARGEST:,}"
    if reason:
        skip(name, reason)
    else:
        images.append((os.fsencode(name), -1, status.st_size))


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


def _refusal(member: Member) -> str:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "name leads out of its folder"
    if member.refusal:
        return member.refusal
    if member.size > LARGEST and not member.name.endswith(".tar"):
        return f"size is {member.size:,} bytes; expected at most {LARGEST:,}"
    return _bad_name(member.name)


class _Window(NamedTuple):
    """A byte range of an open file."""

    file: int
    place: Path
    start: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Returns at most `count` bytes from an offset in the range."""
        with reading(self.place):
            wanted = max(0, min(count, self.size - offset))
            return os.pread(self.file, wanted, self.start + offset)
