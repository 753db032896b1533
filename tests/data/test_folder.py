from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.data_files import random_bytes, write_folder, write_image
from pyalexnet.data import Loader, load_image, mean_image, open_dataset
from pyalexnet.errors import DataError, MachineError

pytestmark = pytest.mark.host_only("reads files")


def test_labels_are_ranks_of_sorted_class_names(tmp_path: Path) -> None:
    data = open_dataset(f"folder:{write_folder(tmp_path, classes=('zebra', 'Ant', 'bee'))}")
    assert data.classes == ["Ant", "bee", "zebra"] and data.mirror
    np.testing.assert_array_equal(data.train.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(data.val.labels, [0, 0, 1, 1, 2, 2])
    assert data.train.labels.dtype == np.int32
    assert data.train.shape == (256, 256, 3)


def test_each_index_reads_its_own_file(tmp_path: Path) -> None:
    write_folder(tmp_path)
    colours = {}
    for number, file in enumerate(sorted(tmp_path.glob("train/*/*"))):
        colours[number] = (40 * number, 255 - 40 * number, 100)
        Image.new("RGB", (9, 9), colours[number]).save(file)
    train = open_dataset(f"folder:{tmp_path}", size=8).train
    order = np.array([5, 0, 3, 2, 1, 4, 3])
    images = train.read(order)
    assert images.shape == (7, 8, 8, 3) and images.dtype == np.uint8
    assert train.name(4) == "bee/1.png"
    for image, number in zip(images, order.tolist(), strict=True):
        assert np.abs(image.astype(int) - colours[number]).max() <= 3  # JPEG rounds


def test_other_files_and_hidden_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert open_dataset(f"folder:{tmp_path}").notes == ()
    (tmp_path / "train" / "ant" / "notes.txt").write_text("x")
    data = open_dataset(f"folder:{tmp_path}")
    assert data.notes == ("1 left out: ant/notes.txt (not named as an image)",)
    (tmp_path / "train" / "ant" / "._0.jpg").write_text("x")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "README").write_text("x")
    (tmp_path / "test" / "ant").mkdir(parents=True)
    (tmp_path / "val" / "bee" / "new\nline.txt").write_text("x")
    data = open_dataset(f"folder:{tmp_path}")
    assert (len(data.train), len(data.val)) == (6, 4)
    assert data.notes == (
        "6 left out: test/ (neither train/ nor val/), .hidden (hidden), README (not named as an "
        "image) and 3 more",
    )


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    ant = tmp_path / "train" / "ant"
    os.mkfifo(ant / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(ant / "socket.jpg"))
    (ant / "broken.jpg").symlink_to(ant / "nowhere.jpg")
    (ant / "circle.jpg").symlink_to(ant / "circle.jpg")
    (ant / "to-pipe.jpg").symlink_to(ant / "pipe.jpg")
    (ant / "linked.jpg").symlink_to(ant / "0.jpg")
    data = open_dataset(f"folder:{tmp_path}", size=8)
    names = [data.train.name(index) for index in range(len(data.train))]
    assert names == [
        *("ant/0.jpg", "ant/1.png", "ant/2.JPEG", "ant/linked.jpg"),
        *("bee/0.jpg", "bee/1.png", "bee/2.JPEG"),
    ]
    assert data.notes[0].startswith(
        "5 left out: ant/broken.jpg (a link that leads nowhere), ant/circle.jpg (a link that leads "
        "nowhere), ant/pipe.jpg (no regular file) and 2 more"
    )
    images = data.train.read(np.array([0, 3]))
    np.testing.assert_array_equal(images[0], images[1])


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    write_folder(tmp_path)
    ant = tmp_path / "train" / "ant"
    write_image(ant / "2019" / "may" / "0.jpg", seed=7)
    write_image(ant / ".thumbnails" / "0.jpg")
    (ant / "2019" / "back").symlink_to(ant)
    write_image(tmp_path / "elsewhere" / "9.png")
    (ant / "more").symlink_to(tmp_path / "elsewhere")
    data = open_dataset(f"folder:{tmp_path}", size=8)
    names = [data.train.name(index) for index in range(len(data.train))]
    assert names[:5] == [
        *("ant/0.jpg", "ant/1.png", "ant/2.JPEG", "ant/2019/may/0.jpg", "ant/more/9.png")
    ]
    np.testing.assert_array_equal(data.train.labels, [0, 0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        data.train.read(np.array([3]))[0], load_image(ant / "2019" / "may" / "0.jpg", 8)
    )
    assert data.notes[0] == (
        "3 left out: elsewhere/ (neither train/ nor val/), ant/.thumbnails (hidden), "
        "ant/2019/back/ (a link back)"
    )


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 60), (31, 31), (5, 5)])
def test_short_side_is_scaled_and_the_centre_kept(tmp_path: Path, width: int, height: int) -> None:
    with Image.open(write_image(tmp_path / "a.png", width, height)) as image:
        scale = 10 / min(width, height)
        whole = (round(width * scale), round(height * scale))
        left, top = (whole[0] - 10) // 2, (whole[1] - 10) // 2
        box = (left, top, left + 10, top + 10)
        expected = np.asarray(image.resize(whole, Image.Resampling.BILINEAR).crop(box))
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", 10), expected)


