"""Changed images and files of data sets: only errors of the package's own come out."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.data_files import cifar_batch, idx, pickled, random_bytes, write_image
from helpers.mutate import COUNT, mutations, survives
from pyalexnet.data import open_dataset
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.labels import assemble
from pyalexnet.data.imagenet.preparation import Preparation
from pyalexnet.data.imagenet.writing import Task, write_shard
from pyalexnet.data.images import decode_file, decode_image, formats
from pyalexnet.data.sources.cifar10 import read_binary, read_pickle
from pyalexnet.data.sources.idx import read_idx
from pyalexnet.data.sources.shards import Encoding

pytestmark = [pytest.mark.host_only("reads files"), pytest.mark.slow]
pytestmark += [pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")]
pytestmark += [pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]

SIZE = 24
COLOURS = Image.fromarray(random_bytes(SIZE // 4, SIZE // 4, 3)).resize((SIZE, SIZE))


def report(what: str, counts: tuple[int, int]) -> None:
    taken, refused = counts
    print(f"{what}: {taken + refused} changed files, {taken} taken, {refused} refused")
    assert taken + refused == COUNT


def saved(form: str) -> list[bytes]:
    """Images in a format that Pillow writes."""
    contents = []
    modes = {"MSP": ["1"], "XBM": ["1"], "BLP": ["P"]}.get(form, ["RGB", "L", "P", "RGBA", "I;16"])
    for mode in modes:
        image = COLOURS.quantize(16) if form == "BLP" else None
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        try:
            image = image or (
                Image.fromarray(random_bytes(SIZE, SIZE).astype(np.uint16) * 200)
                if mode == "I;16"
                else COLOURS.convert(mode)
            )
            image.save(file, format=form, **({"exif": exif} if form in ("JPEG", "PNG") else {}))
        except (OSError, ValueError, KeyError):  # it has no such mode
            continue
        contents.append(file.getvalue())
    return contents


def written() -> list[str]:
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [form for form in formats() if form in Image.SAVE and saved(form)]


def test_no_common_format_is_forgotten() -> None:
    assert {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO"} <= set(written())


@pytest.mark.parametrize("form", written())
def test_images(form: str) -> None:
    def parse(content: bytes) -> None:
        image = decode_file(content, 16, name="a")
        assert image.shape == (16, 16, 3) and image.dtype == np.uint8

    for number, content in enumerate(saved(form)):
        parse(content)
        report(f"{form} {number}", survives(parse, mutations(content, 10 + number)))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_images_of_imagenet(form: str) -> None:
    def parse(content: bytes) -> None:
        assert decode_image(content, 16, name="a").shape == (16, 16, 3)

    report(form, survives(parse, mutations(saved(form)[0], 20)))


def at(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def parse(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return parse


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_idx(tmp_path: Path, zipped: bool, dimensions: int) -> None:
    content = idx(random_bytes(*[6] * dimensions))
    content = gzip.compress(content, mtime=0) if zipped else content
    parse = at(tmp_path / "a", lambda path: read_idx(path, dimensions))
    report(f"IDX {dimensions}", survives(parse, mutations(content, 30 + dimensions)))


def test_cifar_binary(tmp_path: Path) -> None:
    pixels, labels = cifar_batch(0, 2)
    content = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()
    report("CIFAR", survives(at(tmp_path / "a", read_binary), mutations(content, 40)))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_cifar_pickled(tmp_path: Path, protocol: int) -> None:
    pixels, labels = cifar_batch(0, 2)
    batch = {b"batch_label": b"some", b"labels": labels, b"data": pixels, b"filenames": [b"x"] * 2}
    content = pickled(batch) if protocol == 0 else pickle.dumps(batch, protocol)
    # Nearly all of it is pixels: damage what is around them.
    middle = content.index(pixels.tobytes()[:64]) if pixels.tobytes()[:64] in content else 0
    parse = at(tmp_path / "a", read_pickle)
    report(f"pickle {protocol}", survives(parse, mutations(content, 50 + protocol)))
    if middle:
        ends = content[:middle], content[middle + pixels.nbytes :]
        both = ends[0] + b"--------" + ends[1]
        files = (changed.replace(b"--------", pixels.tobytes()) for changed in mutations(both, 60))
        report(f"pickle {protocol} around", survives(parse, files))


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split in ("train", "val"):
        for name in ("n1", "n2"):
            write_image(tmp_path / split / name / f"{name}_1.jpg")
    images = assemble(list_source(tmp_path / "train"), list_source(tmp_path / "val"), None)
    run = Preparation(tmp_path / "out", images, Encoding("jpeg", 8, 90), 10)
    run.folder.mkdir()
    run.resume()
    for part in run.parts():
        run.record(write_shard(Task(run.folder, *part, run.part(*part), run.encoding, False)))
    run.finish()
    return run.folder


@pytest.mark.parametrize(
    "name",
    ["dataset.json", "mean.npy", "train-00000.index.npy", "train-00000.npy", "val-00000.index.npy"],
)
def test_prepared(prepared: Path, name: str) -> None:
    path, description = prepared / name, prepared / "dataset.json"
    key = "index_bytes" if ".index" in name else "bytes"
    split, whole = name.partition("-")[0], json.loads(description.read_bytes())

    def parse(content: bytes) -> None:
        path.write_bytes(content)
        if split in ("train", "val"):  # only the size of a shard's files is looked at
            whole[split]["shards"][0][key] = len(content)
            description.write_text(json.dumps(whole))
        data = open_dataset(f"imagenet:{prepared}")
        for part in (data.train, data.val):
            part.read(np.arange(min(len(part), 4)))
            [part.name(index) for index in range(len(part))]

    report(name, survives(parse, mutations(path.read_bytes(), 70)))
