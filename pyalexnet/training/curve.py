"""The learning curve: loss and errors by epoch, as a picture.

Training and validation differ in dash, marker and lightness as well as in colour, so the picture
can be read in grey print and by colour-blind people.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.drawing import plain_style
from pyalexnet.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]
Records = Sequence[dict[str, Any]]


class Subject(NamedTuple):
    """What was trained."""

    data: str
    net: str
    classes: int


class _Panel(NamedTuple):
    """A quantity and its place in the figure."""

    title: str
    key: str  #: records have it as "train_…" and "val_…"
    scale: float
    chance: float  #: of a net that gives all classes the same probability
    chance_label: str
    box: tuple[float, float, float, float]  #: left, bottom, width, height in inches


_TOP = 5  # a top-5 error of five classes is always 0

# Inches. The error is on the right, the loss on the left, with the top-5 error, if any, below.
_WIDTH, _HEIGHT, _DPI = 9.6, 4.7, 110
_LEFT, _RIGHT, _PANEL_WIDTH = 0.5, 5.4, 3.3
_BOTTOM, _TOP_EDGE = 0.75, 3.85
_UPPER, _LOWER = 1.75, 0.8  # heights of two panels in a column

_TRAIN: dict[str, Any] = {"label": "training", "color": "#d2700f", "linestyle": "--", "marker": "s"}
_VAL: dict[str, Any] = {"label": "validation", "color": "#08457e", "linestyle": "-", "marker": "o"}
_PARTS = {"train": _TRAIN | {"markerfacecolor": "white"}, "val": _VAL}
_GREY, _PALE = "0.35", "0.75"
_BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # hides grey lines behind text
_SMALL, _MEDIUM = 8, 9  # sizes of text in points

_MARKED_EPOCHS = 30  # with more, markers hide the line
_TICKED_EPOCHS = 10  # with more, not every epoch has a tick
_NEAR = 1.6  # chance is drawn if it is at most this many times the largest value
_MANY = 10_000  # more points than lines have
_STEP = 1.9  # a rate divided by at least this has a line, if most of its falls are such


def png(records: Records, subject: Subject) -> bytes:
    """Returns the picture of a run's epochs, which are as in `MetricsFile.records`."""
    image = io.BytesIO()
    with plain_style():
        draw(records, subject).savefig(image, format="png")
    return image.getvalue()