def save(path: Path, mode: str) -> Path:
    colour = Image.new("RGB", (8, 8), (200, 100, 50))
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 150 * 256 + 7, np.uint16)).save(path)
    elif mode == "RGBA":
        colour.putalpha(0)
        colour.save(path)
    elif mode == "tRNS":
        colour.save(path, transparency=(200, 100, 50))
    elif mode == "P":
        colour.quantize(4).save(path)
    else:
        colour.convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [
        ("RGB", "a.png", (200, 100, 50)),
        ("RGB", "a.jpg", (200, 100, 50)),
        ("P", "a.png", (200, 100, 50)),
        ("L", "a.png", (124, 124, 124)),
        ("L", "a.jpg", (124, 124, 124)),
        ("1", "a.png", None),
        ("LA", "a.png", (124, 124, 124)),
        ("I;16", "a.png", (150, 150, 150)),
        ("CMYK", "a.jpg", (200, 100, 50)),
        ("RGBA", "a.png", (255, 255, 255)),  # wholly transparent
        ("tRNS", "a.png", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, name: str, expected: tuple[int, ...] | None
) -> None:
    image = load_image(save(tmp_path / name, mode), 8)
    assert image.shape == (8, 8, 3) and image.dtype == np.uint8
    if expected is None:
        assert set(np.unique(image)) == {0, 255}
    else:
        assert np.abs(image.astype(int) - expected).max() <= 2


def test_grey_on_demand(tmp_path: Path) -> None:
    image = load_image(save(tmp_path / "a.png", "RGB"), 8, channels=1)
    np.testing.assert_array_equal(image, np.full((8, 8, 1), 124))


def test_png_named_jpeg(tmp_path: Path) -> None:
    file = tmp_path / "disguise.JPEG"
    Image.new("RGB", (8, 8), "red").save(file, format="PNG")
    assert load_image(file, 8)[0, 0].tolist() == [255, 0, 0]


def test_broken_exif_gives_no_warning(tmp_path: Path) -> None:
    file = tmp_path / "exif.jpg"
    Image.new("RGB", (8, 8), "red").save(file, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    load = "import sys; from pyalexnet import data; print(data.load_image(sys.argv[1], 8).shape)"
    command = [sys.executable, "-c", load, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(8, 8, 3)\n", "")


def test_large_jpeg_is_nearly_the_same_by_the_short_way(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    coarse = Image.fromarray(random_bytes(48, 64, 3))
    coarse.resize((1280, 960), Image.Resampling.BICUBIC).save(file, quality=95)
    with Image.open(file) as image:
        square = image.crop((160, 0, 1120, 960))
        whole = np.asarray(square.resize((200, 200), Image.Resampling.BILINEAR))
    assert np.abs(load_image(file, 200).astype(int) - whole)[:, 2:-2].max() <= 4


def bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


def damage(path: Path, how: str) -> Path:
    whole = write_image(path, 200, 150).read_bytes()
    contents = {
        "empty": b"",
        "text": b"<html>404</html>",
        "truncated": whole[: len(whole) // 2],
        "bomb": bomb(),
    }
    path.unlink()
    if how != "missing":
        path.write_bytes(contents[how])
    return path


DAMAGES = ["empty", "text", "truncated", "bomb", "missing"]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_image_is_named(tmp_path: Path, name: str, how: str) -> None:
    file = damage(tmp_path / name, how)
    what = {"bomb": "pixels", "missing": "no such file"}.get(how, "readable")
    with pytest.raises(DataError, match=rf"{name}: .*{what}"):
        load_image(file, 16)


def test_damaged_image_stops_reading_or_is_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path)
    damage(tmp_path / "train" / "bee" / "0.jpg", "truncated")
    strict = open_dataset(f"folder:{tmp_path}", size=8).train
    with pytest.raises(DataError, match=r"bee/0\.jpg: "):
        strict.read(np.arange(6))
    assert strict.labels.min() == 0 and strict.skipped == 0

    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    images = split.read(np.arange(6))
    assert not images[3].any() and all(images[i].any() for i in (0, 1, 2, 4, 5))
    np.testing.assert_array_equal(split.labels, [0, 0, 0, -1, 1, 1])
    write_image(tmp_path / "train" / "bee" / "0.jpg")  # a skipped image stays skipped
    assert not split.read(np.array([3])).any()
    assert split.skipped == 1

    expected = strict.read(np.array([0, 1, 2, 4, 5])).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(mean_image(split), expected, rtol=1e-6)


def test_errors_of_the_system_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    waits: list[float] = []
    monkeypatch.setattr("pyalexnet.data.reading.time.sleep", waits.append)
    left = [2]

    def away(path: Path) -> bytes:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return path.read_bytes()

    monkeypatch.setattr("pyalexnet.data.sources.folder.image_content", away)
    assert split.read(np.arange(1)).any() and len(waits) == 2
    left[0] = 1000
    with pytest.raises(MachineError, match=r"ant/0\.jpg: cannot be read: Stale file handle") as it:
        split.read(np.arange(1))
    assert isinstance(it.value, DataError) and split.skipped == 0


def test_more_than_a_tenth_unreadable_is_an_error(tmp_path: Path) -> None:
    train = write_folder(tmp_path, each=10) / "train"
    for number in range(3):
        (train / "ant" / f"{3 * number}.jpg").write_bytes(b"damaged")
    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    with (
        Loader(split, 4, workers=0) as loader,
        pytest.raises(DataError, match=r"3 of 20 images .* such as ant/0\.jpg; expected at most 2"),
    ):
        list(loader.epoch())


def test_loader_gives_the_label_of_a_skipped_image(tmp_path: Path) -> None:
    damage(write_folder(tmp_path) / "train" / "ant" / "1.png", "text")
    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    with Loader(split, 3, workers=2) as loader:
        labels = [label for batch in loader.epoch() for label in batch.labels.tolist()]
    assert labels == [0, -1, 0, 1, 1, 1]
    assert split.skipped == 1


def test_no_readable_image_has_no_mean(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=("ant",), each=1)
    damage(tmp_path / "train" / "ant" / "0.jpg", "empty")
    split = open_dataset(f"folder:{tmp_path}", size=8, skip_bad=True).train
    with pytest.raises(DataError, match="readable images is 0 of 1; expected"):
        mean_image(split)


def test_memory_does_not_hold_the_images(tmp_path: Path) -> None:
    write_folder(tmp_path, classes=("ant",), each=1)
    for number in range(400):
        link = tmp_path / "train" / "ant" / f"copy{number}.jpg"
        link.symlink_to(tmp_path / "train" / "ant" / "0.jpg")
    train = open_dataset(f"folder:{tmp_path}", size=64).train
    rings: list[int] = []
    tracemalloc.start()
    try:
        with Loader(train, 10, workers=2, pin=lambda ring: rings.append(ring.nbytes)) as loader:
            for _ in loader.epoch():
                pass
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held + rings[0] < 401 * 64 * 64 * 3 / 4  # room for about five batches of ten


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no folder; expected one of images per class"):
        open_dataset(f"folder:{tmp_path}")
    write_image(tmp_path / "val" / "ant" / "0.jpg")
    with pytest.raises(DataError, match="has val/ and no train/; expected both, or neither"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train: contains no folder"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "train" / "ant").mkdir()
    with pytest.raises(DataError, match="train/ant: number of images is 0 of 0 files"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "bee").chmod(0)
    with pytest.raises(DataError, match="train/bee: cannot be read: Permission denied"):
        open_dataset(f"folder:{tmp_path}")


def test_class_folder_without_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "cow").mkdir()
    (tmp_path / "train" / "cow" / "a.heic").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"train/cow: number of images is 0 of 1 files; expected some, .*\*\.jpg"
    ):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(("split", "where"), [("train", "train/"), ("val", "val/")])
def test_classes_that_differ(tmp_path: Path, split: str, where: str) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / split / "cow" / "0.png")
    with pytest.raises(DataError, match=f"class 'cow' is only in {where}; expected"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("size", [0, 4097, 10**30])
def test_impossible_size(tmp_path: Path, size: int) -> None:
    with pytest.raises(DataError, match=f"image size is {size}; expected 1 to 4096"):
        open_dataset(f"folder:{write_folder(tmp_path)}", size=size)
