"""Reads JPEG and PNG files into arrays."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pyalexnet.errors import DataError

# Many JPEGs of ImageNet have broken EXIF data, which is not used here; Pillow warns about it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Jpeg|Png)ImagePlugin")


def load_image(path: str | Path, size: int, *, channels: int = 3) -> NDArray[np.uint8]:
    """Reads an image, scales its short side to `size` and crops the centre (paper, section 2).

    Greyscale, CMYK and palette images are converted to RGB; transparent ones are composited on
    white. The EXIF orientation is ignored, as in the paper's pipeline and later ones.

    Parameters
    ----------
    path : str or Path
        A JPEG or PNG file, recognised by its content.
    size : int
        Rows and columns of the result.
    channels : int
        3 for RGB, 1 for grey.

    Returns
    -------
    uint8 (size, size, channels)

    Raises
    ------
    DataError
        The file is missing, damaged, not a JPEG or PNG, or has too many pixels.
    """
    return _load(path, path, size, channels)


def decode_image(
    content: bytes, size: int, *, name: object, channels: int = 3
) -> NDArray[np.uint8]:
    """Decodes a file's content as `load_image` does; `name` names it in errors."""
    if not content:
        raise DataError(f"{name}: empty; expected a JPEG or PNG image")
    return _load(BytesIO(content), name, size, channels)


def _load(file: str | Path | BytesIO, name: object, size: int, channels: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            _check_pixels(image)
            # Decode a large JPEG at reduced resolution, still at least twice the result's.
            image.draft("RGB", (2 * size, 2 * size))
            square = _centre(_plain(image), size)
        pixels = np.asarray(square.convert("L" if channels == 1 else "RGB"), np.uint8)
        return pixels.reshape(size, size, channels)
    except UnidentifiedImageError:
        raise DataError(f"{name}: not a readable JPEG or PNG image") from None
    except MemoryError:  # says nothing about the image
        raise
    except Exception as error:  # Pillow raises many types for damaged and oversized files
        raise DataError(f"{name}: not a readable JPEG or PNG image: {error}") from error


def _check_pixels(image: Image.Image) -> None:
    # Pillow raises only above twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"size is {image.width}×{image.height} pixels; expected at most {limit:,}")


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        high_bytes = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return Image.fromarray(high_bytes).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _centre(image: Image.Image, size: int) -> Image.Image:
    # Cropping before scaling gives the same result and bounds the cost of a long strip.
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def resize_image(image: Image.Image, size: int, *, channels: int = 3) -> NDArray[np.uint8]:
    """An open image as `load_image` gives it."""
    square = _centre(_plain(image), size).convert("L" if channels == 1 else "RGB")
    return np.asarray(square, np.uint8).reshape(size, size, channels)
