"""Predictions from checkpoints alone."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import pyalexnet
from helpers import target, tiny
from helpers.data_files import random_bytes, write_image, write_mnist
from pyalexnet.commands import predict as predict_command
from pyalexnet.data import load_image
from pyalexnet.errors import DataError
from pyalexnet.evaluation import figure
from pyalexnet.evaluation.predict import Prediction, predict
from pyalexnet.evaluation.views import average, views
from pyalexnet.nn.layers import Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.training.checkpoint import load

pytestmark = pytest.mark.usefixtures("auto")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a net that distinguishes the three colours, without its run's folder."""
    folder = tmp_path_factory.mktemp("run")
    outcome = tiny.run(folder, epochs=20, schedule="constant", lr=0.03)
    path = folder / "alone.safetensors"
    (outcome.folder / "last.safetensors").rename(path)
    for name in ("run", "data"):
        shutil.rmtree(folder / name)
    (folder / "tiny.json").unlink()
    return path


def write_colours(folder: Path) -> list[Path]:
    """Writes an image of 30×20 pixels for each class."""
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
    """On an image that needs no resizing, against the net computed in NumPy."""
    pixels = random_bytes(10, 10, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    saved = load(checkpoint)
    w = {name: array.astype(np.float64) for name, array in saved.model.items()}

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
    assert predict_command.main([str(checkpoint), *map(str, images)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for path, name, line in zip(images, tiny.CLASSES, lines, strict=True):
        assert re.fullmatch(rf"{re.escape(str(path))}: {name} \d+\.\d %", line)
    assert predict_command.main([str(checkpoint), str(tmp_path), "--topk=2"]) == 0  # the folder
    for path, line in zip(images, capsys.readouterr().out.splitlines(), strict=True):
        assert re.fullmatch(rf"{re.escape(str(path))}: \w+ [\d.]+ %; \w+ [\d.]+ %", line)
    assert predict_command.main([str(checkpoint), *map(str, images), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_json_and_csv(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "green" / "deeper"
    folder.mkdir(parents=True)
    write_colours(folder.parent)
    (folder.parent / "notes.txt").touch()
    words = [str(checkpoint), str(tmp_path)]
    assert predict_command.main([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [Path(value["image"]).name[2:-8] for value in values] == list(tiny.CLASSES)
    for value, name in zip(values, tiny.CLASSES, strict=True):
        assert value["truth"] == "green" and value["classes"][0]["class"] == name
        assert sum(one["probability"] for one in value["classes"]) == pytest.approx(1)
    assert predict_command.main([*words, "--csv", "--topk=1"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["class1"] for row in rows] == list(tiny.CLASSES)
    assert list(rows[0]) == ["image", "truth", "class1", "probability1"]


def test_a_loaded_net_takes_images_of_any_kind(checkpoint: Path, tmp_path: Path) -> None:
    images = write_colours(tmp_path)
    net = pyalexnet.load(str(checkpoint), target.NAME, batch_size=2)
    assert net.classes == list(tiny.CLASSES)
    expected = net(images)
    assert expected.shape == (3, 3) and expected.argmax(axis=1).tolist() == [0, 1, 2]
    opened = [Image.open(path) for path in images]
    arrays = [np.asarray(image) for image in opened]
    for kind in (list(map(str, images)), opened, arrays, np.stack(arrays)):
        np.testing.assert_array_equal(net(kind), expected)
    for one in (images[1], str(images[1]), opened[1], arrays[1]):
        np.testing.assert_allclose(net(one), expected[1:2], rtol=1e-5)
    stored = np.stack([load_image(path, 10) for path in images])  # as they are, not resized again
    np.testing.assert_array_equal(net(stored), expected)
    assert not np.array_equal(net(images, views="ten"), expected)
    for path, row in zip(images, expected, strict=True):  # and predict takes text and one image
        [prediction] = predict(str(checkpoint), str(path), topk=1)
        assert prediction.classes == [(tiny.CLASSES[row.argmax()], pytest.approx(row.max()))]
    [prediction] = predict(checkpoint, arrays[0])
    assert (prediction.path, prediction.classes[0][0]) == (None, "blue")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"image 0 is float32 \(4, 4, 3\); expected a path"),
        (np.zeros((4, 4, 2), np.uint8), r"image 0 is uint8 \(4, 4, 2\); expected"),
        ([3], "image 0 is a int; expected a path"),
        ("none.png", "none.png: no such file"),
    ],
)
def test_what_is_no_image(checkpoint: Path, image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pyalexnet.load(checkpoint, target.NAME)(image)


def test_several_nets_and_views_averaged(checkpoint: Path, tmp_path: Path) -> None:
    Image.fromarray(random_bytes(10, 10, 3)).save(tmp_path / "a.png")
    saved = load(checkpoint)
    changed = {"fc3.bias": saved.model["fc3.bias"] + np.float32([0, 1, 2])}
    other = tmp_path / "other.safetensors"
    dataclasses.replace(
        saved, model={**saved.model, **changed}, options=saved.options | {"mirror": False}
    ).save(other)
    image = load_image(tmp_path / "a.png", 10)[np.newaxis]
    expected = []
    for path, mirror in ((checkpoint, True), (other, False)):
        model = pyalexnet.load(path, target.NAME, 1)
        expected.append(average(model, image, views("ten", (10, 10), (8, 8), mirror=mirror))[0])
    (prediction,) = predict([checkpoint, other], [tmp_path / "a.png"], views="ten")
    for name, share in prediction.classes:
        index = tiny.CLASSES.index(name)
        assert share == pytest.approx((expected[0][index] + expected[1][index]) / 2, rel=1e-12)


def test_true_class_is_that_of_the_folder(checkpoint: Path, tmp_path: Path) -> None:
    images = [tmp_path / folder / "a.png" for folder in ("green", "grey")]
    for image in images:
        write_image(image)
    assert [prediction.truth for prediction in predict([checkpoint], images)] == ["green", None]


def test_figure(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = list(map(str, write_colours(tmp_path)))
    words = [str(checkpoint), *images, "--views=ten", str(checkpoint)]
    assert predict_command.main(words) == 0
    without = capsys.readouterr()
    assert predict_command.main([*words, "--figure", str(tmp_path / "f.PNG")]) == 0
    assert predict_command.main([*words, "--figure", str(tmp_path / "f.pdf")]) == 0
    assert capsys.readouterr() == (2 * without.out, "")
    with Image.open(tmp_path / "f.PNG") as drawn:
        width, height = drawn.size
        pixels = np.asarray(drawn.convert("RGB")).reshape(-1, 3)
    assert width > 2 * height / 1.7  # three side by side
    for label in range(3):
        colour = np.full(3, 60)
        colour[2 - label] = 150
        share = (pixels == colour).all(axis=1).mean()
        assert share == pytest.approx(2.2**2 * 150**2 / (width * height), rel=0.02)
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.host_only("computes nothing")
def test_figure_of_long_names(tmp_path: Path) -> None:
    """Bars are as long as their probabilities; $ makes no formula."""
    image = write_image(tmp_path / "a.png")
    names = ["a $broken$ ^name, 鰻", "b" * 80, "c", "d", "e"]
    shares = [0.5, 0.25, 0.125, 0.0625, 0.03125]
    prediction = Prediction(image, list(zip(names, shares, strict=True)), names[1])
    with (tmp_path / "f.png").open("wb") as file:
        figure.draw(file, ".png", [prediction] * 6)
    with Image.open(tmp_path / "f.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    rows = pixels.shape[0] // 2  # of the figure's two rows of images
    bars = (pixels[-rows:, : pixels.shape[1] // 4] == [0xB7, 0xCF, 0xE8]).all(axis=2).sum(axis=1)
    assert bars.max() == pytest.approx(0.5 * 0.76 * 2.2 * 150, abs=3)


def captions(figure: Figure) -> list[str]:
    """The texts of a figure's axes, but for those of bars, in order."""
    found = [axes.texts[0].get_text() for axes in figure.axes if len(axes.texts) == 1]
    return [text for text in found if text]


def made_prediction(path: Path, best: str, truth: str | None, share: float = 0.9) -> Prediction:
    other = "cat" if best == "dog" else "dog"
    return Prediction(path, [(best, share), (other, 1 - share)], truth)


@pytest.mark.host_only("computes nothing")
def test_figure_begins_with_what_is_wrong(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png")
    made = [
        made_prediction(image, best, truth)
        for best, truth in (("dog", "dog"), ("dog", "cat"), ("cat", None), ("cat", "dog"))
    ]
    drawn = figure.grid(made)
    title = "2 of 3 wrong, 1 of unknown class (framed, first; the true class is outlined)"
    assert captions(drawn) == [title, "✗ cat", "✗ dog", "✓ dog", "a.png"]
    frames = [len(axes.patches) for axes in drawn.axes if axes.get_images()]
    assert frames == [1, 1, 0, 0]
    assert captions(figure.grid(made[:1])) == ["0 of 1 wrong", "✓ dog"]
    assert captions(figure.grid(made[2:3])) == ["a.png"]


@pytest.mark.host_only("computes nothing")
def test_figure_outlines_the_true_class(tmp_path: Path) -> None:
    """Also where its bar is too short to be seen."""
    image = write_image(tmp_path / "a.png")
    bars = figure.grid([made_prediction(image, "dog", "cat", 0.999)]).axes[-1]
    (outline,) = (patch for patch in bars.patches if not patch.get_fill())
    assert round(outline.get_y() + outline.get_height() / 2) == 1
    assert outline.get_width() == 0.76
    weights = {text.get_text(): text.get_fontweight() for text in bars.texts}
    assert weights == {"dog": "normal", "99.9 %": "normal", "cat": "bold", "0.1 %": "normal"}


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_texts_of_a_figure_do_not_overlap(tmp_path: Path, count: int) -> None:
    image = write_image(tmp_path / "a.png")
    long = "The quick brown fox jumps over the lazy dog"
    made = Prediction(image, [("dog", 1.0), (long, 0.0), (long[4:], 0.0)], long)
    drawn = figure.grid([made] * count)
    drawn.canvas.draw()
    header = drawn.axes[0].texts[0].get_window_extent()
    assert header.y0 > max(axes.bbox.y1 for axes in drawn.axes if axes.get_images())
    for axes in drawn.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert all(drawn.bbox.x0 <= box.x0 and box.x1 <= drawn.bbox.x1 for box in boxes)
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_a_grey_net_sees_colours_in_grey(tmp_path: Path) -> None:
    net = tiny.write_net(
        tmp_path / "grey.json", Net("grey", (1, 28, 28), (Linear(10, ""),), Normalization(0.01))
    )
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
    bad.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png"):
        list(predict([checkpoint], [bad]))


def test_mistakes_are_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(write_image(tmp_path / "a.png"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for words, message in (
        ([str(checkpoint), str(tmp_path / "none.png")], "none.png"),
        ([str(tmp_path / "none"), image], "none: no such file; expected a checkpoint"),
        (
            [str(checkpoint), str(tmp_path / "empty")],
            "empty: no image in this folder; expected some",
        ),
        ([str(checkpoint), "x.png"], "error: x.png: no such file"),
        ([str(checkpoint), image, "--topk=0"], "topk is 0; expected at least 1"),
        ([str(checkpoint), image, "--device=cuda:99"], "device cuda:99"),
        ([str(checkpoint), str(checkpoint)], "images is empty; expected image files"),
        ([str(checkpoint), image, "--figure=x.gif"], "figure is x.gif; expected "),
        ([str(checkpoint), image, f"--figure={tmp_path}/no/x.png"], "/no/x.png: cannot be written"),
        ([str(checkpoint), image, f"--figure={tmp_path}/loop.png"], "loop.png: cannot be written"),
        ([str(checkpoint), image, "--threads=1025"], "threads is 1025; expected 1 to 1024"),
        ([str(checkpoint), *[image] * 201, "--figure=x.png"], "is 201; expected at most 200"),
        ([str(checkpoint), image, "--dense-stride=2"], "expected --views dense"),
        ([str(checkpoint), image, "--views=dense", "--dense-stride=0"], "dense-stride is 0"),
    ):
        assert predict_command.main(words) == 2
        err = capsys.readouterr().err
        assert err.startswith("pyalexnet-predict: error: ")
        assert message in err
        assert err.count("\n") == 1
