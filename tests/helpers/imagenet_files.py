"""Writes a small synthetic ILSVRC2012: nested archives, devkit with meta.mat, odd files."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Miniature:
    """Paths and content of the three archives.

    Attributes
    ----------
    train, val, devkit : Path
    wnids : list of str
        The classes, sorted; their labels are their ranks.
    ids : list of int
        ILSVRC2012_ID by label, not sorted.
    words : list of str
        Class names by label.
    val_labels : list of int
        Labels of the validation images, in order of file name.
    odd : dict of str to str
        Files that must be skipped: the name, and a part of the reason.
    unreadable_val : list of int
        Positions of unreadable validation images.
    """

    train: Path
    val: Path
    devkit: Path
    wnids: list[str]
    ids: list[int]
    words: list[str]
    val_labels: list[int]
    odd: dict[str, str]
    unreadable_val: list[int]


def write_imagenet(
    folder: Path,
    *,
    classes: int = 3,
    train: int = 4,
    val: int = 2,
    size: tuple[int, int] = (60, 80),
    seed: int = 0,
    oddities: bool = False,
) -> Miniature:
    """Writes archives in the format in which ILSVRC2012 is published.

    Parameters
    ----------
    folder : Path
    classes : int
    train, val : int
        Images per class.
    size : (int, int)
        Minimum and maximum side of an image.
    seed : int
    oddities : bool
        Include the odd files of the real set, and hostile ones (`_odd_images`,
        `_hostile_members`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    numbers = np.sort(rng.choice(np.arange(1_440_764, 9_999_999), classes, replace=False))
    wnids = [f"n{number:08}" for number in numbers.tolist()]
    ids = [int(number) for number in rng.permutation(classes) + 1]
    words = [f"texture {rank}, Textura numero {rank}" for rank in range(classes)]
    odd: dict[str, str] = {}
    unreadable: list[int] = []

    train_tar = folder / "ILSVRC2012_img_train.tar"
    with tarfile.open(train_tar, "w", format=tarfile.GNU_FORMAT) as outer:
        for label, wnid in enumerate(wnids):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as inner:
                # Members are not in order of name, nor names in order of their numbers.
                for number in rng.permutation(train).tolist():
                    image = jpeg(texture(label, number, seed, size))
                    add_file(inner, f"{wnid}_{number * 7 + 3}.JPEG", image)
                if oddities and label == 0:
                    odd |= _odd_images(inner, wnid)
            add_file(outer, f"{wnid}.tar", content.getvalue())
        if oddities:
            odd |= _hostile_members(outer)

    val_tar = folder / "ILSVRC2012_img_val.tar"
    val_labels = rng.permutation(np.repeat(np.arange(classes), val)).tolist()
    with tarfile.open(val_tar, "w", format=tarfile.GNU_FORMAT) as archive:
        for position in rng.permutation(len(val_labels)).tolist():
            name = f"ILSVRC2012_val_{position + 1:08}.JPEG"
            image = jpeg(texture(val_labels[position], train + position, seed, size))
            if oddities and position == 1:
                image = image[: len(image) // 2]
                odd[name] = "truncated"
                unreadable.append(position)
            add_file(archive, name, image)
    devkit = folder / "ILSVRC2012_devkit_t12.tar.gz"
    truth = [ids[label] for label in val_labels]
    _write_devkit(devkit, wnids, ids, words, train, truth)
    return Miniature(train_tar, val_tar, devkit, wnids, ids, words, val_labels, odd, unreadable)


def texture(label: int, number: int, seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draws an image of a class: waves with the class's direction, length and colours.

    Returns
    -------
    uint8 (H, W, 3)
    """
    of_class = np.random.default_rng([seed, label])
    rng = np.random.default_rng([seed, label, number])
    height, width = rng.integers(size[0], size[1] + 1, 2)
    angle, length = of_class.uniform(0, np.pi), of_class.uniform(6, 24)
    colours = of_class.integers(0, 256, (2, 3))
    row, column = np.ogrid[:height, :width]
    frequency = 2 * np.pi / length
    along = np.float32(frequency * np.sin(angle)) * row.astype(np.float32)
    along = along + np.float32(frequency * np.cos(angle)) * column.astype(np.float32)
    level = 112 + 112 * np.sin(along + np.float32(rng.uniform(0, 2 * np.pi)))
    noise = rng.integers(0, 32, (height, width), np.uint8)
    # A colour per level: a table is faster than arithmetic on every channel.
    ramp = np.linspace(0, 1, 256)[:, np.newaxis]
    table = colours[0] + ramp * (colours[1] - colours[0]) + rng.uniform(-20, 20, 3)
    return np.clip(table, 0, 255).astype(np.uint8)[level.astype(np.uint8) + noise]


def jpeg(pixels: NDArray[np.uint8], mode: str = "RGB", **how: object) -> bytes:
    return encoded(Image.fromarray(pixels).convert(mode), "JPEG", **how)


def encoded(image: Image.Image, form: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks an archive, and nested ones into folders of their names, as users do."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as opened:
        for member in opened:
            file = opened.extractfile(member)
            if file is None:
                continue
            name = Path(member.name)
            if name.suffix == ".tar":
                inner = folder / name.stem
                inner.mkdir()
                with tarfile.open(fileobj=file) as images:
                    for image in images:
                        content = images.extractfile(image)
                        assert content is not None
                        (inner / image.name).write_bytes(content.read())
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(file.read())
    return folder


def png_bomb() -> bytes:
    """Returns a PNG of 60,000×60,000 pixels in about a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


#: Images that are not plain JPEGs but must be read.
READABLE_ODD = ("cmyk", "grey", "disguise", "palette", "alpha", "deep", "turned", "exif")


def odd_image(kind: str) -> bytes:
    """Returns one of the images of `READABLE_ODD`, blue on the left and yellow on the right."""
    image = Image.new("RGB", (64, 48), "blue")
    image.paste("yellow", (32, 0, 64, 48))
    if kind == "cmyk":
        return encoded(image.convert("CMYK"), "JPEG")
    if kind == "grey":
        return encoded(image.convert("L"), "JPEG")
    if kind == "palette":
        return encoded(image.quantize(4), "PNG")
    if kind == "alpha":
        return encoded(image.convert("RGBA"), "PNG")
    if kind == "deep":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        return encoded(Image.fromarray(grey), "PNG")
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90 degrees
        return encoded(image, "JPEG", exif=exif)
    if kind == "exif":
        return encoded(image, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    return encoded(image, "PNG")  # "disguise": a PNG named JPEG, as in the real set


def _odd_images(archive: tarfile.TarFile, wnid: str) -> dict[str, str]:
    for kind in READABLE_ODD:
        add_file(archive, f"{wnid}_{kind}.JPEG", odd_image(kind))
    whole = jpeg(texture(0, 99, 0, (60, 80)))
    bad = {
        "empty": (b"", "empty"),
        "truncated": (whole[: len(whole) // 2], "truncated"),
        "text": (b"<html>404</html>", "not a readable"),
        "bomb": (png_bomb(), "pixels"),
    }
    for kind, (content, _) in bad.items():
        add_file(archive, f"{wnid}_{kind}.JPEG", content)
    add_file(archive, "readme.txt", b"x")
    link = tarfile.TarInfo(f"{wnid}_link.JPEG")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(link)
    return {
        **{f"{wnid}/{wnid}_{kind}.JPEG": reason for kind, (_, reason) in bad.items()},
        f"{wnid}/readme.txt": "not named as an image",
        f"{wnid}/{wnid}_link.JPEG": "symbolic link",
    }


def _hostile_members(archive: tarfile.TarFile) -> dict[str, str]:
    add_file(archive, "/tmp/n00000001.tar", b"x")
    add_file(archive, "../../n00000002.tar", b"x")
    add_file(archive, "a\x1b[31m\nb.JPEG", b"x")
    add_file(archive, f"{'x' * 300}.JPEG", b"x")
    for name, kind in (
        ("n00000003.tar", tarfile.LNKTYPE),
        ("null.JPEG", tarfile.CHRTYPE),
        ("pipe.JPEG", tarfile.FIFOTYPE),
    ):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "n00000004.tar"
        archive.addfile(member)
    return {
        "/tmp/n00000001.tar": "leads out",
        "../../n00000002.tar": "leads out",
        "a\\x1b[31m\\nb.JPEG": "control characters",
        f"{'x' * 300}.JPEG": "255 bytes",
        "n00000003.tar": "hard link",
        "null.JPEG": "device",
        "pipe.JPEG": "pipe",
    }


def _synsets(
    wnids: list[str], ids: list[int], words: list[str], train: int
) -> Iterator[tuple[object, ...]]:
    """Yields the rows of meta.mat: leaves by ILSVRC2012_ID, then their ancestor."""
    leaves = sorted(zip(ids, wnids, words, strict=True))
    for number, wnid, name in leaves:
        none = np.zeros((0, 0))
        yield float(number), wnid, name, f"a gloss of {name}", 0.0, none, 0.0, float(train)
    above = len(wnids) + 1
    children = np.array([ids], np.float64)
    root = "n00001740"
    yield float(above), root, "entity", "a gloss", float(len(ids)), children, 1.0, 0.0


def _write_devkit(
    path: Path, wnids: list[str], ids: list[int], words: list[str], train: int, truth: list[int]
) -> None:
    from scipy.io import savemat

    fields = (
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    )
    rows = list(_synsets(wnids, ids, words, train))
    synsets = np.empty((len(rows), 1), [(name, object) for name in fields])
    for record, row in zip(synsets[:, 0], rows, strict=True):
        for name, value in zip(fields, row, strict=True):
            record[name] = value
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets}, do_compression=True)
    lines = "".join(f"{number}\n" for number in truth)
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        root = "ILSVRC2012_devkit_t12"
        add_file(archive, f"{root}/readme.txt", b"x")
        add_file(archive, f"{root}/data/meta.mat", meta.getvalue())
        truth_name = "ILSVRC2012_validation_ground_truth.txt"
        add_file(archive, f"{root}/data/{truth_name}", lines.encode())
