"""Images of any kind as arrays of a net's size: files, Pillow's images and NumPy's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyalexnet.data import load_image
from pyalexnet.data.images import resize_image
from pyalexnet.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8]
#: A file, an image of Pillow's, or uint8 (H, W, C) or (H, W).
OneImage: TypeAlias = "str | Path | Image.Image | NDArray[np.uint8]"
Images: TypeAlias = "OneImage | Sequence[OneImage]"

_EXPECTED = "expected a path, an image of Pillow's, or a uint8 array (H, W, C)"


def listed(images: Images) -> list[Any]:
    """One image or several as a list; an array (N, H, W, C) is N images."""
    if isinstance(images, np.ndarray) and images.ndim in (2, 3):
        return [images]
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def read(images: Sequence[Any], shape: tuple[int, int, int]) -> Pixels:
    """Images as a net reads them: its short side scaled, the centre cropped out, grey or colour.

    An array of the stored images' `shape` is taken as it is.

    Parameters
    ----------
    images : sequence of OneImage
    shape : (H, W, C)
        Of the stored images of a net's training set.

    Returns
    -------
    uint8 (N, H, W, C)

    Raises
    ------
    DataError
        An image cannot be read, or is none.
    """
    return np.stack([_read(image, number, shape) for number, image in enumerate(images)])


def _read(image: Any, number: int, shape: tuple[int, int, int]) -> Pixels:
    rows, columns, channels = shape
    if isinstance(image, np.ndarray):
        pixels = image[:, :, np.newaxis] if image.ndim == 2 else image
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
            raise DataError(f"image {number} is {image.dtype} {image.shape}; {_EXPECTED}")
        if pixels.shape == shape:
            return pixels
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if rows != columns or channels not in (1, 3):
        raise DataError(
            f"image {number} is to be resized to {rows}×{columns}×{channels}; expected a net of "
            "square images of 1 or 3 channels, or arrays of that shape"
        )
    if isinstance(image, Image.Image):
        return resize_image(image, rows, channels=channels)
    if not isinstance(image, str | Path):
        raise DataError(f"image {number} is a {type(image).__name__}; {_EXPECTED}")
    return load_image(image, rows, channels=channels)
