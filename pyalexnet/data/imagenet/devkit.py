"""ILSVRC2012's development kit: class names and classes of the validation images."""

from __future__ import annotations

import gzip
import stat
import zlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.imagenet.matlab import MatlabError, read_structs
from pyalexnet.data.imagenet.tar import is_html, members
from pyalexnet.errors import DataError
from pyalexnet.files import read_bytes, reading
from pyalexnet.text import printable

META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"

# In bytes, many times those of the real ones.
_ARCHIVE = 64 << 20  # also unpacked
_LARGEST = {META: 16 << 20, TRUTH: 4 << 20}
_ID = 1 << 31  # above all numbers


class Synset(NamedTuple):
    """A class.

    Attributes
    ----------
    wnid : str
        WordNet ID, such as "n01440764".
    words : str
        Class names, such as "tench, Tinca tinca".
    id : int
        ILSVRC2012_ID, 1 to 1000.
    train_images : int
        Nominal number of training images.
    """

    wnid: str
    words: str
    id: int
    train_images: int


class Devkit(NamedTuple):
    """The content of the kit.

    Attributes
    ----------
    synsets : list of Synset
        The leaves, which are the classes, sorted by WNID.
    truth : int64 (n,)
        ILSVRC2012_ID of each validation image, in order of file name.
    """

    synsets: list[Synset]
    truth: NDArray[np.int64]


def read_devkit(path: Path) -> Devkit:
    """Reads the kit's .tar.gz, or the folder it unpacks to.

    Raises
    ------
    DataError
        The kit is missing, damaged or something else.
    """
    with reading(path):
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    files = _from_folder(path) if is_folder else _from_tar(path)
    missing = [name for name in (META, TRUTH) if name not in files]
    if missing:
        raise DataError(f"{path}: no {' and no '.join(missing)}; expected the devkit's files")
    synsets = _leaves(files[META], f"{path}: {META}")
    truth = _truth(files[TRUTH], f"{path}: {TRUTH}")
    strange = np.setdiff1d(truth, [synset.id for synset in synsets])
    if strange.size:
        raise DataError(
            f"{path}: {TRUTH}: an ILSVRC2012_ID is {strange[0]}; expected a leaf of {META}"
        )
    return Devkit(synsets, truth)


def _from_folder(path: Path) -> dict[str, bytes]:
    found = {}
    with reading(path):
        for root in (path, *sorted(path.glob("*devkit*"))):
            for name, limit in _LARGEST.items():
                if name not in found and (root / name).exists():
                    found[name] = read_bytes(root / name, limit)
    return found


def _from_tar(path: Path) -> dict[str, bytes]:
    content = _unpacked(read_bytes(path, _ARCHIVE), path)
    found = {}
    for member in members(lambda at, count: content[at : at + count], len(content), str(path)):
        for name, limit in _LARGEST.items():
            if not member.refusal and f"/{member.name}".endswith(f"/{name}"):
                if member.size > limit:
                    raise DataError(
                        f"{path}: {printable(member.name)}: has more than {limit:,} bytes; "
                        "expected at most so many"
                    )
                found[name] = content[member.offset : member.offset + member.size]
    return found


def _unpacked(content: bytes, path: Path) -> bytes:
    if content[:2] != b"\x1f\x8b":  # unpacked already, as some browsers do
        if content and not is_html(content):
            return content
        what = "an HTML page, such as a server's answer" if content else "empty"
        raise DataError(f"{path}: {what}; expected the devkit's .tar.gz")
    try:
        with gzip.open(BytesIO(content)) as file:
            unpacked = file.read(_ARCHIVE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as the devkit's .tar.gz: {error}") from error
    if len(unpacked) > _ARCHIVE:
        raise DataError(
            f"{path}: unpacks to more than {_ARCHIVE:,} bytes; expected the devkit's .tar.gz"
        )
    return unpacked


def _leaves(content: bytes, name: str) -> list[Synset]:
    fields = ("WNID", "words", "ILSVRC2012_ID", "num_train_images", "num_children")
    try:
        table = read_structs(content, "synsets", fields, _LARGEST[META])
    except MatlabError as error:
        raise DataError(f"{name}: cannot be read: {error}") from None
    synsets = []
    for row in table:
        wnid, words, id, images, children = (row[field] for field in fields)
        if not (
            isinstance(wnid, str)
            and isinstance(words, str)
            and all(isinstance(n, int) and 0 <= n < _ID for n in (id, images, children))
        ):
            raise DataError(
                f"{name}: damaged: a synset is not of text and numbers; expected "
                f"{', '.join(fields)}"
            )
        assert isinstance(id, int) and isinstance(images, int)  # above, for mypy
        if children == 0:
            synsets.append(Synset(wnid, words, id, images))
    for what in ("wnid", "id"):
        if len({getattr(synset, what) for synset in synsets}) < len(synsets):
            raise DataError(f"{name}: two leaves have the same {what}; expected distinct ones")
    if not synsets:
        raise DataError(f"{name}: number of synsets without children is 0; expected 1000")
    return sorted(synsets)


def _truth(content: bytes, name: str) -> NDArray[np.int64]:
    try:
        return np.array([int(word) for word in content.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: {printable(str(error))}; expected one ILSVRC2012_ID per line"
        ) from None
