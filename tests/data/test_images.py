from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import write_image
from helpers.imagenet_files import odd_image
from pyalexnet.data import load_image
from pyalexnet.data.images import decode_image
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


def test_content_is_decoded_as_a_file(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 90, 70)
    for channels in (1, 3):
        decoded = decode_image(path.read_bytes(), 32, name="a", channels=channels)
        np.testing.assert_array_equal(decoded, load_image(path, 32, channels=channels))


def test_exif_does_not_turn_an_image() -> None:
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
