"""Pictures and what they are taken for, as the paper's figure 4 (left)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pyalexnet.data import load_image
from pyalexnet.errors import UserError
from pyalexnet.predict import Prediction
from pyalexnet.predictions import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
MOST = 200  # images; more are neither quick to draw nor good to look at

_ACROSS = 4  # images in a row, but for a large figure

# Inches.
_SIDE, _CAPTION, _BAR, _GAP = 2.2, 0.3, 0.19, 0.2
_DPI = 150

_PIXELS = 360  # of a picture's side: rather more than drawn
_CAPTION_WIDTH, _BAR_WIDTH = 30, 27  # characters that fit
_RIGHT, _OTHER, _TRACK = "#ec8f89", "#aec7e8", "#f5f5f5"


def check(path: Path, images: int) -> None:
    """Raises UserError unless `draw` can make a figure of so many images for this file."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"figure {path}: expected a file name that ends in {' or '.join(FORMATS)}")
    if images > MOST:
        raise UserError(f"figure {path}: {images} images; expected at most {MOST}")


def draw(file: IO[bytes], kind: str, predictions: Sequence[Prediction]) -> None:
    """Draws a grid of images, each above its most probable classes as bars.

    Under an image stands its true class, whose bar is red, or its file's name where that is
    unknown. Images are cut to squares, as nets see them, but not reduced to the nets' sizes.

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
        An image cannot be read any more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    count = len(predictions)
    across = min(count, max(_ACROSS, math.ceil(math.sqrt(count))))
    down = -(-count // across)
    bars = _BAR * max(len(prediction.classes) for prediction in predictions)
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + bars + _GAP
    figure = Figure(figsize=(across * width + _GAP, down * height + _GAP), dpi=_DPI)
    FigureCanvasAgg(figure)
    for index, prediction in enumerate(predictions):
        row, column = divmod(index, across)
        left, top = _GAP + column * width, _GAP + row * height
        _picture(figure, (left, top, _SIDE, _SIDE), prediction.path)
        _caption(figure, (left, top + _SIDE, _SIDE, _CAPTION), prediction)
        _bars(figure, (left, top + _SIDE + _CAPTION, _SIDE, bars), prediction)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure.savefig(file, format=kind.removeprefix("."))


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Any:
    """Axes without a frame; `box` is left, top, width and height in inches from the top left."""
    left, top, width, height = box
    across, down = figure.get_size_inches()
    axes = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axes.set_axis_off()
    return axes


def _picture(figure: Figure, box: tuple[float, float, float, float], path: Path) -> None:
    _axes(figure, box).imshow(load_image(path, _PIXELS), aspect="auto")


def _caption(
    figure: Figure, box: tuple[float, float, float, float], prediction: Prediction
) -> None:
    known = prediction.truth is not None
    text = prediction.truth or prediction.path.name
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
    colours = [_RIGHT if name == prediction.truth else _OTHER for name in names]
    rows = range(len(names))
    axes.barh(rows, 1, height=0.82, color=_TRACK)
    axes.barh(rows, shares, height=0.82, color=colours)
    axes.set_xlim(0, 1)
    axes.set_ylim(round(box[3] / _BAR) - 0.5, -0.5)  # the likeliest at the top
    for row, name, share in zip(rows, names, shares, strict=True):
        style = {"va": "center_baseline", "fontsize": 8, "parse_math": False}
        axes.text(0.02, row, shortened(name, _BAR_WIDTH), ha="left", **style)
        axes.text(0.99, row, f"{100 * share:.1f} %", ha="right", color="0.25", **style)
