"""Reads image files into arrays."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pyalexnet.data import metadata
from pyalexnet.data.reading import BadImage, image_content
from pyalexnet.errors import DataError
from pyalexnet.files import reading

# Many JPEGs have broken EXIF data; Pillow warns about it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Jpeg|Png)ImagePlugin")

# Pillow's decoders of still images that run no other programs (as EPS and WMF do), unpack no more
# than the pixels (FITS), and need no further packages.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "DIB", "ICO"),
    *("ICNS", "PCX", "DCX", "DDS", "PSD", "QOI", "SGI", "SUN", "CUR", "FLI", "FTEX", "BLP", "GBR"),
    *("IM", "MSP", "PCD", "PIXAR", "XBM", "XPM", "XVTHUMB"),
)

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_Square = Callable[[Image.Image], NDArray[np.uint8]]


@functools.cache
def formats() -> tuple[str, ...]:
    """Returns the formats that `load_image` reads: those of the installed Pillow."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def endings() -> tuple[str, ...]:
    """Returns the endings of these formats' files, in lower case."""
    known = {*formats(), "MPO"}  # several JPEGs in one file, which the JPEG plugin opens
    extensions = Image.registered_extensions().items()
    return tuple(sorted(ending for ending, name in extensions if name in known))


def load_image(path: str | Path, size: int, *, channels: int = 3) -> NDArray[np.uint8]:
    """Reads an image, scales its short side to `size` and crops the centre (paper, section 2).

    The EXIF orientation is applied. Greyscale, CMYK and palette images are converted to RGB;
    transparent ones are composited on white. Of several frames or pages, the first is read.

    Parameters
    ----------
    path : str or Path
        A file of one of `formats`, recognised by its content.
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
        The file is missing or no regular file; BadImage: it is damaged, not an image, or has too
        many pixels.
    MachineError
        The system fails to read it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(_no_file(path))
    with reading(path):
        content = image_content(path)
    return decode_file(content, size, name=path, channels=channels)


def decode_file(content: bytes, size: int, *, name: object, channels: int = 3) -> NDArray[np.uint8]:
    """Decodes an image file's content as `load_image` does; `name` is for errors."""

    def square(image: Image.Image) -> NDArray[np.uint8]:
        return _square(_upright(image), size, channels)

    return _load(content, name, size, formats(), "image", square)


def decode_image(
    content: bytes, size: int, *, name: object, channels: int = 3
) -> NDArray[np.uint8]:
    """Decodes an image of ImageNet, as `load_image` does with two differences.

    Only JPEG and PNG are read. The EXIF orientation is ignored, as in the paper's pipeline and
    later ones.

    Parameters
    ----------
    content : bytes
        The file's.
    size, channels
        As in `load_image`.
    name : object
        Names the image in errors.
    """
    kind = "JPEG or PNG image"
    if not content:
        raise BadImage(f"{name}: empty; expected a {kind}")

    def square(image: Image.Image) -> NDArray[np.uint8]:
        return _square(image, size, channels)

    return _load(content, name, size, ("JPEG", "PNG"), kind, square)


def resize_image(image: Image.Image, size: int, *, channels: int = 3) -> NDArray[np.uint8]:
    """Returns an open image as `load_image` does."""
    return _square(_upright(image), size, channels)


def _no_file(path: Path) -> str:
    if path.is_dir():
        return f"{path}: a folder; expected an image file"
    if path.exists():
        return f"{path}: not a regular file; expected an image file"
    return f"{path}: no such file"


def _load(
    content: bytes,
    name: object,
    size: int,
    formats: tuple[str, ...],
    kind: str,
    square: _Square,
) -> NDArray[np.uint8]:
    try:
        content = metadata.stripped(content)
        with Image.open(BytesIO(content), formats=formats) as image:
            _check_pixels(image)
            # Decode a large JPEG at reduced resolution, still at least twice the result's.
            image.draft("RGB", (2 * size, 2 * size))
            if image.format == "PNG":
                _finish_png(image, content)
            return square(image)
    except UnidentifiedImageError:
        raise BadImage(f"{name}: not a readable {kind}") from None
    except MemoryError:  # says nothing about the image
        raise
    except Exception as error:  # Pillow raises many types for damaged and oversized files
        raise BadImage(f"{name}: not a readable {kind}: {error}") from error


def _finish_png(image: Image.Image, content: bytes) -> None:
    """Checks that a PNG has all its rows, and has Pillow know its transparent colour."""
    image.load()
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    # Pillow leaves rows that are missing black.
    doubtful = metadata.is_interlaced(content) or not np.asarray(last_row).any()
    if doubtful and not metadata.has_all_rows(content):
        raise ValueError("truncated: its data end before its last row")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and image.mode != "P":
        image.info["transparency"] = metadata.grey_transparency(content, transparent)
    elif isinstance(transparent, tuple) and metadata.depth(content) == 16:
        # Of 16 bits, Pillow keeps the high 8.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _check_pixels(image: Image.Image) -> None:
    # Pillow raises only above twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"size is {image.width}×{image.height} pixels; expected at most {limit:,}")


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # some formats hold EXIF data behind the pixels
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises many types for damaged EXIF data, which has no say then
        return image
    return image if turn is None else image.transpose(turn)


def _square(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    square = _centre(_plain(image), size).convert("L" if channels == 1 else "RGB")
    return np.asarray(square, np.uint8).reshape(size, size, channels)


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels are floats; expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels are {values.min()} to {values.max()}; expected 0 to 65535")
        high_bytes = (values >> 8).astype(np.uint8)
        high_bytes[values == image.info.get("transparency", -1)] = 255
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
