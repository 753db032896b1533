from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.data_files import write_image
from pyalexnet.data import load_image, open_dataset
from pyalexnet.data.imagenet import writing
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.labels import assemble
from pyalexnet.data.imagenet.preparation import Preparation
from pyalexnet.data.imagenet.writing import Task, write_shard
from pyalexnet.data.sources.shards import Encoding, ShardSplit
from pyalexnet.errors import DataError, MachineError, UserError

pytestmark = pytest.mark.host_only("reads and writes files")

SIZE = 16
EACH = {"n1": 5, "n2": 4}


def write_sources(folder: Path) -> Path:
    """Writes train/ and val/ with class folders; one image of each is empty."""
    for wnid, n in EACH.items():
        for number in range(n):
            seed = len(wnid) + 10 * number + int(wnid[1:])
            write_image(folder / "train" / wnid / f"{wnid}_{number}.JPEG", seed=seed)
        for number in range(2):
            write_image(
                folder / "val" / wnid / f"val_{2 * number + int(wnid[1:])}.JPEG", seed=number
            )
    (folder / "train" / "n1" / "n1_2.JPEG").write_bytes(b"")
    (folder / "val" / "n2" / "val_2.JPEG").write_bytes(b"")
    return folder


def run(folder: Path, out: Path, form: str, shard_images: int = 3) -> Preparation:
    images = assemble(list_source(folder / "train"), list_source(folder / "val"), None)
    return Preparation(out, images, Encoding(form, SIZE, 90), shard_images)


def written(preparation: Preparation, *, strict: bool = False) -> Path:
    """Runs a preparation in this process, without a pool."""
    preparation.folder.mkdir(exist_ok=True)
    preparation.resume()
    for part in preparation.parts():
        task = Task(
            preparation.folder, *part, preparation.part(*part), preparation.encoding, strict
        )
        preparation.record(write_shard(task))
    preparation.finish()
    return preparation.folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "advance", lambda: None)


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def prepared(
    request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "advance", lambda: None)
        out = tmp_path_factory.mktemp("prepared") / request.param
        return written(run(sources, out, request.param))


@pytest.fixture
def copied(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


TRAIN = [f"n1/n1_{n}.JPEG" for n in (0, 1, 3, 4)] + [f"n2/n2_{n}.JPEG" for n in range(4)]
VAL = ["n1/val_1.JPEG", "n2/val_2.JPEG", "n1/val_3.JPEG", "n2/val_4.JPEG"]


def test_images_by_position(prepared: Path, sources: Path) -> None:
    data = open_dataset(f"imagenet:{prepared}")
    assert data.classes == ["n1", "n2"] and data.ids is None
    assert data.name == "imagenet" and data.mirror
    assert [data.train.name(i) for i in range(len(data.train))] == TRAIN
    assert [data.val.name(i) for i in range(len(data.val))] == VAL
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4
    assert data.val.labels.tolist() == [0, -1, 0, 1]
    assert (data.train.skipped, data.val.skipped) == (0, 1)
    assert data.train.labels.dtype == np.int32 and data.train.shape == (SIZE, SIZE, 3)
    for split, name, names in ((data.train, "train", TRAIN), (data.val, "val", VAL)):
        order = np.array([2, 0, *range(len(split)), 3, 3])
        images = split.read(order)
        assert images.shape == (len(order), SIZE, SIZE, 3) and images.dtype == np.uint8
        for image, i in zip(images, order.tolist(), strict=True):
            if split.labels[i] < 0:
                assert not image.any()
                continue
            expected = load_image(sources / name / names[i], SIZE)
            limit = 0 if prepared.name == "raw" else 40
            assert np.abs(image.astype(int) - expected).max() <= limit
            assert np.abs(image.astype(int) - expected).mean() <= limit / 5


def test_mean_and_colour_match_the_stored_images(prepared: Path) -> None:
    data = open_dataset(f"imagenet:{prepared}")
    assert data.mean is not None and data.colour is not None
    images = data.train.read(np.arange(len(data.train)))
    np.testing.assert_array_equal(
        data.mean, images.mean(axis=0, dtype=np.float64).astype(np.float32)
    )
    covariance = np.cov(images.reshape(-1, 3).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance)[::-1], data.colour.values, rtol=1e-9)
    np.testing.assert_allclose(
        covariance @ data.colour.vectors, data.colour.vectors * data.colour.values, rtol=1e-6
    )


