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
from pyalexnet.data.reading import BadImage
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


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(
    pixels: bytes, depth: int, colours: int, *more: bytes, size: int = 8, passes: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", size, size, depth, colours, 0, 0, passes)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(pixels))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize(
    ("depth", "value", "row"),
    [
        (16, 5000, struct.pack(">8H", *[5000, 5001] * 4)),
        (8, 90, bytes([90, 91] * 4)),
        (4, 5, bytes([0x56] * 4)),
        (2, 1, bytes([0b01100110] * 2)),
        (1, 0, bytes([0b01010101])),
    ],
)
def test_a_transparent_grey_becomes_white(depth: int, value: int, row: bytes) -> None:
    content = png((b"\0" + row) * 8, depth, 0, chunk(b"tRNS", struct.pack(">H", value)))
    image = decode_image(content, 8, name="a")
    other = {16: 5001 >> 8, 8: 91, 4: 6 * 17, 2: 2 * 85, 1: 255}[depth]
    assert (image[:, ::2] == 255).all() and (image[:, 1::2] == other).all()


def test_a_transparent_colour_of_16_bits_becomes_white() -> None:
    row = struct.pack(">24H", *[256, 512, 768, 9000, 9000, 9000] * 4)
    content = png((b"\0" + row) * 8, 16, 2, chunk(b"tRNS", struct.pack(">3H", 256, 512, 768)))
    image = decode_image(content, 8, name="a")
    assert (image[:, ::2] == 255).all() and (image[:, 1::2] == 9000 >> 8).all()


@pytest.mark.parametrize("passes", [0, 1])
def test_a_png_without_its_last_rows_is_truncated(passes: int) -> None:
    row = bytes(25) if passes else b"\0" + bytes([9]) * 24
    with pytest.raises(BadImage, match="truncated"):
        decode_image(png(row * 3, 8, 2, passes=passes), 8, name="a")
    black = png(bytes(25 * 8), 8, 2)
    assert not decode_image(black, 8, name="a").any()


def test_an_interlaced_png_that_is_whole_is_read(tmp_path: Path) -> None:
    # Passes of 1, 1, 1×2, 2×2, … pixels: rows and their filters' bytes.
    sizes = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]
    rows = b"".join((b"\0" + bytes([7] * 3 * across)) * down for down, across in sizes)
    assert (decode_image(png(rows, 8, 2, passes=1), 8, name="a") == 7).all()


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"sPLT"])
def test_metadata_cannot_make_a_png_unreadable(kind: bytes) -> None:
    rows = (b"\0" + bytes([9]) * 24) * 8
    bomb = b"name\0\0" + zlib.compress(bytes(1 << 22))
    for text in (bomb, b"", b"\xff" * 100_000):
        content = png(rows, 8, 2, chunk(kind, text))
        assert (decode_image(content, 8, name="a") == 9).all()
    wrong_sum = png(rows, 8, 2, chunk(kind, b"x")[:-1] + b"\0")
    assert (decode_image(wrong_sum, 8, name="a") == 9).all()


def test_metadata_cannot_make_a_jpeg_unreadable(tmp_path: Path) -> None:
    whole = write_image(tmp_path / "a.jpg").read_bytes()
    junk = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", 60_002) + begin.ljust(60_000, b"\xff")
        for marker in (0xE1, 0xE2, 0xED, 0xFE)
        for begin in (b"Exif\0\0II", b"MPF\0II*\0", b"Photoshop 3.0\08BIM", b"ICC_PROFILE\0")
    )
    image = decode_image(whole[:2] + junk * 20 + whole[2:], 8, name="a")
    np.testing.assert_array_equal(image, decode_image(whole, 8, name="a"))


def test_pixels_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(BadImage, match="pixels are 70000 to 70000; expected 0 to 65535"):
        load_image(tmp_path / "a.tiff", 8)
