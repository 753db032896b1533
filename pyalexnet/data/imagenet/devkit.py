"""ILSVRC2012's development kit: class names and classes of the validation images."""

from __future__ import annotations

import tarfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.errors import DataError

META = "data/meta.mat"
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"

_LARGEST = 64 << 20  # bytes of one of these files; the real ones have about 100 kB


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
    """Reads the kit's .tar.gz, or the folder it unpacks to. Needs SciPy.

    Raises
    ------
    DataError
        The kit is missing, damaged or something else, or SciPy is not installed.
    """
    files = _from_folder(path) if path.is_dir() else _from_tar(path)
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
    for root in (path, *sorted(path.glob("*devkit*"))):
        for name in (META, TRUTH):
            file = root / name
            if name not in found and file.is_file():
                found[name] = _checked(file.stat().st_size, file, file.read_bytes)
    return found


def _from_tar(path: Path) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                for name in (META, TRUTH):
                    if member.isfile() and f"/{member.name}".endswith(f"/{name}"):
                        file = archive.extractfile(member)
                        assert file is not None  # isfile() holds
                        found[name] = _checked(member.size, f"{path}: {member.name}", file.read)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as the devkit's .tar.gz: {error}") from error
    return found


def _checked(size: int, name: object, read: Any) -> bytes:
    if size > _LARGEST:
        raise DataError(f"{name}: size is {size:,} bytes; expected at most {_LARGEST:,}")
    content: bytes = read()
    return content


def _leaves(content: bytes, name: str) -> list[Synset]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(
            f"{name}: cannot be read without SciPy: pip install 'pyalexnet[imagenet]'"
        ) from None
    try:
        file: Any = BytesIO(content)  # allowed by SciPy, but not by its stubs
        table = loadmat(file, squeeze_me=True)["synsets"].reshape(-1)
        synsets = [
            Synset(
                str(row["WNID"]),
                str(row["words"]),
                int(row["ILSVRC2012_ID"]),
                int(row["num_train_images"]),
            )
            for row in table
            if int(row["num_children"]) == 0
        ]
    except Exception as error:  # SciPy raises many types for damaged files
        raise DataError(f"{name}: cannot be read: {type(error).__name__}: {error}") from error
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
        raise DataError(f"{name}: {error}; expected one ILSVRC2012_ID per line") from None