def test_files_are_as_documented(prepared: Path) -> None:
    description = json.loads((prepared / "dataset.json").read_text())
    expected = {"dataset.json", "mean.npy"}
    for split, counts in (("train", [2, 3, 3]), ("val", [3, 1])):
        shards = description[split]["shards"]
        assert [shard["images"] for shard in shards] == counts
        assert description[split]["images"] == sum(counts)
        for number, count in enumerate(counts):
            name = f"{split}-{number:05}"
            expected |= {f"{name}.npy", f"{name}.index.npy"}
            images, index = (
                np.load(prepared / f"{name}.npy"),
                np.load(prepared / f"{name}.index.npy"),
            )
            assert images.dtype == np.uint8 and index.shape == (count,)
            if prepared.name == "raw":
                assert images.shape == (count, SIZE, SIZE, 3)
                assert index.dtype.names == ("label", "name")
            else:
                ends = index["offset"] + index["bytes"]
                assert ends[-1] == images.size and index["offset"].tolist() == [0, *ends[:-1]]
                assert bytes(images[:2]) == b"\xff\xd8"
    assert {file.name for file in prepared.iterdir()} == expected
    assert description["left_out"] == [
        {"split": "train", "name": "n1/n1_2.JPEG", "reason": EMPTY},
        {"split": "val", "name": "n2/val_2.JPEG", "reason": EMPTY},
    ]


EMPTY = "empty; expected a JPEG or PNG image"


def test_strict_stops_at_an_unreadable_image(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"train: n1/n1_2\.JPEG: {EMPTY}"):
        written(run(sources, tmp_path / "out", "raw"), strict=True)


