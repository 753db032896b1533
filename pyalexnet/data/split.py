"""What every source of images gives: a training and a validation split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.errors import DataError


class Split(ABC):
    """Images of one size with a label each.

    Attributes
    ----------
    shape : tuple of int
        (H, W, C) of every image.
    labels : int32 (n,)
        Class numbers; -1 for an image found unreadable, which the loss leaves out.
    decodes : bool
        Whether reading is work, so that `Loader` has it done by processes, to which the split is
        pickled. Where it is but a copy, False has it done by threads.
    """

    shape: tuple[int, int, int]
    labels: NDArray[np.int32]
    decodes: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def skipped(self) -> int:
        """How many images have been found unreadable so far."""
        return int(np.count_nonzero(self.labels < 0))

    def name(self, index: int) -> str:
        """Give what an image is called in messages and lists: its file, or its number."""
        return str(index)

    @abstractmethod
    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Read the images of some indices; may be called by several threads at once.

        Parameters
        ----------
        indices : int64 (B,)
        out : uint8 (B, H, W, C), C-contiguous
            Becomes zeros for an image that is skipped; its label is -1 by the time this returns.

        Raises
        ------
        DataError
            An image cannot be read and the split was not opened with `skip_bad`.
        """

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give the images of some indices, uint8 (B, H, W, C); otherwise as `read_into`."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        self.read_into(indices, images)
        return images


class ArraySplit(Split):
    """Images that lie in memory.

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
        # Indices are known to be in range; in its other modes, take makes a copy first.
        self._images.take(indices, axis=0, out=out, mode="clip")


class Colour(NamedTuple):
    """How the colours of a training set's pixels vary (paper, section 4.1).

    Attributes
    ----------
    values : float64 (3,)
        Eigenvalues of the covariance of RGB values, 0..255, the largest first.
    vectors : float64 (3, 3)
        Unit eigenvectors, one a column.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]


@dataclass(frozen=True)
class Dataset:
    """A training and a validation split over the same classes.

    Attributes
    ----------
    name : str
        The source, as in the part of the specification before the colon.
    classes : list of str
        Names by label.
    train, val : Split
    mirror : bool
        Whether a mirrored image still shows its class (false for digits).
    mean : float32 (H, W, C), optional
        The training split's mean image, where it is known beforehand.
    colour : Colour, optional
        Likewise; of three channels only.
    ids : list of int, optional
        The classes' ILSVRC2012_ID (1-based), by label, for lists in the challenge's form.
    """

    name: str
    classes: list[str]
    train: Split
    val: Split
    mirror: bool
    mean: NDArray[np.float32] | None = None
    colour: Colour | None = None
    ids: list[int] | None = None


def check_labels(labels: NDArray[np.integer], classes: int, source: object) -> None:
    """Raise DataError naming `source` unless all labels lie in 0 … classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{source}: label {labels[wrong[0]]} of image {wrong[0]} is out of range; "
            f"expected 0 to {classes - 1}"
        )
