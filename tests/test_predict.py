"""Predictions from a checkpoint alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from data_files import random_bytes, write_mnist
from PIL import Image

from pyalexnet import cli
from pyalexnet.checkpoint import load
from pyalexnet.errors import DataError
from pyalexnet.layers import Linear
from pyalexnet.nets import Net
from pyalexnet.predict import predict


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a net that tells the three colours apart; all else is gone."""
    folder = tmp_path_factory.mktemp("run")
    outcome = tiny.run(folder, epochs=20, schedule="constant", rate=0.03)
    path = folder / "alone.safetensors"
    (outcome.folder / "last.safetensors").rename(path)
    for name in ("run", "data"):
        shutil.rmtree(folder / name)
    (folder / "tiny.json").unlink()
    return path


def write_colours(folder: Path) -> list[Path]:
    """A picture of 30×20 pixels for each class."""
    paths = []
    for label, name in enumerate(tiny.CLASSES):
        pixels = np.full((20, 30, 3), 60, np.uint8)
        pixels[..., 2 - label] = 150
        paths.append(folder / f"a {name} one.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_prediction(checkpoint: Path, tmp_path: Path) -> None:
    images = write_colours(tmp_path) * 15  # more than one batch
    predictions = list(predict([checkpoint], images))
    assert [prediction.path for prediction in predictions] == images
    for i, (_, classes, _) in enumerate(predictions):
        assert classes[0][0] == tiny.CLASSES[i % 3]
        assert sorted(name for name, _ in classes) == sorted(tiny.CLASSES)
        shares = [share for _, share in classes]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
    assert list(predict([checkpoint], [])) == []


def test_numbers_are_the_nets(checkpoint: Path, tmp_path: Path) -> None:
    """The net worked out by hand, on a picture that needs no resizing."""
    pixels = random_bytes(10, 10, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    saved = load(checkpoint)
    w = {name: array.astype(np.float64) for name, array in saved.weights.items()}

    x = ((pixels - saved.mean.astype(np.float64)) / 64)[1:9, 1:9]
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    maps = np.einsum("pqcrs,crsk->kpq", patches, w["conv1.weight"])
    maps = np.maximum(maps + w["conv1.bias"][:, None, None], 0)
    maps = maps.reshape(8, 4, 2, 4, 2).max(axis=(2, 4))
    values = np.maximum(maps.reshape(-1) @ w["fc2.weight"] + w["fc2.bias"], 0)
    logits = 0.5 * values @ w["fc3.weight"] + w["fc3.bias"]
    expected = np.exp(logits) / np.exp(logits).sum()

    (prediction,) = predict([checkpoint], [tmp_path / "a.png"])
    for name, share in prediction.classes:
        assert share == pytest.approx(expected[tiny.CLASSES.index(name)], rel=1e-4)


def test_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_colours(tmp_path)
    assert cli.predict([str(checkpoint), *map(str, images)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(path) for path in images]
    assert re.fullmatch(r" +\d+\.\d %  blue", lines[1])


def test_a_grey_net_sees_colours_in_grey(tmp_path: Path) -> None:
    net = tiny.write_net(tmp_path / "grey.json", Net("grey", (1, 28, 28), (Linear(10, ""),), 0.01))
    data = write_mnist(tmp_path / "mnist")
    more = {"net": str(net), "data": f"mnist:{data}", "image_size": None, "epochs": 1}
    outcome = tiny.run(tmp_path, **more)
    grey = random_bytes(28, 28)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, axis=2)).save(tmp_path / "colour.png")
    one, other = predict(
        [outcome.folder / "last.safetensors"], [tmp_path / "grey.png", tmp_path / "colour.png"]
    )
    assert len(one.classes) == 5
    assert one.classes == other.classes


def test_unreadable_image_is_named(checkpoint: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        list(predict([checkpoint], [bad]))


def test_mistakes_are_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([str(checkpoint), str(tmp_path / "none.png")], "none.png"),
        ([str(tmp_path / "none"), "x.png"], "none: no such file; expected a checkpoint"),
        ([str(checkpoint), "x.png", "--devices=cuda:99"], "device cuda:99"),
    ):
        assert cli.predict(words) == 2
        err = capsys.readouterr().err
        assert err.startswith("pyalexnet-predict: error: ")
        assert message in err
        assert err.count("\n") == 1
