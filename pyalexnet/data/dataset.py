"""The interface of data sets: a training and a validation split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.errors import DataError

LARGEST_SIZE = 4096  #: rows and columns of resized images; their sums then take 400 MB a process


class Split(ABC):
    """Labelled images of one size.

    Attributes
    ----------
    shape : tuple of int
        (H, W, C) of every image.
    labels : int32 (n,)
        Class indices; -1 for an image found unreadable, which the loss ignores.
    decodes : bool
        True if reading takes much CPU time: `Loader` then reads in processes, to which the split
        is pickled. False if it only copies memory: `Loader` then reads in threads.
    """

    shape: tuple[int, int, int]
    labels: NDArray[np.int32]
    decodes: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def skipped(self) -> int:
        """Number of images found unreadable so far."""
        return int(np.count_nonzero(self.labels < 0))

    def name(self, index: int) -> str:
        """Returns an image's name in messages and lists: its file name or its index."""
        return str(index)

    def leave_out(self, indices: Sequence[int]) -> None:
        """Marks images that were found unreadable; DataError if there are too many."""
        self.labels[np.asarray(indices, np.int64)] = -1

    @abstractmethod
    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Reads images by index; thread-safe.

        Parameters
        ----------
        indices : int64 (B,)
        out : uint8 (B, H, W, C), C-contiguous
            Receives the images. A skipped image is zero, and its label is -1 on return.

        Raises
        ------
        DataError
            An image cannot be read, and the split was not opened with `skip_bad`.
        """

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns images by index, uint8 (B, H, W, C); otherwise as `read_into`."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        self.read_into(indices, images)
        return images


class ArraySplit(Split):
    """Images held in memory.

    Parameters
    ----------
    images : uint8 (n, H, W, C)
    labels : integers (n,)
    """

    decodes = False

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
        rows, columns, channels = images.shape[1:]
        self.shape = (rows, columns, channels)
        self.labels = labels.astype(np.int32)
        self._images = images

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        # Indices are in range; in its other modes, take buffers the output.
        self._images.take(indices, axis=0, out=out, mode="clip")


class Colour(NamedTuple):
    """Principal components of a training set's RGB values (paper, section 4.1).

    Attributes
    ----------
    values : float64 (3,)
        Eigenvalues of the covariance of RGB values in 0..255, largest first.
    vectors : float64 (3, 3)
        Unit eigenvectors, one per column.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """A training and a validation split over the same classes.

    Attributes
    ----------
    name : str
        The source: the specification up to the colon.
    classes : list of str
        Class names by label.
    train, val : Split
    mirror : bool
        Whether mirroring preserves the class (false for digits).
    mean : float32 (H, W, C), optional
        The training split's mean image, if stored with the data.
    colour : Colour, optional
        Its colour statistics, if stored with the data; RGB only.
    ids : list of int, optional
        ILSVRC2012_ID (1-based) by label, for submission files.
    val_share : float, optional
        The share of images that was held out for validation, if the data has no images of its own
        for that.
    notes : tuple of str
        Lines for the user: how images were divided, what was left out.
    """

    name: str
    classes: list[str]
    train: Split
    val: Split
    mirror: bool
    mean: NDArray[np.float32] | None = None
    colour: Colour | None = None
    ids: list[int] | None = None
    val_share: float | None = None
    notes: tuple[str, ...] = ()


def check_labels(labels: NDArray[np.integer], classes: int, source: object) -> None:
    """Raises DataError naming `source` unless all labels are in 0 … classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{source}: label of image {wrong[0]} is {labels[wrong[0]]}; "
            f"expected 0 to {classes - 1}"
        )
