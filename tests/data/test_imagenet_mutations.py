"""Changed files of ImageNet, and of preparations: only errors of the package's own come out."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from helpers.imagenet_files import Miniature, write_imagenet
from helpers.mutate import COUNT, mutations, survives
from pyalexnet.data.imagenet import prepare as preparing
from pyalexnet.data.imagenet import writing
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.devkit import META, TRUTH, read_devkit
from pyalexnet.data.imagenet.labels import ImageNet, assemble
from pyalexnet.data.imagenet.preparation import Preparation
from pyalexnet.data.imagenet.writing import Task, write_shard
from pyalexnet.data.sources.shards import DESCRIPTION, UNFINISHED, Encoding

pytestmark = [pytest.mark.host_only("reads files"), pytest.mark.slow]

ENCODING = Encoding("jpeg", 8, 90)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    folder = tmp_path_factory.mktemp("mini")
    return write_imagenet(folder, classes=2, train=2, val=1, size=(8, 9), oddities=True)


def report(what: str, counts: tuple[int, int]) -> None:
    taken, refused = counts
    print(f"{what}: {taken + refused} changed files, {taken} taken, {refused} refused")
    assert taken + refused == COUNT and refused


@pytest.mark.parametrize("split", ["train", "val"])
def test_archives(mini: Miniature, tmp_path: Path, split: str) -> None:
    def parse(content: bytes) -> None:
        path = tmp_path / "a.tar"
        path.write_bytes(content)
        images = list_source(path)
        for name, group in images.groups.items():
            assert (group.offsets >= 0).all() and (group.sizes >= 0).all(), name
            assert (group.offsets + group.sizes <= len(content)).all(), name

    archive: Path = getattr(mini, split)
    report(f"{split}.tar", survives(parse, mutations(archive.read_bytes(), 1)))


@pytest.fixture(scope="module")
def kit(mini: Miniature) -> bytes:
    return gzip.decompress(mini.devkit.read_bytes())


def test_devkit_as_gzip_and_tar(mini: Miniature, kit: bytes, tmp_path: Path) -> None:
    def parse(content: bytes) -> None:
        (tmp_path / "kit").write_bytes(content)
        read_devkit(tmp_path / "kit")

    report("devkit.tar.gz", survives(parse, mutations(mini.devkit.read_bytes(), 2)))
    report("devkit.tar", survives(parse, mutations(kit, 3)))


@pytest.mark.parametrize("compressed", [False, True])
def test_meta_mat(tmp_path: Path, compressed: bool) -> None:
    fields = [("WNID", "n1"), ("words", "one"), ("ILSVRC2012_ID", 1.0)]
    fields += [("num_train_images", 9.0), ("num_children", 0.0), ("children", np.zeros((0, 0)))]
    rows = np.empty((3, 1), [(name, object) for name, _ in fields])
    for number, row in enumerate(rows[:, 0]):
        for name, value in fields:
            row[name] = value
        row["WNID"], row["ILSVRC2012_ID"] = f"n{number}", float(number)
    file = io.BytesIO()
    savemat(file, {"synsets": rows}, do_compression=compressed)
    (tmp_path / "data").mkdir()
    (tmp_path / TRUTH).write_bytes(b"1\n2\n")

    def parse(content: bytes) -> None:
        (tmp_path / META).write_bytes(content)
        read_devkit(tmp_path)

    (tmp_path / META).write_bytes(file.getvalue())
    assert len(read_devkit(tmp_path).synsets) == 3
    what = "meta.mat" + ", compressed" * compressed
    report(what, survives(parse, mutations(file.getvalue(), 4)))


def test_ground_truth(kit: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with tarfile.open(fileobj=io.BytesIO(kit)) as archive:
        meta = archive.extractfile(f"ILSVRC2012_devkit_t12/{META}")
        assert meta is not None
        (tmp_path / META).write_bytes(meta.read())

    def parse(content: bytes) -> None:
        (tmp_path / TRUTH).write_bytes(content)
        read_devkit(tmp_path)

    report("ground truth", survives(parse, mutations(b"1\n2\n" * 20, 5)))


@pytest.fixture(scope="module")
def images(mini: Miniature) -> ImageNet:
    return assemble(list_source(mini.train), list_source(mini.val), read_devkit(mini.devkit))


def prepared(folder: Path, images: ImageNet) -> Preparation:
    """Returns a preparation of which all but the description is written."""
    folder.mkdir()
    run = Preparation(folder, images, ENCODING, 4)
    run.resume()
    for part in run.parts():
        run.record(write_shard(Task(folder, *part, run.part(*part), ENCODING, False)))
    return run


def test_state_of_an_unfinished_folder(images: ImageNet, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepared(folder, images)
    path = folder / UNFINISHED
    whole = path.read_bytes()

    def resume(content: bytes) -> None:
        path.write_bytes(content)
        run = Preparation(folder, images, ENCODING, 4)
        run.resume()
        run.finish()
        (folder / DESCRIPTION).unlink()

    report(UNFINISHED, survives(resume, mutations(whole, 6)))

    # With checksums made right, so that the values are looked at.
    with np.load(io.BytesIO(whole)) as saved:
        arrays = dict(saved)

    def resume_state(content: bytes) -> None:
        file = io.BytesIO()
        np.savez(file, **{**arrays, "state": np.frombuffer(content, np.uint8)})
        resume(file.getvalue())

    state = arrays["state"].tobytes()
    report(f"{UNFINISHED}: state", survives(resume_state, mutations(state, 7)))
    values = json.loads(state)
    report(f"{UNFINISHED}: values", survives(resume_state, changed_values(values, 8)))


def changed_values(whole: object, seed: int) -> Iterator[bytes]:
    """Yields JSON texts in which one value is another."""
    draw = random.Random(seed)
    others = [None, True, -1, 0, 1.5, 2**70, "", "x", [], {}, [[]], "\ud800", "a\nb", 1e300]
    text = json.dumps(whole)
    for _ in range(COUNT):
        value = json.loads(text)
        parent, key = draw.choice(list(_places(value)))
        if draw.random() < 0.2 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = draw.choice(others)
        yield json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


class Inline:
    """A pool without processes."""

    def __init__(self, workers: int | None, progress: bool) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, function: Any, calls: Any, title: str, total: int) -> Iterator[Any]:
        return (function(*call) for call in calls)


def test_finished_folder(images: ImageNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    prepared(folder, images).finish()
    path = folder / DESCRIPTION
    whole = path.read_bytes()
    monkeypatch.setattr(preparing, "Pool", Inline)
    monkeypatch.setattr(preparing, "say", str)  # the lines of thousands of files

    def check(content: bytes) -> None:
        path.write_bytes(content)
        Preparation(folder, images, ENCODING, 4).finished()

    def verify(content: bytes) -> None:
        path.write_bytes(content)
        preparing.verify(folder)

    for number, (what, parse) in enumerate({"resumed": check, "verified": verify}.items()):
        parse(whole)
        report(f"{DESCRIPTION}, {what}", survives(parse, mutations(whole, 10 + number)))
        values = changed_values(json.loads(whole), 20 + number)
        report(f"{DESCRIPTION}, {what}: values", survives(parse, values))


def test_shards(images: ImageNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `verify` reads them, with checksums made right."""
    folder = tmp_path / "out"
    run = prepared(folder, images)
    run.finish()
    monkeypatch.setattr(preparing, "Pool", Inline)
    monkeypatch.setattr(preparing, "say", str)  # the lines of thousands of files
    description = json.loads((folder / DESCRIPTION).read_bytes())
    shard = description["train"]["shards"][0]
    for name, prefix in (("train-00000.index.npy", "index_"), ("train-00000.npy", "")):
        path = folder / name
        whole = path.read_bytes()

        def verify(content: bytes, path: Path = path, prefix: str = prefix) -> None:
            path.write_bytes(content)
            shard[f"{prefix}bytes"] = len(content)
            shard[f"{prefix}sha256"] = writing.checksum(path)
            (folder / DESCRIPTION).write_text(json.dumps(description))
            preparing.verify(folder)

        report(name, survives(verify, mutations(whole, 30)))
        verify(whole)
