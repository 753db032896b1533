"""Mean image and colour covariance, from exact integer sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.dataset import Colour, Dataset, Split
from pyalexnet.data.loading.loader import Loader
from pyalexnet.errors import DataError


class PixelSums:
    """Integer sums over images: exact, so independent of order and grouping.

    64 bits suffice for 2 billion images of 256×256.

    Parameters
    ----------
    shape : (H, W, C)
        Shape of every image.
    colour : bool
        Whether to sum what `colour` needs; adding is several times faster without.

    Attributes
    ----------
    count : int
        Number of images added.
    total : int64 (H, W, C)
        Sum of the images.
    products : int64 (C, C)
        Sum over all pixels of the products of two channels.
    """

    def __init__(self, shape: tuple[int, int, int], *, colour: bool = True) -> None:
        self.count = 0
        self.total = np.zeros(shape, np.int64)
        self.products = np.zeros((shape[2], shape[2]), np.int64)
        self._colour = colour

    def add(self, images: NDArray[np.uint8]) -> None:
        """Adds images, uint8 (B, H, W, C)."""
        self.count += len(images)
        for image in images:
            self.total += image
            if not self._colour:
                continue
            # Products of bytes fit 16 bits. Faster than a float64 matrix product, which would also
            # start BLAS threads in every process.
            channels = image.reshape(-1, image.shape[-1]).T.astype(np.uint16, order="C")
            for i, one in enumerate(channels):
                for j, other in enumerate(channels[: i + 1]):
                    product = int((one * other).sum(dtype=np.uint64))
                    self.products[i, j] += product
                    self.products[j, i] = self.products[i, j]

    def merge(self, other: PixelSums) -> None:
        """Adds the sums of another object."""
        self.count += other.count
        self.total += other.total
        self.products += other.products

    def arrays(self) -> dict[str, Any]:
        """Returns the attributes as arrays, for saving."""
        return {"count": np.array(self.count), "total": self.total, "products": self.products}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[np.int64]]) -> PixelSums:
        """Returns sums restored from the result of `arrays`."""
        sums = cls(arrays["total"].shape)
        sums.count = int(arrays["count"])
        sums.total[...] = arrays["total"]
        sums.products[...] = arrays["products"]
        return sums

    def mean(self) -> NDArray[np.float32]:
        """Returns the mean image (paper, section 2), float32 (H, W, C).

        Raises
        ------
        DataError
            No image was added.
        """
        self._check()
        return (self.total / self.count).astype(np.float32)

    def colour(self) -> Colour:
        """Returns the principal components of the RGB values (paper, section 4.1).

        Raises
        ------
        DataError
            No image was added.
        """
        self._check()
        rows, columns, channels = self.total.shape
        pixels = self.count * rows * columns
        # Python integers: no cancellation in the difference of two large numbers.
        sums = [int(value) for value in self.total.sum(axis=(0, 1))]
        covariance = [
            [
                (pixels * int(self.products[i, j]) - sums[i] * sums[j]) / pixels**2
                for j in range(channels)
            ]
            for i in range(channels)
        ]
        values, vectors = np.linalg.eigh(np.array(covariance))
        values, vectors = values[::-1], vectors[:, ::-1]
        # The sign of an eigenvector is arbitrary: make the largest component positive.
        largest = np.abs(vectors).argmax(axis=0)
        signs = np.sign(vectors[largest, np.arange(channels)])
        return Colour(np.maximum(values, 0), vectors * signs)

    def _check(self) -> None:
        if not self.count:
            raise DataError("number of readable images is 0; expected at least 1")


def measured(
    dataset: Dataset, *, colour: bool = False, workers: int | None = None
) -> tuple[NDArray[np.float32], Colour | None]:
    """Returns the mean image and colour statistics of a training set.

    Parameters
    ----------
    dataset : Dataset
        Its stored statistics are used; missing ones are computed in one pass.
    colour : bool
        Whether to return colour statistics.
    workers : int, optional
        As for `Loader`.

    Returns
    -------
    mean : float32 (H, W, C)
    colour : Colour or None
        None unless requested.

    Raises
    ------
    DataError
        A pass is needed, and no image can be read.
    """
    mean, colours = dataset.mean, dataset.colour if colour else None
    if mean is None or (colour and colours is None):
        sums = _summed(dataset.train, colour=colour and colours is None, workers=workers)
        mean = sums.mean() if mean is None else mean
        colours = sums.colour() if colour and colours is None else colours
    return mean, colours


def mean_image(split: Split, *, workers: int | None = None) -> NDArray[np.float32]:
    """Returns the mean image of a split, which the paper subtracts (section 2).

    Parameters
    ----------
    split : Split
        Read once, a few hundred images at a time; skipped images do not count.
    workers : int, optional
        As for `Loader`.

    Returns
    -------
    float32 (H, W, C)
        Computed from an exact sum.

    Raises
    ------
    DataError
        No image can be read.
    """
    return _summed(split, colour=False, workers=workers).mean()


def _summed(split: Split, *, colour: bool, workers: int | None) -> PixelSums:
    sums = PixelSums(split.shape, colour=colour)
    with Loader(split, 256, workers=workers) as loader:
        for batch in loader.epoch():
            sums.add(batch.images[batch.labels >= 0])
    if not sums.count:
        raise DataError(f"number of readable images is 0 of {len(split)}; expected at least 1")
    return sums
