"""The learning curve: what it says, and that it can be read."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from helpers import tiny
from pyalexnet.training import curve, metrics
from pyalexnet.training.curve import Subject

pytestmark = pytest.mark.host_only("computes nothing")

SHAPES = Subject("shapes", "small", 10)
PHOTOS = Subject("photos", "small", 4)
IMAGENET = Subject("ImageNet", "alexnet", 1000)


def log(epochs: int, classes: int = 10, drops: tuple[int, ...] = (), first: int = 1) -> Any:
    """Records of a run whose error falls from chance, faster after each drop of the rate."""
    rng = np.random.default_rng(0)
    records, error = [], 1 - 1 / classes
    for epoch in range(first, first + epochs):
        divided = sum(epoch > drop for drop in drops)
        error += 0.3 * (0.2 * 0.6**divided - error) + rng.normal(0, 0.004)
        record: dict[str, Any] = {"epoch": epoch, "lr": 0.01 * 0.1**divided}
        for part, share in (("val", error), ("train", error + 0.2 * 0.8**epoch)):
            record[f"{part}_loss"] = share * math.log(classes)
            record[f"{part}_top1_error"] = share
            record[f"{part}_top5_error"] = share**2
        records.append(record)
    return records


def learned_by_heart() -> Any:
    """Records of a run that ends without an error."""
    return [r | {name: 0.0 for name in r if "error" in name and r["epoch"] > 5} for r in log(7)]


RUNS = {
    "one epoch": (log(1), SHAPES),
    "shapes": (log(7, drops=(6,)), SHAPES),
    "drops": (log(20, drops=(12, 17)), Subject("Fashion-MNIST", "small", 10)),
    "ImageNet": (log(90, 1000, (30, 52, 75)), IMAGENET),
    "photos": (log(120, 4, (100, 110)), PHOTOS),
    "no errors": (learned_by_heart(), SHAPES),
    "later epochs": (log(9, first=8), SHAPES),
    "long names": (log(7), Subject("photos of $many$ kinds " * 9, "net " * 20, 10)),
}

cases = pytest.mark.parametrize("case", RUNS)


def texts(drawn: Figure | Axes) -> list[str]:
    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == title)
    return axes


def lines(axes: Axes) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.get_lines()}


def undrawn(figure: Figure) -> list[Text]:
    """Labels of ticks beyond the axes."""
    return [
        tick.label1
        for axes in figure.axes
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        if not low <= tick.get_loc() <= high
    ]


@cases
def test_nothing_overlaps_and_nothing_is_cut_off(case: str) -> None:
    figure = curve.draw(*RUNS[case])
    figure.canvas.draw()
    boxes = [
        (text.get_text(), Text.get_window_extent(text))  # of an annotation without its line
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text not in undrawn(figure)
    ]
    whole = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            if text.get_text() in ("training", "validation"):
                assert text.get_window_extent().y0 >= axes.bbox.y0 - 3  # not among the ticks
    for index, (name, box) in enumerate(boxes):
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1, name
        assert whole.y0 <= box.y0 and box.y1 <= whole.y1, name
        for other, beside in boxes[index + 1 :]:
            across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            down = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            assert min(across, down) <= 1, (name, other)


@cases
def test_lines_are_the_records_and_end_in_their_names(case: str) -> None:
    records, subject = RUNS[case]
    figure = curve.draw(records, subject)
    rank = "top-1 " if subject.classes > 5 else ""
    shown = {"loss": ("loss", 1), f"{rank}error (%)": ("top1_error", 100)}
    if subject.classes > 5:
        shown["top-5 error (%)"] = ("top5_error", 100)
    assert {axes.get_title(loc="left") for axes in figure.axes} == set(shown)
    for title, (key, scale) in shown.items():
        axes = panel(figure, title)
        drawn = lines(axes)
        for part, name in (("train", "training"), ("val", "validation")):
            np.testing.assert_array_equal(
                drawn[name].get_xydata(),
                [(record["epoch"], scale * record[f"{part}_{key}"]) for record in records],
            )
            assert name in texts(axes)
        assert axes.get_ylim()[0] == 0


@cases
def test_title_and_mark_of_the_best_epoch(case: str) -> None:
    records, subject = RUNS[case]
    best = min(records, key=lambda record: record["val_top1_error"])
    error = 100 * best["val_top1_error"]
    value = f"{error:.1f} %" if error >= 1 else f"{error:.2f} %"
    figure = curve.draw(records, subject)
    (title,) = (text for text in texts(figure) if "lowest" in text)
    assert title.startswith(subject.data[:20])
    assert subject.net[:5] in title
    assert title.endswith(f"error {value}")
    rank = "top-1 " if subject.classes > 5 else ""
    assert f"{value} after epoch {best['epoch']}" in texts(panel(figure, f"{rank}error (%)"))


@cases
def test_mark_of_the_best_epoch_covers_no_line(case: str) -> None:
    records, subject = RUNS[case]
    figure = curve.draw(records, subject)
    figure.canvas.draw()
    (axes,) = (axes for axes in figure.axes if any("after" in text for text in texts(axes)))
    (mark,) = (text for text in axes.texts if "after" in text.get_text())
    box = Text.get_window_extent(mark)
    for part in ("train", "val"):
        epochs = np.linspace(records[0]["epoch"], records[-1]["epoch"], 5000)
        known = [record["epoch"] for record in records]
        values = np.interp(epochs, known, [100 * r[f"{part}_top1_error"] for r in records])
        pixels = axes.transData.transform(np.stack([epochs, values], axis=1))
        assert not ((pixels > box.min) & (pixels < box.max)).all(axis=1).any()


def test_one_epoch_shows() -> None:
    records, subject = RUNS["one epoch"]
    figure = curve.draw(records, subject)
    for axes in figure.axes:
        assert axes.get_xticks().tolist() == [1]
        for name in ("training", "validation"):
            assert lines(axes)[name].get_marker() not in ("", "None")


def test_ticks_are_epochs() -> None:
    def ticks(epochs: int) -> list[float]:
        axes = panel(curve.draw(log(epochs), SHAPES), "top-1 error (%)")
        first, last = axes.get_xlim()
        return [tick for tick in axes.get_xticks() if first <= tick <= last]

    assert ticks(7) == list(range(1, 8))
    assert ticks(20) == [5, 10, 15, 20]
    assert ticks(90) == [20, 40, 60, 80]


def test_training_and_validation_differ_in_grey() -> None:
    for axes in curve.draw(*RUNS["drops"]).axes:
        train, val = lines(axes)["training"], lines(axes)["validation"]
        assert train.get_linestyle() != val.get_linestyle()
        assert train.get_marker() != val.get_marker()
        weights = 0.299, 0.587, 0.114
        greys = [np.dot(to_rgb(line.get_color()), weights) for line in (train, val)]
        assert greys[0] - greys[1] > 0.2
        assert greys[0] < 0.6  # on white


def test_lines_where_the_rate_is_divided() -> None:
    def marks(rates: list[float]) -> list[tuple[float, str]]:
        records = log(len(rates))
        for record, rate in zip(records, rates, strict=True):
            record["lr"] = rate
        axes = panel(curve.draw(records, SHAPES), "top-1 error (%)")
        found = [text for text in axes.texts if "÷" in text.get_text()]
        drawn = [path.vertices[0, 0] for lines in axes.collections for path in lines.get_paths()]
        assert {text.xy[0] for text in found} <= set(drawn)  # type: ignore[attr-defined]
        return [(text.xy[0], text.get_text()) for text in found]  # type: ignore[attr-defined]

    assert marks([0.01] * 7) == []
    assert marks([0.01] * 6 + [0.001]) == [(6.5, "rate ÷ 10")]
    two = [0.02] * 12 + [0.002] * 5 + [0.001] * 3
    assert marks(two) == [(12.5, "rate ÷ 10"), (17.5, "÷ 2")]
    assert marks([0.001, 0.005, 0.01, 0.01, 0.001]) == [(4.5, "rate ÷ 10")]  # warm-up
    assert marks([0.005 * (1 + math.cos(math.pi * i / 20)) for i in range(20)]) == []  # cosine


@pytest.mark.parametrize(
    ("classes", "loss", "error", "top5"),
    [
        (5, "1.61", "80", None),
        (6, "1.79", "83.3", "16.7"),
        (10, "2.30", "90", "50"),
        (1000, "6.91", "99.9", "99.5"),
    ],
)
def test_chance(classes: int, loss: str, error: str, top5: str | None) -> None:
    figure = curve.draw(log(3, classes), Subject("set", "net", classes))
    found = [text for text in texts(figure) if text.startswith("chance")]
    assert sum(f"= {loss}" in text for text in found) == 1
    assert sum(f": {error} %" in text for text in found) == 1
    assert len(found) == 2 + (top5 is not None)
    if top5 is not None:
        assert any(f": {top5} %" in text for text in found)


def test_far_chance_does_not_squeeze_the_lines() -> None:
    records = log(5)
    for record in records:
        record |= {name: value / 10 for name, value in record.items() if "error" in name}
    axes = panel(curve.draw(records, SHAPES), "top-1 error (%)")
    assert axes.get_ylim()[1] < 15
    assert "chance: 90 % ↑" in texts(axes)


def test_errors_of_0_are_drawn() -> None:
    records = [{name: 0 * value for name, value in r.items()} | {"epoch": 1} for r in log(1)]
    figure = curve.draw(records, PHOTOS)
    figure.canvas.draw()
    assert "0.00 % after epoch 1" in texts(figure)


def test_png_is_the_figure() -> None:
    with Image.open(io.BytesIO(curve.png(*RUNS["shapes"]))) as picture:
        assert picture.format == "PNG"
        grey = np.asarray(picture.convert("L"))
    assert (grey < 255).mean() > 0.02


def test_a_resumed_run_draws_all_its_epochs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, Subject]] = []

    def png(records: Any, subject: Subject) -> bytes:
        drawn.append((list(records), subject))
        return b""

    monkeypatch.setattr(metrics.curve, "png", png)
    tiny.run(tmp_path, epochs=1)
    tiny.run(tmp_path, epochs=3, resume=True)
    records, subject = drawn[-1]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert subject == Subject("data", "tiny", 3)