def draw(records: Records, subject: Subject) -> Figure:
    """Returns the figure: a panel of the loss, one of the error, one of top-5 if it can differ.

    Parameters
    ----------
    records : sequence of dict
        At least one, as in `MetricsFile.records`.
    subject : Subject
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI)
    FigureCanvasAgg(figure)
    best = min(records, key=lambda record: record["val_top1_error"])
    named = f"{shortened(printable(subject.data), 30)}, {shortened(printable(subject.net), 20)}"
    rank = "top-1 " if subject.classes > _TOP else ""
    _note(
        figure,
        _HEIGHT - 0.3,
        f"{named}: lowest validation {rank}error {_percent(best['val_top1_error'])}",
        fontsize=10.5,
        fontweight="bold",
    )
    _note(
        figure,
        0.12,
        "Training is measured while the weights change, with augmentation and dropout: "
        "it may lie above validation.",
        fontsize=_SMALL,
        color=_GREY,
    )
    for panel in _panels(subject.classes):
        axes = _axes(figure, panel, records)
        if panel.key != "top5_error":
            _label_divisions(axes, records)
        if panel.key == "top1_error":
            _mark_best(axes, best)
    return figure


def _panels(classes: int) -> list[_Panel]:
    two = classes > _TOP
    rank = "top-1 " if two else ""
    panels = [
        _loss_panel(classes, _TOP_EDGE - (_UPPER if two else _TOP_EDGE - _BOTTOM)),
        _error_panel(f"{rank}error (%)", 1, classes, (_RIGHT, _TOP_EDGE)),
    ]
    if two:
        panels.append(_error_panel("top-5 error (%)", _TOP, classes, (_LEFT, _BOTTOM + _LOWER)))
    return panels


def _loss_panel(classes: int, bottom: float) -> _Panel:
    chance = math.log(classes)
    label = f"chance: ln {classes:,} = {chance:.2f}"
    box = (_LEFT, bottom, _PANEL_WIDTH, _TOP_EDGE - bottom)
    return _Panel("loss", "loss", 1, chance, label, box)


def _error_panel(title: str, rank: int, classes: int, corner: tuple[float, float]) -> _Panel:
    """The panel of top-1 or top-5 errors; `corner` is its upper left one."""
    chance = 100 * (1 - rank / classes)
    box = (corner[0], _BOTTOM, _PANEL_WIDTH, corner[1] - _BOTTOM)
    return _Panel(title, f"top{rank}_error", 100, chance, f"chance: {chance:.3g} %", box)


def _note(figure: Figure, height: float, text: str, **style: Any) -> None:
    """Text at the left edge, at a height in inches."""
    left = 0.15 / _WIDTH
    figure.text(left, height / _HEIGHT, text, va="center", parse_math=False, **style)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2f} %"


def _axes(figure: Figure, panel: _Panel, records: Records) -> Axes:
    """Draws a panel's lines with their labels, chance, and where the rate is divided."""
    from matplotlib.ticker import MaxNLocator

    left, bottom, width, height = panel.box
    axes = figure.add_axes((left / _WIDTH, bottom / _HEIGHT, width / _WIDTH, height / _HEIGHT))
    epochs = [record["epoch"] for record in records]
    first, last = epochs[0], epochs[-1]
    margin = max(0.5, 0.03 * (last - first))
    axes.set_xlim(first - min(margin, 0.9), last + margin)  # without a tick at 0
    if last - first < _TICKED_EPOCHS:
        axes.set_xticks(epochs)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    lines = {part: _column(records, f"{part}_{panel.key}", panel.scale) for part in _PARTS}
    finite = [value for line in lines.values() for value in line if math.isfinite(value)]
    largest = max(finite, default=0.0)  # a validation loss can be NaN
    with_chance = panel.chance <= _NEAR * largest
    axes.set_ylim(0, 1.12 * max(largest, panel.chance if with_chance else 0) or 1)
    axes.yaxis.set_major_locator(MaxNLocator(3 + round(height), steps=[1, 2, 5, 10]))
    axes.vlines(
        [epoch - 0.5 for epoch, _ in _divisions(records)],
        *axes.get_ylim(),
        color=_PALE,
        linewidth=1,
        zorder=0,
    )
    _draw_chance(axes, panel, with_chance)
    for part, values in lines.items():
        marker = {} if len(epochs) <= _MARKED_EPOCHS else {"marker": ""}
        style = _PARTS[part] | marker
        axes.plot(epochs, values, linewidth=1.5, markersize=4, clip_on=False, **style)
    _label_ends(axes, {part: values[-1] for part, values in lines.items()}, last)
    axes.tick_params(labelsize=_MEDIUM)
    pad = 16 if bottom + height == _TOP_EDGE else 4  # labels of divisions are between
    axes.set_title(panel.title, loc="left", fontsize=10, pad=pad)
    if bottom == _BOTTOM:
        axes.set_xlabel("epoch", fontsize=_MEDIUM)
    else:
        axes.tick_params(labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _column(records: Records, key: str, scale: float) -> list[float]:
    return [scale * float(record[key]) for record in records]


def _draw_chance(axes: Axes, panel: _Panel, inside: bool) -> None:
    """A line where a net that has learned nothing is, or a note that it is above the panel."""
    style: dict[str, Any] = {"fontsize": _SMALL, "color": _GREY, "ha": "right", "bbox": _BEHIND}
    if inside:
        axes.axhline(panel.chance, color=_GREY, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            panel.chance_label,
            (1, panel.chance),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            **style,
        )
    else:
        axes.text(1, 0.98, f"{panel.chance_label} ↑", transform=axes.transAxes, va="top", **style)


def _label_ends(axes: Axes, ends: dict[str, float], last: int) -> None:
    """The lines' names at their right ends, moved apart where they would overlap."""
    points = axes.bbox.height * 72 / axes.figure.dpi / axes.get_ylim()[1]
    lower, upper = sorted(ends, key=ends.__getitem__)
    low, high = points * ends[lower], points * ends[upper]
    overlap = max(0.0, 1.3 * _MEDIUM - (high - low)) / 2
    low = max(low - overlap, 0.5 * _MEDIUM)  # above the axis
    high = max(high + overlap, low + 1.3 * _MEDIUM)
    for part, height in ((lower, low), (upper, high)):
        axes.annotate(
            _PARTS[part]["label"],
            (last, 0),
            (9, height),
            textcoords="offset points",
            va="center",
            fontsize=_MEDIUM,
            color=_PARTS[part]["color"],
        )


def _divisions(records: Records) -> list[tuple[int, float]]:
    """The first epochs of lower rates, and by how much these are lower.

    A rate that falls little by little, as along a cosine, has none.
    """
    falls = [
        (record["epoch"], before["lr"] / record["lr"])
        for before, record in pairwise(records)
        if 0 < record["lr"] < before["lr"]
    ]
    steps = [(epoch, ratio) for epoch, ratio in falls if ratio >= _STEP]
    return steps if 2 * len(steps) > len(falls) else []


def _label_divisions(axes: Axes, records: Records) -> None:
    """Writes "rate ÷ 10" above the lines of `_divisions`, where there is room."""
    first, last = axes.get_xlim()
    points = axes.bbox.width * 72 / axes.figure.dpi / (last - first)
    free = -math.inf
    for epoch, ratio in _divisions(records):
        text = f"÷ {ratio:.3g}" if free > 0 else f"rate ÷ {ratio:.3g}"
        at, half = points * (epoch - 0.5 - first), 0.3 * _SMALL * len(text)
        if at - half < free:
            continue
        free = at + half + 4
        axes.annotate(
            text,
            (epoch - 0.5, 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=_SMALL,
            color=_GREY,
        )


def _mark_best(axes: Axes, best: dict[str, Any]) -> None:
    """A ring around the lowest validation error, and its value beside it."""
    at = (best["epoch"], 100 * best["val_top1_error"])
    colour = _VAL["color"]
    (ring,) = axes.plot(*at, "o", markersize=10, markerfacecolor="none", color=colour)
    ring.set_clip_on(False)
    text = f"{_percent(best['val_top1_error'])} after epoch {best['epoch']}"
    axes.annotate(
        text,
        at,
        _free_place(axes, at, text),
        textcoords="figure pixels",
        ha="center",
        va="center",
        fontsize=_MEDIUM,
        fontweight="bold",
        color=colour,
        bbox=_BEHIND,
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkB": 5},
    )


def _free_place(axes: Axes, at: tuple[float, float], text: str) -> tuple[float, float]:
    """The centre, in pixels, nearest to a point of the data at which a text covers least."""
    from matplotlib.transforms import Bbox

    pixel = axes.figure.dpi / 72
    half = np.array([0.36 * len(text), 0.7]) * _MEDIUM * pixel
    lines = np.concatenate([_pixels_of(line) for line in axes.get_lines()])
    taken = [text.get_window_extent() for text in axes.texts]
    offsets = sorted(
        product(range(-150, 151, 30), [*range(-100, -19, 8), *range(20, 101, 8)]),
        key=lambda offset: math.hypot(offset[0], 2 * offset[1]),
    )

    def covered(centre: Floats) -> int:
        """Points of lines that a text at `centre` covers; texts and edges count for many."""
        low, high = centre - half, centre + half
        inside = axes.bbox.x0 <= low[0] and high[0] <= axes.bbox.x1
        inside = inside and axes.bbox.y0 <= low[1] and high[1] <= axes.bbox.y1
        texts = sum(box.overlaps(Bbox([low, high])) for box in taken)
        points = ((lines > low) & (lines < high)).all(axis=1).sum()
        return int(points) + _MANY * (texts + (not inside))

    origin = axes.transData.transform(at)
    centres = [origin + pixel * np.array(offset) for offset in offsets]
    x, y = min(centres, key=covered)
    return float(x), float(y)


def _pixels_of(line: Line2D) -> Floats:
    """Points of a line, about a pixel apart."""
    corners = line.get_transform().transform(line.get_xydata())
    place = np.arange(len(corners))
    dense = np.linspace(0, len(corners) - 1, 2000)
    return np.stack([np.interp(dense, place, corners[:, axis]) for axis in (0, 1)], axis=1)
