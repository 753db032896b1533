"""Draws images with their predicted classes, as in the paper's figure 4 (left)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pyalexnet.data import load_image
from pyalexnet.drawing import plain_style
from pyalexnet.errors import UserError
from pyalexnet.evaluation.predict import Prediction
from pyalexnet.text import printable, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
MAX_IMAGES = 200  # more are slow to draw and hard to look at

_COLUMNS = 4  # a large figure has more, to be square

# Inches.
_SIDE, _CAPTION, _BAR, _GAP = 2.2, 0.3, 0.19, 0.2
_HEADER = 0.3  # above the images, if the true class of any is known
_KEY_WIDTH = 6.5  # of a figure in whose header the marks are explained, too
_DPI = 150

_PIXELS = 360  # images are read with this many rows and columns: somewhat more than drawn
_CAPTION_WIDTH, _BAR_WIDTH = 28, 23  # characters that fit
_TRACK_END = 0.76  # of the width; percentages are to the right of it
_BAR_COLOUR, _TRACK = "#b7cfe8", "#f1f1f1"
_DARK, _WRONG = "#1a1a1a", "#b3261e"
_RIGHT_MARK, _WRONG_MARK = "\N{CHECK MARK}", "\N{BALLOT X}"


def check(path: Path, images: int) -> None:
    """Raises UserError unless `draw` supports the file's format and this number of images."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"figure is {path}; expected a name ending in {' or '.join(FORMATS)}")
    if images > MAX_IMAGES:
        raise UserError(
            f"figure {path}: number of images is {images}; expected at most {MAX_IMAGES}"
        )


def draw(file: IO[bytes], kind: str, predictions: Sequence[Prediction]) -> None:
    """Draws a grid of images, each above its most probable classes as bars.

    The caption of an image is its true class, or the file's name if that is unknown. A wrongly
    classified image has a cross and a frame, and comes before the others; the row of the true
    class is outlined, however small its probability. Images are cropped to squares, as for nets,
    but not reduced to the nets' sizes.

    Parameters
    ----------
    file : binary file
    kind : str
        One of `FORMATS`.
    predictions : sequence of Prediction
        At least one.

    Raises
    ------
    DataError
        An image can no longer be read.
    """
    with plain_style():
        grid(predictions).savefig(file, format=kind.removeprefix("."))


def grid(predictions: Sequence[Prediction]) -> Figure:
    """Returns the figure that `draw` writes; arguments and errors are as there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    known = [prediction for prediction in predictions if prediction.truth is not None]
    count = len(predictions)
    columns = min(count, max(_COLUMNS, math.ceil(math.sqrt(count))))
    rows = -(-count // columns)
    bars = _BAR * max(len(prediction.classes) for prediction in predictions)
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + bars + _GAP
    header = _HEADER if known else 0
    figure = Figure(figsize=(columns * width + _GAP, rows * height + _GAP + header), dpi=_DPI)
    FigureCanvasAgg(figure)
    if known:
        _header(figure, known, count)
    for index, prediction in enumerate(sorted(predictions, key=_is_wrong, reverse=True)):
        row, column = divmod(index, columns)
        left, top = _GAP + column * width, header + _GAP + row * height
        _image(figure, (left, top, _SIDE, _SIDE), prediction)
        _caption(figure, (left, top + _SIDE, _SIDE, _CAPTION), prediction)
        _bars(figure, (left, top + _SIDE + _CAPTION, _SIDE, bars), prediction)
    return figure


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Any:
    """Axes without a frame; `box` is left, top, width and height in inches, from the top left."""
    left, top, width, height = box
    across, down = figure.get_size_inches()
    axes = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axes.set_axis_off()
    return axes


def _is_wrong(prediction: Prediction) -> bool:
    return prediction.truth is not None and prediction.truth != prediction.classes[0][0]


def _header(figure: Figure, known: Sequence[Prediction], count: int) -> None:
    """The number of wrong images, and what marks them."""
    wrong = sum(map(_is_wrong, known))
    text = f"{wrong} of {len(known)} wrong"
    if len(known) < count:
        text += f", {count - len(known)} of unknown class"
    width = figure.get_size_inches()[0] - 2 * _GAP
    if width > _KEY_WIDTH:
        text += f" ({'framed, first; ' * (wrong > 0)}the true class is outlined)"
    axes = _axes(figure, (_GAP, _GAP / 2, width, _HEADER))
    axes.text(0, 0.5, text, va="center", fontsize=11, fontweight="bold")


def _image(figure: Figure, box: tuple[float, float, float, float], prediction: Prediction) -> None:
    assert prediction.path is not None  # the command's are all files
    axes = _axes(figure, box)
    axes.imshow(load_image(prediction.path, _PIXELS), aspect="auto")
    if _is_wrong(prediction):
        frame = {"transform": axes.transAxes, "fill": False, "clip_on": False}
        axes.add_patch(_rectangle((-0.012, -0.012), 1.024, 1.024, _WRONG, 3, **frame))


def _rectangle(
    corner: tuple[float, float], width: float, height: float, colour: str, line: float, **more: Any
) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, edgecolor=colour, linewidth=line, **more)


def _caption(
    figure: Figure, box: tuple[float, float, float, float], prediction: Prediction
) -> None:
    known, wrong = prediction.truth is not None, _is_wrong(prediction)
    text = shortened(
        printable(prediction.truth or (prediction.path.name if prediction.path else "")),
        _CAPTION_WIDTH,
    )
    if known:
        text = f"{_WRONG_MARK if wrong else _RIGHT_MARK} {text}"
    _axes(figure, box).text(
        0.5,
        0.42,
        text,
        ha="center",
        va="center",
        fontsize=9,
        fontweight="bold" if known else "normal",
        color=_WRONG if wrong else _DARK if known else "0.4",
        parse_math=False,
    )


def _bars(figure: Figure, box: tuple[float, float, float, float], prediction: Prediction) -> None:
    """Bars whose tracks end at `_TRACK_END`; the true class's is outlined and its name bold."""
    axes = _axes(figure, box)
    rows = range(len(prediction.classes))
    shares = [share for _, share in prediction.classes]
    axes.barh(rows, _TRACK_END, height=0.82, color=_TRACK)
    axes.barh(rows, [_TRACK_END * share for share in shares], height=0.82, color=_BAR_COLOUR)
    axes.set_xlim(0, 1)
    axes.set_ylim(round(box[3] / _BAR) - 0.5, -0.5)  # the most probable at the top
    for row, (name, share) in enumerate(prediction.classes):
        is_true = name == prediction.truth
        if is_true:
            outline = {"fill": False, "clip_on": False}
            axes.add_patch(_rectangle((0, row - 0.41), _TRACK_END, 0.82, _DARK, 1, **outline))
        style = {"va": "center_baseline", "fontsize": 8, "color": _DARK, "parse_math": False}
        width = _BAR_WIDTH - 3 * is_true  # bold letters are wider
        weight = "bold" if is_true else "normal"
        axes.text(
            0.02, row, shortened(printable(name), width), ha="left", fontweight=weight, **style
        )
        axes.text(1, row, f"{100 * share:.1f} %", ha="right", **style)
