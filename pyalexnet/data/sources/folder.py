"""Images in folders: train/ and val/, each with one folder per class, as usual for ImageNet."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.dataset import Dataset, Split
from pyalexnet.data.images import load_image
from pyalexnet.errors import DataError

SIZE = 256  # the paper's
ENDINGS = (".jpg", ".jpeg", ".png")
FILES = "train/ and val/, each with one folder of JPEG or PNG images per class"


class FolderSplit(Split):
    """Image files, decoded when read.

    Only the file names are kept in memory, as one byte array: 40 MB for the 1.3 million of
    ImageNet, shared by a loader's processes.

    Parameters
    ----------
    folder : Path
        Contains one folder per class.
    classes : list of str
        Their names, by label.
    size : int
        Rows and columns that images are resized to.
    skip_bad : bool
        Return zeros and label -1 for an unreadable image instead of raising DataError.

    Raises
    ------
    DataError
        A class folder contains no image.
    """

    def __init__(self, folder: Path, classes: list[str], size: int, *, skip_bad: bool) -> None:
        self.shape = (size, size, 3)
        self._folders = [folder / name for name in classes]
        self._skip_bad = skip_bad
        names = bytearray()
        ends, counts = [0], []
        for class_folder in self._folders:
            found = _image_names(class_folder)
            counts.append(len(found))
            for name in found:
                names += name
                ends.append(len(names))
        self._names = np.frombuffer(names, np.uint8)
        self._ends = np.array(ends, np.int64)
        self._class_ends = np.cumsum(counts)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)

    def path(self, index: int) -> Path:
        """Returns the path of an image."""
        label = int(np.searchsorted(self._class_ends, index, side="right"))
        name = self._names[self._ends[index] : self._ends[index + 1]]
        return self._folders[label] / os.fsdecode(name.tobytes())

    def name(self, index: int) -> str:
        path = self.path(index)
        return f"{path.parent.name}/{path.name}"

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        for image, index in zip(out, indices.tolist(), strict=True):
            if self.labels[index] >= 0:
                try:
                    image[...] = load_image(self.path(index), self.shape[0])
                    continue
                except DataError:
                    if not self._skip_bad:
                        raise
                    self.labels[index] = -1
            image[...] = 0


def _image_names(folder: Path) -> list[bytes]:
    names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    images = [os.fsencode(name) for name in names if name.lower().endswith(ENDINGS)]
    if not images:
        raise DataError(
            f"{folder}: number of images is 0 of {len(names)} files; "
            f"expected *{', *'.join(ENDINGS)}"
        )
    return sorted(images)


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {FILES}")
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: contains no folder; expected one of images per class")
    return names


def open_folder(folder: Path, *, size: int | None = None, skip_bad: bool = False) -> Dataset:
    """Opens train/ and val/ in `folder`; labels are the ranks of the sorted class folder names.

    Parameters
    ----------
    folder : Path
    size : int, optional
        Rows and columns that images are resized to; the paper's 256 by default.
    skip_bad : bool
        Skip and count unreadable images instead of raising DataError.

    Raises
    ------
    DataError
        A folder is missing or empty, or the classes of train/ and val/ differ.
    """
    size = SIZE if size is None else size
    classes = _class_names(folder / "train")
    held_out = _class_names(folder / "val")
    if classes != held_out:
        odd = sorted(set(classes) ^ set(held_out))
        where = "train" if odd[0] in classes else "val"
        more = f" (and {len(odd) - 1} more)" * (len(odd) > 1)
        raise DataError(
            f"{folder}: class {odd[0]!r} is only in {where}/{more}; expected the same class "
            f"folders in train/ and val/"
        )
    train = FolderSplit(folder / "train", classes, size, skip_bad=skip_bad)
    val = FolderSplit(folder / "val", classes, size, skip_bad=skip_bad)
    return Dataset("folder", classes, train, val, mirror=True)