def test_out_of_memory_is_not_an_unreadable_image(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.Image.resize", fail)
    with pytest.raises(MachineError, match=r"train-00000\.npy: not enough memory"):
        written(run(sources, tmp_path / "out", "raw"))


@pytest.mark.parametrize("where", ["os.fsync", "pyalexnet.data.imagenet.writing.npy_header"])
def test_shard_that_cannot_be_written_is_named_and_leaves_nothing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    first = run(sources, tmp_path, "raw")
    first.resume()
    part = first.parts()[0]
    task = Task(tmp_path, *part, first.part(*part), first.encoding, False)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(where, full)
    with pytest.raises(UserError, match=r"train-00000\.npy: cannot be written: No space left"):
        write_shard(task)
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished.npz"]


def test_shard_without_any_readable_image(sources: Path, tmp_path: Path) -> None:
    folder = written(run(sources, tmp_path / "out", "raw", shard_images=1))
    train = open_dataset(f"imagenet:{folder}").train
    assert [train.name(i) for i in range(len(train))] == TRAIN
    whole = written(run(sources, tmp_path / "whole", "raw", shard_images=100))
    every = np.arange(len(train))
    np.testing.assert_array_equal(
        train.read(every), open_dataset(f"imagenet:{whole}").train.read(every)
    )


def test_pickled_it_is_small_and_the_same(prepared: Path) -> None:
    train = open_dataset(f"imagenet:{prepared}").train
    content = pickle.dumps(train)
    assert len(content) < 4000
    again = pickle.loads(content)
    every = np.arange(len(train))
    np.testing.assert_array_equal(again.read(every), train.read(every))
    np.testing.assert_array_equal(again.labels, train.labels)


def test_threads_read_the_same(prepared: Path) -> None:
    train = open_dataset(f"imagenet:{prepared}").train
    orders = [np.random.default_rng(i).integers(0, len(train), 20) for i in range(40)]
    whole = train.read(np.arange(len(train)))
    with ThreadPoolExecutor(8) as pool:
        for order, images in zip(orders, pool.map(train.read, orders), strict=True):
            np.testing.assert_array_equal(images, whole[order])


def test_reading_needs_memory_for_what_it_gives_only(prepared: Path) -> None:
    train = open_dataset(f"imagenet:{prepared}").train
    train.read(np.arange(4))
    peaks = []
    tracemalloc.start()
    try:
        for _ in range(5):  # take the minimum: threads left by other tests may allocate, too
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for _ in range(200):
                train.read(np.arange(4))
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert min(peaks) < 30 * 4 * SIZE * SIZE * 3


def test_reading_into_an_array(prepared: Path) -> None:
    val = open_dataset(f"imagenet:{prepared}").val
    every = np.arange(len(val))
    out = np.full((len(val), SIZE, SIZE, 3), 7, np.uint8)
    val.read_into(every, out)
    np.testing.assert_array_equal(out, val.read(every))
    assert not out[1].any()  # skipped


def test_index_out_of_range(prepared: Path) -> None:
    train = open_dataset(f"imagenet:{prepared}").train
    for index in (len(train), -1):
        with pytest.raises(IndexError):
            train.read(np.array([0, index]))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "version is 2; expected 1"),
        (lambda d: d.pop("version"), "damaged"),
        (lambda d: d.pop("val"), "damaged"),
        (lambda d: d.update(train=[]), "damaged"),
        (lambda d: d["encoding"].update(format="webp"), "damaged"),
        (lambda d: d["encoding"].update(size="a"), "damaged"),
        (lambda d: d["train"]["shards"][0].pop("bytes"), "damaged"),
        (lambda d: d["train"]["shards"][0].update(images="x"), "damaged"),
        (lambda d: d.update(classes=[{}, {}]), "damaged"),
        (lambda d: d["colour"].update(values=[1, 2]), "damaged"),
        (lambda d: d["colour"].update(values=[1, 2, "x"]), "damaged"),
        (lambda d: d.update(classes=7), "damaged: the list of classes|the list of classes is not"),
        (lambda d: d["classes"][0].update(wnid=7), "a class's wnid is not"),
        (lambda d: d["classes"][0].update(words=[7]), "a class's words is not"),
        (lambda d: d["train"].update(images=10**30), "train's number of images is not"),
        (lambda d: d["train"]["shards"][0].update(images=-1), "a shard's images is not"),
        (lambda d: d["train"]["shards"][0].update(bytes=1e3), "a shard's bytes is not"),
        (lambda d: d["encoding"].update(size=-4), "the images' size is not"),
        (lambda d: d["encoding"].update(format=["jpeg"]), "the images' format is not"),
        (lambda d: d.pop("mean"), "KeyError: 'mean'"),
        (lambda d: d.update(version=[1]), "version is"),
        (lambda d: d["classes"].pop(), "damaged: a label of train is 1; expected -1 to 0"),
        (
            lambda d: d["encoding"].update(size=SIZE + 1),
            r"mean\.npy: array is float32 \(16, 16, 3\)",
        ),
    ],
)
def test_damaged_description(copied: Path, change: Callable[[Any], None], message: str) -> None:
    edit(copied / "dataset.json", change)
    with pytest.raises(DataError, match=message):
        open_dataset(f"imagenet:{copied}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_invalid_description(copied: Path, content: bytes) -> None:
    (copied / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset\.json: damaged"):
        open_dataset(f"imagenet:{copied}")


@pytest.mark.parametrize("name", ["train-00001.npy", "val-00000.index.npy", "mean.npy"])
@pytest.mark.parametrize("damage", ["missing", "shorter", "longer"])
def test_damaged_file_is_named(copied: Path, name: str, damage: str) -> None:
    path = copied / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] if damage == "shorter" else content + b"x")
    if damage == "longer" and name == "mean.npy":
        return  # NumPy ignores trailing bytes; --verify reports them
    with pytest.raises(DataError, match=f"{name}: (no such file|damaged|cannot be read)"):
        open_dataset(f"imagenet:{copied}")


