"""Draws images with their predicted classes, as in the paper's figure 4 (left)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pyalexnet.data import load_image
from pyalexnet.errors import UserError
from pyalexnet.evaluation.predict import Prediction
from pyalexnet.text import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
MAX_IMAGES = 200  # more are slow to draw and hard to look at

_COLUMNS = 4  # a large figure has more, to be square

# Inches.
_SIDE, _CAPTION, _BAR, _GAP = 2.2, 0.3, 0.19, 0.2
_DPI = 150

_PIXELS = 360  # images are read with this many rows and columns: somewhat more than drawn
_CAPTION_WIDTH, _BAR_WIDTH = 30, 27  # characters that fit
_TRUE, _OTHER, _TRACK = "#ec8f89", "#aec7e8", "#f5f5f5"


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

    The caption of an image is its true class, with a red bar, or the file's name if the class is
    unknown. Images are cropped to squares, as for nets, but not reduced to the nets' sizes.

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    count = len(predictions)
    columns = min(count, max(_COLUMNS, math.ceil(math.sqrt(count))))
    rows = -(-count // columns)
    bars = _BAR * max(len(prediction.classes) for prediction in predictions)
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + bars + _GAP
    figure = Figure(figsize=(columns * width + _GAP, rows * height + _GAP), dpi=_DPI)
    FigureCanvasAgg(figure)
    for index, prediction in enumerate(predictions):
        row, column = divmod(index, columns)
        left, top = _GAP + column * width, _GAP + row * height
        assert prediction.path is not None  # the command's are all files
        _image(figure, (left, top, _SIDE, _SIDE), prediction.path)
        _caption(figure, (left, top + _SIDE, _SIDE, _CAPTION), prediction)
        _bars(figure, (left, top + _SIDE + _CAPTION, _SIDE, bars), prediction)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
        figure.savefig(file, format=kind.removeprefix("."))


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Any:
    """Axes without a frame; `box` is left, top, width and height in inches, from the top left."""
    left, top, width, height = box
    across, down = figure.get_size_inches()
    axes = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axes.set_axis_off()
    return axes


def _image(figure: Figure, box: tuple[float, float, float, float], path: Path) -> None:
    _axes(figure, box).imshow(load_image(path, _PIXELS), aspect="auto")


def _caption(
    figure: Figure, box: tuple[float, float, float, float], prediction: Prediction
) -> None:
    known = prediction.truth is not None
    text = prediction.truth or (prediction.path.name if prediction.path else "")
    _axes(figure, box).text(
        0.5,
        0.45,
        shortened(text, _CAPTION_WIDTH),
        ha="center",
        va="center",
        fontsize=9,
        fontweight="bold" if known else "normal",
        color="black" if known else "0.4",
        parse_math=False,
    )


def _bars(figure: Figure, box: tuple[float, float, float, float], prediction: Prediction) -> None:
    axes = _axes(figure, box)
    names = [name for name, _ in prediction.classes]
    shares = [share for _, share in prediction.classes]
    colours = [_TRUE if name == prediction.truth else _OTHER for name in names]
    rows = range(len(names))
    axes.barh(rows, 1, height=0.82, color=_TRACK)
    axes.barh(rows, shares, height=0.82, color=colours)
    axes.set_xlim(0, 1)
    axes.set_ylim(round(box[3] / _BAR) - 0.5, -0.5)  # the most probable at the top
    for row, name, share in zip(rows, names, shares, strict=True):
        style = {"va": "center_baseline", "fontsize": 8, "parse_math": False}
        axes.text(0.02, row, shortened(name, _BAR_WIDTH), ha="left", **style)
        axes.text(0.99, row, f"{100 * share:.1f} %", ha="right", color="0.25", **style)
