"""The mean image and the colours' covariance, from exact sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.split import Colour
from pyalexnet.errors import DataError


class PixelSums:
    """Sums over images, in integers: exact, so their order and grouping change no bit.

    64 bits hold those of 2 billion images of 256×256.

    Parameters
    ----------
    shape : (H, W, C)
        Of every image.

    Attributes
    ----------
    count : int
        Images added.
    total : int64 (H, W, C)
        Their sum.
    products : int64 (C, C)
        Sum over all pixels of the products of their channels.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.count = 0
        self.total = np.zeros(shape, np.int64)
        self.products = np.zeros((shape[2], shape[2]), np.int64)

    def add(self, images: NDArray[np.uint8]) -> None:
        """Add images, uint8 (B, H, W, C)."""
        self.count += len(images)
        for image in images:
            self.total += image
            # Products of bytes fit 16 bits. Faster than float64's matrix product, and without the
            # threads that one would start in every process.
            channels = image.reshape(-1, image.shape[-1]).T.astype(np.uint16, order="C")
            for i, one in enumerate(channels):
                for j, other in enumerate(channels[: i + 1]):
                    product = int((one * other).sum(dtype=np.uint64))
                    self.products[i, j] += product
                    self.products[j, i] = self.products[i, j]

    def merge(self, other: PixelSums) -> None:
        """Add what another has summed."""
        self.count += other.count
        self.total += other.total
        self.products += other.products

    def arrays(self) -> dict[str, Any]:
        """Give the attributes as arrays, to be saved."""
        return {"count": np.array(self.count), "total": self.total, "products": self.products}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[np.int64]]) -> PixelSums:
        """Make sums of what `arrays` gave."""
        sums = cls(arrays["total"].shape)
        sums.count = int(arrays["count"])
        sums.total[...] = arrays["total"]
        sums.products[...] = arrays["products"]
        return sums

    def mean(self) -> NDArray[np.float32]:
        """Give the mean image (paper, section 2), float32 (H, W, C).

        Raises
        ------
        DataError
            No image was added.
        """
        self._check()
        return (self.total / self.count).astype(np.float32)

    def colour(self) -> Colour:
        """Give the principal components of the pixels' RGB values (paper, section 4.1).

        Raises
        ------
        DataError
            No image was added.
        """
        self._check()
        rows, columns, channels = self.total.shape
        pixels = self.count * rows * columns
        # Python's integers: the difference of two large numbers loses nothing.
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
        # An eigenvector's sign is free: the largest component is made positive.
        largest = np.abs(vectors).argmax(axis=0)
        signs = np.sign(vectors[largest, np.arange(channels)])
        return Colour(np.maximum(values, 0), vectors * signs)

    def _check(self) -> None:
        if not self.count:
            raise DataError("mean image and colours: there is no readable image to take them of")
