from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.data_files import random_bytes, write_image
from helpers.imagenet_files import odd_image
from pyalexnet.data import load_image
from pyalexnet.data.images import decode_image, endings, resize_image
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


def test_content_is_decoded_as_a_file(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 90, 70)
    for channels in (1, 3):
        decoded = decode_image(path.read_bytes(), 32, name="a", channels=channels)
        np.testing.assert_array_equal(decoded, load_image(path, 32, channels=channels))


UPRIGHT = Image.fromarray(random_bytes(30, 40, 3))
#: EXIF orientation: how the stored image was turned out of the upright one.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: UPRIGHT.transpose(Image.Transpose.ROTATE_180),
    4: UPRIGHT.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: UPRIGHT.transpose(Image.Transpose.TRANSPOSE),
    6: UPRIGHT.transpose(Image.Transpose.ROTATE_90),
    7: UPRIGHT.transpose(Image.Transpose.TRANSVERSE),
    8: UPRIGHT.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_photo_equals_its_upright_copy(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    UPRIGHT.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = tmp_path / f"photo.{ending}"
    STORED[orientation].save(photo, exif=exif, lossless=True)
    expected = load_image(tmp_path / "upright.png", 12)
    np.testing.assert_array_equal(load_image(photo, 12), expected)
    with Image.open(photo) as image:
        np.testing.assert_array_equal(resize_image(image, 12), expected)


def test_a_turned_jpeg_is_upright(tmp_path: Path) -> None:
    upright = Image.fromarray(random_bytes(3, 4, 3)).resize((400, 300))
    upright.save(tmp_path / "upright.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    one, other = (load_image(tmp_path / f"{name}.jpg", 20) for name in ("upright", "turned"))
    assert np.abs(one.astype(int) - other).max() <= 6


def test_exif_does_not_turn_an_image_of_imagenet() -> None:
    turned = decode_image(odd_image("turned"), 32, name="a").astype(int)
    plain = decode_image(odd_image("disguise"), 32, name="a").astype(int)
    assert np.abs(turned - plain).mean() < 4


def test_errors_name_the_content() -> None:
    with pytest.raises(DataError, match="n1/x: empty; expected a JPEG or PNG"):
        decode_image(b"", 32, name="n1/x")
    with pytest.raises(DataError, match="n1/x: not a readable JPEG or PNG"):
        decode_image(b"text", 32, name="n1/x")


def test_bomb_that_pillow_would_only_warn_of() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 12_000, 10_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(12_001 * 10_000))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match="size is 12000×10000 pixels; expected at most"):
            decode_image(content + chunk(b"IEND", b""), 32, name="a")


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("webp", {"lossless": True}),
        ("bmp", {}),
        ("gif", {}),
        ("tiff", {}),
        ("ppm", {}),
        ("tga", {}),
    ],
)
def test_every_format_of_pillow_is_read(
    tmp_path: Path, ending: str, options: dict[str, object]
) -> None:
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ((200, 100, 50), "blue"))
    frames = {"save_all": True, "append_images": [second]} if ending in ("gif", "tiff") else {}
    first.save(tmp_path / f"a.{ending}", **options, **frames)
    np.testing.assert_array_equal(
        load_image(tmp_path / f"a.{ending}", 8), np.full((8, 8, 3), (200, 100, 50))
    )
    assert f".{ending}" in endings()


def test_what_runs_programs_or_is_only_named_is_no_image(tmp_path: Path) -> None:
    assert not {".eps", ".ps", ".wmf", ".h5", ".mpg", ".txt", ".pdf"} & set(endings())
    assert {".jpg", ".jpeg", ".jpe", ".png", ".mpo"} <= set(endings())
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format="EPS")
    with pytest.raises(DataError, match=r"a\.png: not a readable image$"):
        load_image(tmp_path / "a.png", 8)


def test_other_formats_are_no_images_of_imagenet(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")
    with pytest.raises(DataError, match=r"a: not a readable JPEG or PNG image$"):
        decode_image((tmp_path / "a.bmp").read_bytes(), 8, name="a")


def test_images_of_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="not a readable image: pixels are floats; expected"):
        load_image(tmp_path / "a.tiff", 8)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/a\.jpg: no such file$"):
        load_image(tmp_path / "a.jpg", 8)
    with pytest.raises(DataError, match=": a folder; expected an image file"):
        load_image(tmp_path, 8)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: not a regular file; expected an image file"):
        load_image(tmp_path / "pipe.jpg", 8)
