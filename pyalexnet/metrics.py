"""What a run has measured: a line of JSON for each epoch, and the curve as a picture."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from pyalexnet.errors import UserError

LINES, CURVE = "metrics.jsonl", "curve.png"

_DRAW_SECONDS = 30  # between drawings, which take half a second


class Metrics:
    """The files `metrics.jsonl` and `curve.png` of a run's folder.

    Parameters
    ----------
    folder : Path
    after : int
        Lines of later epochs are removed, as a resumed run trains these again; so is a line cut off
        by a crash.

    Attributes
    ----------
    records : list of dict
        The lines so far. Keys: epoch, step, train_loss, train_top1, train_top5, val_loss, val_top1,
        val_top5 (errors 0..1; those of training are measured under way, with dropout), rate,
        bias_rate, images_per_second, seconds (training only), waited and waited_share (of these,
        in seconds and 0..1, the wait for images), skipped (unreadable images).

    Raises
    ------
    UserError
        A file cannot be read or written.
    """

    def __init__(self, folder: Path, after: int) -> None:
        self._lines = folder / LINES
        self._curve = folder / CURVE
        self._drawn = time.monotonic()
        self.records: list[dict[str, Any]] = []
        try:
            if not self._lines.exists():
                return
            for line in self._lines.read_text(encoding="utf-8", errors="replace").splitlines():
                record = _record(line)
                if record is not None and record["epoch"] <= after:
                    self.records.append(record)
            _replace(self._lines, "".join(map(_line, self.records)).encode())
        except OSError as error:
            raise UserError(f"{self._lines}: {error.strerror}") from error

    def add(self, record: dict[str, Any]) -> None:
        """Appends an epoch's line; the curve is drawn where the last drawing is some time ago."""
        self.records.append(record)
        try:
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise UserError(f"{self._lines}: {error.strerror}") from error
        if time.monotonic() - self._drawn > _DRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draws the curve, if there is any."""
        if not self.records:
            return
        try:
            _replace(self._curve, _picture(self.records))
        except OSError as error:
            raise UserError(f"{self._curve}: {error.strerror}") from error
        self._drawn = time.monotonic()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("epoch"), int) else None


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _picture(records: list[dict[str, Any]]) -> bytes:
    """Losses on the left and errors on the right as a PNG, by epochs."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, errors = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in records]
    styles = {"train": "--", "val": "-"}
    names = {"train": "training", "val": "validation"}
    for part, style in styles.items():
        losses.plot(epochs, _column(records, f"{part}_loss"), style, color="C0", label=names[part])
        for rank, colour in (("top1", "C1"), ("top5", "C2")):
            values = [100 * value for value in _column(records, f"{part}_{rank}")]
            label = f"{names[part]} top-{rank[-1]}"
            errors.plot(epochs, values, style, color=colour, label=label)
    before = records[0]["rate"]
    for record in records:
        if record["rate"] != before:
            for axes in (losses, errors):
                axes.axvline(record["epoch"] - 0.5, color="0.8", linewidth=1, zorder=0)
            before = record["rate"]
    for axes, label in ((losses, "loss"), (errors, "error (%)")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _column(records: list[dict[str, Any]], key: str) -> list[float]:
    return [float(record[key]) for record in records]
