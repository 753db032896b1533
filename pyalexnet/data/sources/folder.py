"""Images in folders: one folder per class, in train/ and val/ or all together."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.dataset import Dataset, Split
from pyalexnet.data.images import decode_file
from pyalexnet.data.reading import BadImage, image_content, insist
from pyalexnet.data.sources.image_files import (
    LeftOut,
    entries,
    find_images,
    held_out,
    holds_image,
    is_folder,
    is_image,
    why_none,
)
from pyalexnet.errors import DataError
from pyalexnet.text import printable

SIZE = 256  # the paper's
_MOST_LEFT_OUT = 10  # unreadable images: at most 1 of so many
SHARE = 0.1  # of images for validation, where there is no val/
FILES = "one folder of images per class, either in train/ and again in val/, or all in DIR itself"


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
    names : sequence of sequences of bytes
        Each class's images, as paths relative to its folder.
    size : int
        Rows and columns that images are resized to.
    skip_bad : bool
        Return zeros and label -1 for an image that cannot be decoded instead of raising BadImage.
        More than a tenth of them are an error.
    """

    def __init__(
        self,
        folder: Path,
        classes: list[str],
        names: Sequence[Sequence[bytes]],
        size: int,
        *,
        skip_bad: bool,
    ) -> None:
        self.shape = (size, size, 3)
        self._folder = folder
        self._classes = classes
        self._skip_bad = skip_bad
        counts = [len(of_class) for of_class in names]
        flat = [name for of_class in names for name in of_class]
        self._names = np.frombuffer(b"".join(flat), np.uint8)
        self._ends = np.cumsum([0, *map(len, flat)])
        self._class_ends = np.cumsum(counts)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)

    def path(self, index: int) -> Path:
        """Returns the path of an image."""
        return self._folder / self.name(index)

    def name(self, index: int) -> str:
        label = int(np.searchsorted(self._class_ends, index, side="right"))
        name = self._names[self._ends[index] : self._ends[index + 1]]
        return f"{self._classes[label]}/{os.fsdecode(name.tobytes())}"

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        for image, index in zip(out, indices.tolist(), strict=True):
            if self.labels[index] >= 0:
                path = self.path(index)
                content = insist(path, functools.partial(image_content, path))
                try:
                    image[...] = decode_file(content, self.shape[0], name=path)
                    continue
                except BadImage:
                    if not self._skip_bad:
                        raise
                    self.labels[index] = -1
            image[...] = 0

    def leave_out(self, indices: Sequence[int]) -> None:
        super().leave_out(indices)
        limit = max(1, len(self) // _MOST_LEFT_OUT)
        if self.skipped > limit:
            raise DataError(
                f"{self._folder}: {self.skipped:,} of {len(self):,} images cannot be decoded, such "
                f"as {printable(self.name(int(np.argmin(self.labels))))}; expected at most "
                f"{limit:,}, a tenth"
            )


def open_folder(
    folder: Path, *, size: int | None = None, skip_bad: bool = False, val_share: float | None = None
) -> Dataset:
    """Opens a folder of class folders; labels are the ranks of their sorted names.

    With train/ and val/, these are the two splits. Otherwise a share of each class is held out
    for validation, chosen by name. Folders within a class's folder belong to it.

    Parameters
    ----------
    folder : Path
    size : int, optional
        Rows and columns that images are resized to; the paper's 256 by default.
    skip_bad : bool
        Skip and count unreadable images instead of raising DataError.
    val_share : float, optional
        The share held out where there is no val/; `SHARE` by default.

    Raises
    ------
    DataError
        A folder is missing, empty or unreadable, or the classes of train/ and val/ differ.
    """
    left_out = LeftOut()
    train, val = _places(folder, left_out)
    classes = _class_names(train, left_out)
    found = _images(train, classes, left_out)
    size = SIZE if size is None else size
    notes = []
    if val is not None:
        _check_same_classes(folder, classes, _class_names(val, left_out))
        held, share = _images(val, classes, left_out), None
    else:
        share = SHARE if val_share is None else val_share
        found, held = _divided(classes, found, share)
        if not any(held):
            raise DataError(
                f"{folder}: has no val/, and each class has one image; expected at least two of a "
                "class, to hold one out for validation"
            )
        val = train
        notes.append(
            f"no val/: a share of {share:g} of each class, chosen by file name, is held out "
            "(val-share)"
        )
    if left_out.count:
        notes.append(left_out.in_words())
    return Dataset(
        "folder",
        classes,
        FolderSplit(train, classes, found, size, skip_bad=skip_bad),
        FolderSplit(val, classes, held, size, skip_bad=skip_bad),
        mirror=True,
        val_share=share,
        notes=tuple(notes),
    )


def is_folder_of_images(folder: Path) -> bool:
    """Whether `open_folder` would find an image in a class's folder; errors as it."""
    return any(
        is_folder(entry) and holds_image(Path(entry.path))
        for entry in entries(_places(folder, LeftOut())[0])
    )


def _places(folder: Path, left_out: LeftOut) -> tuple[Path, Path | None]:
    """The folders of training and of validation images; None for the latter if it has none."""
    train, val = folder / "train", folder / "val"
    if train.is_dir() and (val.is_dir() or _holds_classes(train)):
        for entry in entries(folder):
            if entry.name not in ("train", "val"):
                left_out.add(entry.name + "/" * is_folder(entry), "neither train/ nor val/")
        return train, val if val.is_dir() else None
    if val.is_dir() and _holds_classes(val):
        raise DataError(f"{folder}: has val/ and no train/; expected both, or neither")
    return folder, None


def _holds_classes(folder: Path) -> bool:
    """Whether it has folders and no images: a class may be called "train", too."""
    found = entries(folder)
    return any(map(is_folder, found)) and not any(map(is_image, found))


def _class_names(folder: Path, left_out: LeftOut) -> list[str]:
    names = []
    for entry in entries(folder):
        if is_folder(entry):
            names.append(entry.name)
        else:
            left_out.add(entry.name, why_none(entry) or "beside the class folders")
    if not names:
        raise DataError(f"{folder}: contains no folder; expected one of images per class")
    return sorted(names)


def _images(folder: Path, classes: list[str], left_out: LeftOut) -> list[list[bytes]]:
    images = []
    for name in classes:
        before = left_out.count
        images.append(find_images(folder / name, left_out))
        if not images[-1]:
            raise DataError(
                f"{folder / name}: number of images is 0 of {left_out.count - before} files; "
                "expected some, such as *.jpg, *.png or *.webp"
            )
    return images


def _divided(
    classes: list[str], images: list[list[bytes]], share: float
) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """Each class's images for training, and those for validation."""
    kept, held = [], []
    for class_name, names in zip(classes, images, strict=True):
        chosen = held_out(class_name, names, share).tolist()
        kept.append([name for name, out in zip(names, chosen, strict=True) if not out])
        held.append([name for name, out in zip(names, chosen, strict=True) if out])
    return kept, held


def _check_same_classes(folder: Path, classes: list[str], held_out: list[str]) -> None:
    if classes == held_out:
        return
    odd = sorted(set(classes) ^ set(held_out))
    where = "train" if odd[0] in classes else "val"
    more = f" (and {len(odd) - 1} more)" * (len(odd) > 1)
    raise DataError(
        f"{folder}: class {odd[0]!r} is only in {where}/{more}; expected the same class "
        f"folders in train/ and val/"
    )