def test_name_in_an_error_is_printable(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardSplit, "name", lambda split, index: "a\n\x1b[31m\udce9")
    train = open_dataset(f"imagenet:{copied}").train
    path = copied / "train-00000.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=re.escape(r"image 1 (a\n\x1b[31m\xe9): ")):
        train.read(np.array([1]))


def test_index_of_something_else(copied: Path) -> None:
    path = copied / "train-00000.index.npy"
    np.save(path, np.zeros(2, np.int64))
    size = path.stat().st_size
    edit(copied / "dataset.json", lambda d: d["train"]["shards"][0].update(index_bytes=size))
    with pytest.raises(DataError, match=r"train-00000\.index\.npy: damaged: array is int64"):
        open_dataset(f"imagenet:{copied}")


def test_damage_within_a_shard(copied: Path) -> None:
    train = open_dataset(f"imagenet:{copied}").train
    path = copied / "train-00001.npy"
    content = path.read_bytes()
    path.write_bytes(content[: 128 + (len(content) - 128) // 2])
    train.read(np.array([0, 1, 5, 6, 7]) if copied.name == "jpeg" else np.array([0, 1]))
    with pytest.raises(DataError, match=r"train-00001\.npy: damaged: image [234] \(n[12]/"):
        train.read(np.array([0, 2, 3, 4]))
    path.unlink()
    with pytest.raises(DataError, match=r"train-00001\.npy: cannot be read: No such file"):
        train.read(np.array([3]))


def test_folders_that_are_not_prepared(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset\.json; expected the output of pyalexn"):
        open_dataset(f"imagenet:{tmp_path}")
    run(sources, tmp_path, "raw").resume()
    with pytest.raises(DataError, match="unfinished; run the same pyalexnet-prepare command"):
        open_dataset(f"imagenet:{tmp_path}")


def of_other_sources(_: Path, out: Path) -> Preparation:
    folder = write_sources(out.parent / "other")
    write_image(folder / "train" / "n1" / "n1_1.JPEG", 50, 50, seed=77)
    return run(folder, out, "raw")


OTHERS: dict[str, tuple[Callable[[Path, Path], Preparation], str]] = {
    "format": (lambda s, o: run(s, o, "jpeg"), "--format is jpeg; expected raw"),
    "shards": (lambda s, o: run(s, o, "raw", 4), "--shard-images is 4; expected 3"),
    "size": (
        lambda s, o: Preparation(o, run(s, o, "raw").images, Encoding("raw", 8, 90), 3),
        "--size is 8; expected 16",
    ),
    "sources": (of_other_sources, r"--train is 9 images \(list \w{12}\); expected 9"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_nothing_is_mixed(sources: Path, tmp_path: Path, what: str) -> None:
    other, message = OTHERS[what]
    unfinished, finished = tmp_path / "unfinished", tmp_path / "finished"
    unfinished.mkdir()
    run(sources, unfinished, "raw").resume()
    with pytest.raises(UserError, match=f"unfinished: {message}"):
        other(sources, unfinished).resume()
    written(run(sources, finished, "raw"))
    with pytest.raises(UserError, match=f"finished: {message}"):
        other(sources, finished).finished()
    assert run(sources, finished, "raw").finished()


def test_quality_matters_to_jpegs_and_pillow_to_all(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ("raw", "jpeg"):
        (tmp_path / form).mkdir()
        run(sources, tmp_path / form, form).resume()
    other = run(sources, tmp_path / "raw", "raw")
    other.encoding = Encoding("raw", SIZE, 50)
    other.resume()
    other = run(sources, tmp_path / "jpeg", "jpeg")
    other.encoding = Encoding("jpeg", SIZE, 50)
    with pytest.raises(UserError, match="--quality is 50; expected 90"):
        other.resume()
    monkeypatch.setattr("PIL.__version__", "1.0")
    for form in ("raw", "jpeg"):
        with pytest.raises(UserError, match=r"Pillow is 1\.0; expected "):
            run(sources, tmp_path / form, form).resume()


def test_files_of_killed_processes_are_removed(sources: Path, tmp_path: Path) -> None:
    left = ".pyalexnet-0123456789abcdef.tmp"
    (tmp_path / left).write_bytes(b"of a process killed in its first save")
    run(sources, tmp_path, "raw").resume()
    assert [file.name for file in tmp_path.iterdir()] == ["unfinished.npz"]


def test_finished_shard_that_was_damaged_is_named(sources: Path, tmp_path: Path) -> None:
    first = run(sources, tmp_path, "raw")
    first.resume()
    part = first.parts()[0]
    first.record(write_shard(Task(tmp_path, *part, first.part(*part), first.encoding, False)))
    (tmp_path / "train-00000.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-00000\.npy: damaged: size is 0 bytes; exp"):
        run(sources, tmp_path, "raw").resume()
    (tmp_path / "unfinished.npz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"unfinished\.npz: damaged; delete"):
        run(sources, tmp_path, "raw").resume()


def test_split_of_one_shard(prepared: Path) -> None:
    description = json.loads((prepared / "dataset.json").read_text())
    whole = ShardSplit(prepared, "train", description)
    one = ShardSplit(prepared, "train", description, only=1)
    assert [one.name(i) for i in range(len(one))] == TRAIN[2:5]
    np.testing.assert_array_equal(one.read(np.arange(3)), whole.read(np.arange(2, 5)))


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes an array on disk, and dataset.json's size of the file."""
    np.save(path, change(np.load(path)))
    name, key = path.name.partition(".")[0], "index_bytes" if ".index" in path.name else "bytes"
    split, _, number = name.partition("-")
    size = path.stat().st_size
    edit(
        path.parent / "dataset.json", lambda d: d[split]["shards"][int(number)].update({key: size})
    )


def with_field(name: str, value: object) -> Callable[[Any], Any]:
    def change(index: Any) -> Any:
        index[name][0] = value
        return index

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: np.zeros(2, [(name, "f8") for name in index.dtype.names]), "array is"),
        (lambda index: index[["label"]], "array is .*; expected 2 records of label, name"),
        (lambda index: index[:1], r"array is .*\(1,\); expected 2 records"),
        (with_field("label", 2**30), "a label of train is 1073741824; expected -1 to 1"),
        (with_field("label", -2), "a label of train is -2; expected -1 to 1"),
    ],
)
def test_damaged_index(copied: Path, change: Callable[[Any], Any], message: str) -> None:
    rewrite(copied / "train-00000.index.npy", change)
    with pytest.raises(DataError, match=message):
        open_dataset(f"imagenet:{copied}")


@pytest.mark.parametrize(("name", "value"), [("offset", -1), ("bytes", -1), ("bytes", 2**62)])
def test_image_outside_of_its_shard(copied: Path, name: str, value: int) -> None:
    if "offset" not in np.load(copied / "train-00000.index.npy").dtype.names:
        pytest.skip("raw images have no places of their own")
    rewrite(copied / "train-00000.index.npy", with_field(name, value))
    with pytest.raises(DataError, match=r"00000\.index\.npy: damaged: an image lies outside"):
        open_dataset(f"imagenet:{copied}")


def test_mean_that_is_no_number(copied: Path) -> None:
    np.save(copied / "mean.npy", np.full((SIZE, SIZE, 3), np.nan, np.float32))
    with pytest.raises(DataError, match=r"mean\.npy: array is .* of finite numbers"):
        open_dataset(f"imagenet:{copied}")


def test_shards_that_the_system_does_not_give(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = open_dataset(f"imagenet:{copied}").train
    waits: list[float] = []
    monkeypatch.setattr("pyalexnet.data.reading.time.sleep", waits.append)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("pyalexnet.data.sources.shards.os.pread", fail)
    with pytest.raises(MachineError, match=r"train-00000\.npy: cannot be read: Input/output error"):
        train.read(np.arange(1))
    assert len(waits) == 3
