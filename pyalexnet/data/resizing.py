"""Resizes the images of data sets that hold them in memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data.dataset import Split
from pyalexnet.data.images import resize_image


class ResizedSplit(Split):
    """A split's images in another size, resized when read, as `load_image` does with files.

    Parameters
    ----------
    split : Split
        Of images with 1 or 3 channels.
    size : int
        Rows and columns of the result.
    """

    def __init__(self, split: Split, size: int) -> None:
        self.shape = (size, size, split.shape[2])
        self.labels = split.labels
        self.decodes = split.decodes
        self._split = split

    def name(self, index: int) -> str:
        return self._split.name(index)

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        size, _, channels = self.shape
        for pixels, resized in zip(self._split.read(indices), out, strict=True):
            image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
            resized[...] = resize_image(image, size, channels=channels)
