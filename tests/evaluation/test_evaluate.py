"""`evaluate`: one net as in validation, several nets, views, and the files written."""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers import target, tiny
from helpers.data_files import write_mnist
from pyalexnet import data, model
from pyalexnet import device as devices
from pyalexnet.data.images import decode_file
from pyalexnet.data.reading import BadImage
from pyalexnet.data.sources import folder as folder_module
from pyalexnet.data.sources.folder import FolderSplit
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.evaluation import evaluate
from pyalexnet.evaluation.views import views
from pyalexnet.nn.layers import Conv, Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.training.checkpoint import Progress, load
from pyalexnet.training.validation import validate

pytestmark = pytest.mark.usefixtures("auto")

DEVICES = devices.open(target.NAME)
OTHER = Net(
    "other",
    (3, 12, 12),
    (Conv(4, 3), Linear(3, activation="")),
    normalization=Normalization(scale=1 / 64),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on one data set: a/ crops 8×8 of 10×10 pixels; b/ has another net, of all 12×12."""
    folder = tmp_path_factory.mktemp("runs")
    tiny.run(folder, "a", epochs=2)
    other = tiny.write_net(folder / "other.json", OTHER)
    tiny.run(folder, "b", epochs=1, net=str(other), image_size=12, lr=1e-3)
    return folder


@pytest.fixture
def checkpoints(folder: Path) -> list[Path]:
    return [folder / run / "last.safetensors" for run in "ab"]


def by_hand(path: Path, kind: str) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """A net's probabilities of all validation images, computed image by image; and their labels."""
    saved = load(path)
    net = saved.build(DEVICES, 1)
    size = saved.image_shape[0]
    split = data.open_dataset(saved.data["spec"], size=size).val
    crops = views(kind, (size, size), net.net.input[1:], stride=1)
    images = split.read(np.arange(len(split)))
    rows = [
        np.mean([net.predict(image[None], crop[None])[0] for crop in crops], 0, np.float64)
        for image in images
    ]
    return np.array(rows), split.labels


def metrics_by_hand(p: NDArray[np.float64], labels: NDArray[np.int32]) -> tuple[float, float]:
    loss = -np.log(p[np.arange(len(labels)), labels]).mean()
    return float(loss), float((p.argmax(axis=1) != labels).mean())


def test_one_net_as_in_validation(checkpoints: list[Path], tmp_path: Path) -> None:
    grey = Net("grey", (1, 28, 28), (Linear(10, ""),), Normalization(0.001))
    file = tiny.write_net(tmp_path / "grey.json", grey)
    digits = f"mnist:{write_mnist(tmp_path / 'mnist', train=40, val=300)}"
    run = tiny.run(tmp_path, net=str(file), data=digits, image_size=None, epochs=1, lr=1e-3)
    for path in (*checkpoints, run.folder / "last.safetensors"):
        saved = load(path)
        net = saved.build(DEVICES, 7)
        size = saved.image_shape[0] if "folder" in saved.data["spec"] else None
        with data.Loader(data.open_dataset(saved.data["spec"], size=size).val, 7) as loader:
            expected = validate(net, loader)
        assert expected is not None
        result = evaluate.evaluate([path], device=target.NAME, batch_size=5)
        assert result.metrics == result.members[0].metrics
        assert result.metrics[1:] == expected[1:]
        assert result.metrics.loss == pytest.approx(expected.loss, rel=1e-6)
        assert result.skipped == 0
    assert 0 < result.metrics.top5_error < result.metrics.top1_error


@pytest.mark.parametrize(
    ("kind", "counts"), [("centre", [1, 1]), ("ten", [10, 2]), ("dense", [18, 2])]
)
def test_several_nets_averaged(
    checkpoints: list[Path], kind: str, counts: list[int], tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    result = evaluate.evaluate(
        checkpoints, views=kind, dense_stride=1, device=target.NAME, batch_size=5, predictions=table
    )
    assert [member.path for member in result.members] == checkpoints
    assert [len(member.crops) for member in result.members] == counts
    each = []
    for path, _, alone in result.members:
        p, labels = by_hand(path, kind)
        expected = metrics_by_hand(p, labels)
        assert (alone.loss, alone.top1_error) == pytest.approx(expected, rel=1e-6)
        each.append(p)
    mean = np.mean(each, axis=0)
    loss, top1 = metrics_by_hand(mean, labels)
    assert (result.metrics.loss, result.metrics.top1_error) == pytest.approx((loss, top1), rel=1e-6)
    assert result.metrics.top5_error == 0  # of three classes
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == tiny.VAL
    for row, p, label in zip(rows, mean, labels, strict=True):
        assert (int(row["label"]), row["class"]) == (label, tiny.CLASSES[label])
        assert row["image"].startswith(f"{tiny.CLASSES[label]}/")
        order = np.argsort(-p).tolist()
        assert [int(row[f"label{i}"]) for i in (1, 2, 3)] == order
        assert [row[f"class{i}"] for i in (1, 2, 3)] == [tiny.CLASSES[i] for i in order]
        shares = [float(row[f"probability{i}"]) for i in (1, 2, 3)]
        assert shares == pytest.approx(p[order], rel=1e-5)
    assert len(row) == 3 + 3 * 3


def with_ids(monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> None:
    open_dataset = data.open_dataset

    def opened(*given: Any, **more: Any) -> data.Dataset:
        return dataclasses.replace(open_dataset(*given, **more), ids=ids)

    monkeypatch.setattr(evaluate, "open_dataset", opened)


def test_submission_and_skipped_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: list[Path]
) -> None:
    tiny.write_data(tmp_path / "data")
    bad = sorted((tmp_path / "data" / "val").glob("*/*.png"))[5]
    bad.write_bytes(b"")
    with_ids(monkeypatch, [900, 7, 31])
    table, list_ = tmp_path / "p.csv", tmp_path / "s.txt"
    result = evaluate.evaluate(
        checkpoints,
        f"folder:{tmp_path / 'data'}",
        predictions=table,
        submission=list_,
        skip_bad_images=True,
        batch_size=4,
    )
    assert (result.skipped, result.metrics.images) == (1, tiny.VAL - 1)
    assert [row.images for row in result.by_class] == [4, 3, 4]
    lines = [line.split(" ") for line in list_.read_text().splitlines()]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(lines) == len(rows) == tiny.VAL
    for i, (line, row) in enumerate(zip(lines, rows, strict=True)):
        if i == 5:
            assert row.pop("image") == f"{bad.parent.name}/{bad.name}"
            assert (line, {*row.values()}) == (["0"] * 3, {""})
        else:
            assert line == [str([900, 7, 31][int(row[f"label{rank}"])]) for rank in (1, 2, 3)]


def test_an_image_that_one_net_cannot_read_counts_for_none(
    checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoding(content: bytes, size: int, *, name: Path) -> NDArray[np.uint8]:
        if size == 12 and name.name == "05.png":
            raise BadImage("damaged for large images only")
        return decode_file(content, size, name=name)

    monkeypatch.setattr(folder_module, "decode_file", decoding)
    result = evaluate.evaluate(
        checkpoints, skip_bad_images=True, workers=0
    )  # this process is patched
    counted = [member.metrics.images for member in result.members]
    assert [*counted, result.metrics.images] == [tiny.VAL - 1] * 3
    assert result.skipped == 1


@pytest.mark.parametrize(("source", "count"), [("mnist", 1), ("fashion-mnist", 2)])
def test_digits_are_not_mirrored(tmp_path: Path, source: str, count: int) -> None:
    grey = Net("grey", (1, 28, 28), (Linear(10, ""),), Normalization(0.001))
    net = tiny.write_net(tmp_path / "grey.json", grey)
    spec = f"{source}:{write_mnist(tmp_path / 'mnist')}"
    run = tiny.run(tmp_path, net=str(net), data=spec, image_size=None, epochs=1, lr=1e-3)
    result = evaluate.evaluate([run.folder / "last.safetensors"], views="ten")
    assert len(result.members[0].crops) == count


def test_files_are_written_at_the_end_or_not_at_all(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "p.csv"
    table.write_text("before")
    predict = model.Model.predict

    def failing(self: model.Model, images: Any, crops: Any) -> Any:
        assert table.read_text() == "before"
        if len(images) < 8:  # the last batch
            raise KeyboardInterrupt
        return predict(self, images, crops)

    with monkeypatch.context() as patch:
        patch.setattr(model.Model, "predict", failing)
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(checkpoints[:1], predictions=table, batch_size=8)
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert table.read_text() == "before"
    link = tmp_path / "link.csv"
    link.symlink_to(table)
    evaluate.evaluate(checkpoints[:1], predictions=link, batch_size=8)
    assert link.is_symlink()
    assert table.read_text().startswith("image,label,class,label1,class1,probability1,label2")


@pytest.mark.parametrize("length", [1, 10_000])  # noticed on closing; on writing
def test_full_disk_is_named(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(FolderSplit, "name", lambda self, index: length * "x")
    opened = os.fdopen

    def on_full_disk(number: int, *given: Any) -> Any:
        if "w+b" in given:
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, number)
            os.close(full)
        return opened(number, *given)

    monkeypatch.setattr(os, "fdopen", on_full_disk)
    with pytest.raises(UserError, match=r"p\.csv: cannot be written: No space left"):
        evaluate.evaluate(checkpoints[:1], predictions=tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.host_only("computes nothing")
def test_unwritable_files_are_found_before_the_work(
    checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "load_members", lambda *given: pytest.fail("work has begun"))
    for place, reason in (
        (tmp_path, "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "none" / "p.csv", "No such file or directory"),
    ):
        for name in ("predictions", "submission"):
            with pytest.raises(UserError, match=f"{place}: cannot be written: .*{reason}"):
                evaluate.evaluate(checkpoints, **{name: place})
    same = tmp_path / "p.csv"
    with pytest.raises(UserError, match="expected two files"):
        evaluate.evaluate(checkpoints, predictions=same, submission=same)
    assert not list(tmp_path.iterdir())


def test_submission_of_other_data(checkpoints: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data is folder; expected ImageNet, .* ILSVRC2012_IDs"):
        evaluate.evaluate(checkpoints, submission=tmp_path / "s.txt")
    assert not list(tmp_path.iterdir())


def test_nets_that_cannot_be_averaged(checkpoints: list[Path], tmp_path: Path) -> None:
    saved = load(checkpoints[1])
    path = tmp_path / "x.safetensors"
    classes = ["blue", "grey", "red"]
    dataclasses.replace(saved, classes=classes).save(path)
    expected = f"{path}: classes differ from those of {checkpoints[0]}: class 1 is 'grey'; "
    with pytest.raises(CheckpointError, match=f"{expected}expected 'green'"):
        evaluate.evaluate([checkpoints[0], path])
    dataclasses.replace(saved, classes=[*saved.classes, "sky"]).save(path)
    with pytest.raises(CheckpointError, match="number of classes is 4; expected 3"):
        evaluate.evaluate([checkpoints[0], path])
    dataclasses.replace(saved, data=saved.data | {"spec": "folder:/elsewhere"}).save(path)
    with pytest.raises(CheckpointError, match=r"data is folder:/elsewhere; .* --data"):
        evaluate.evaluate([checkpoints[0], path])
    assert evaluate.evaluate([checkpoints[0], path], saved.data["spec"]).metrics.images == tiny.VAL
    dataclasses.replace(saved, data={}, options={}, progress=Progress()).save(path)
    with pytest.raises(CheckpointError, match=f"{path}: data is not recorded; expected --data"):
        evaluate.evaluate([path])


def test_bar_on_a_terminal(
    checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.evaluate(checkpoints[:1], progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluate.evaluate(checkpoints[:1], progress=True)
    assert f"/{tiny.VAL} [" in capsys.readouterr().err
    evaluate.evaluate(checkpoints[:1])
    assert capsys.readouterr().err == ""
