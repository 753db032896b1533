"""Results of a run: one line of JSON per epoch, and when the learning curve is drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pyalexnet import files
from pyalexnet.errors import UserError
from pyalexnet.training import curve

LINES, CURVE = "metrics.jsonl", "curve.png"

#: What every record has.
_NUMBERS = ("epoch", "train_loss", "train_top1_error", "val_loss", "val_top1_error", "lr")
_BYTES = 1 << 28  # of the file at most; an epoch has some 400
_DRAW_SECONDS = 30  # between drawings, which take half a second


class MetricsFile:
    """The files `metrics.jsonl` and `curve.png` of a run's folder.

    Parameters
    ----------
    folder : Path
    after : int
        Lines of later epochs are removed, because a resumed run trains these again. So is a line
        that a crash has cut off, or that is damaged otherwise.
    subject : curve.Subject
        What the curve's title names.

    Attributes
    ----------
    records : list of dict
        The lines so far. Keys: epoch, step; train_loss, train_top1_error, train_top5_error,
        val_loss, val_top1_error, val_top5_error (errors 0..1, top-5 only of more than five classes;
        those of training are measured while training, with dropout); lr, bias_lr;
        images_per_second; seconds (of training), data_seconds and data_share (the part of it spent
        waiting for images, in seconds and 0..1); skipped (unreadable images). The first line of a
        process has date (ISO 8601), host and version, too.

    Raises
    ------
    UserError
        A file cannot be read or written.
    """

    def __init__(self, folder: Path, after: int, subject: curve.Subject) -> None:
        self._lines = folder / LINES
        self._curve = folder / CURVE
        self._subject = subject
        self._drawn = time.monotonic()
        self.records: list[dict[str, Any]] = []
        try:
            if not self._lines.exists():
                return
            self.records += [record for record in read(folder) if record["epoch"] <= after]
            files.replace(self._lines, "".join(map(_line, self.records)).encode())
        except OSError as error:
            raise UserError(f"{self._lines}: {error.strerror}") from error

    def add(self, record: dict[str, Any]) -> None:
        """Appends an epoch's line."""
        self.records.append(record)
        with files.naming(self._lines), self._lines.open("a", encoding="utf-8") as file:
            file.write(_line(record))

    def draw(self, *, now: bool = True) -> str:
        """Draws the curve, if there are epochs; unless `now`, only some time after the last time.

        Returns why that failed, "" if it did not: a picture is no reason to end a run.
        """
        if not self.records or not (now or time.monotonic() - self._drawn > _DRAW_SECONDS):
            return ""
        self._drawn = time.monotonic()
        try:
            files.replace(self._curve, curve.png(self.records, self._subject))
        except UserError as error:
            return str(error)
        except Exception as error:  # of Matplotlib, or of its configuration
            return f"{self._curve}: cannot be drawn: {type(error).__name__}: {error}"
        return ""


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's folder, as `MetricsFile.records`; a damaged line is left out.

    Raises
    ------
    UserError
        There is no such file, or it cannot be read.
    """
    lines = files.read_bytes(folder / LINES, _BYTES, UserError).decode(errors="replace")
    return [record for record in map(_record, lines.split("\n")) if record is not None]


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _record(line: str) -> dict[str, Any] | None:
    """The record of a line; None if it is cut off, or no record of an epoch."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not all(map(_is_number, map(record.get, _NUMBERS))):
        return None
    flat = all(_is_number(value) or isinstance(value, str) for value in record.values())
    return record if flat and type(record["epoch"]) is int else None


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
