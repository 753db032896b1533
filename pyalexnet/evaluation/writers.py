"""Output of an evaluation: predictions as CSV or in ILSVRC's format, and a table of classes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyalexnet.evaluation.tally import ClassErrors, most_probable
from pyalexnet.nn.layers.loss import TOP, has_top5
from pyalexnet.text import cell, printable, shortened

_NAME = 32  # characters of a class's name in the table


class Writer(Protocol):
    """Writes images' probabilities, in the data set's order."""

    def add(
        self,
        names: Sequence[str],
        labels: NDArray[np.int32],
        probabilities: NDArray[np.float64],
    ) -> None:
        """Writes B images: names, labels (-1: skipped), and probabilities (B, classes)."""


class Table:
    """Predictions as CSV: a header, then one line per image.

    The columns are image, label and class, then label1, class1, probability1 to label5, class5,
    probability5 of the most probable classes, at most five. A skipped image has only its name.
    Names are as `text.cell` makes them.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    classes : list of str
        Names by label; two labels may have the same name.
    """

    def __init__(self, file: IO[str], classes: Sequence[str]) -> None:
        self._classes = classes
        self._writer = csv.writer(file, lineterminator="\n")
        ranks = range(1, min(TOP, len(classes)) + 1)
        self._columns = ["image", "label", "class"]
        self._columns += [f"{what}{i}" for i in ranks for what in ("label", "class", "probability")]
        self._writer.writerow(self._columns)

    def add(
        self,
        names: Sequence[str],
        labels: NDArray[np.int32],
        probabilities: NDArray[np.float64],
    ) -> None:
        """As `Writer`."""
        best = most_probable(probabilities)
        for name, label, row, top in zip(
            names, labels.tolist(), probabilities, best.tolist(), strict=True
        ):
            line: list[Any] = [cell(name)]
            if label >= 0:
                line += [label, cell(self._classes[label])]
                for other in top:
                    line += [other, cell(self._classes[other]), f"{row[other]:.6g}"]
            self._writer.writerow(line + [""] * (len(self._columns) - len(line)))


class Submission:
    """Predictions in ILSVRC's format: per image a line of five ILSVRC2012_IDs, best first.

    A skipped image has zeros, which are not a class, so that later lines keep their position.

    Parameters
    ----------
    file : text file
    ids : list of int
        The classes' ILSVRC2012_IDs by label.
    """

    def __init__(self, file: IO[str], ids: Sequence[int]) -> None:
        self._file = file
        self._ids = np.array(ids)

    def add(
        self,
        names: Sequence[str],
        labels: NDArray[np.int32],
        probabilities: NDArray[np.float64],
    ) -> None:
        """As `Writer`."""
        ids = np.where(labels[:, np.newaxis] < 0, 0, self._ids[most_probable(probabilities)])
        self._file.writelines(" ".join(map(str, row)) + "\n" for row in ids.tolist())


def class_table(rows: Sequence[ClassErrors], classes: Sequence[str]) -> str:
    """A table of the classes' errors, sorted by top-1 error, worst first, then by label.

    Top-5 errors are left out where they say nothing.
    """
    names = [shortened(printable(name), _NAME) for name in classes]
    width = max(len("class"), *map(len, names))
    shown = ["top-1 error", "top-5 error"][: 1 + has_top5(len(classes))]
    line = f"{{:>5}}  {{:{width}}}  {{:>7}}  {'{:>11}  ' * len(shown)}{{}}".format
    lines = [line("label", "class", "images", *shown, "most often mistaken for")]
    # Classes without images have no error and come last.
    for row in sorted(rows, key=lambda row: (not row.images, -row.top1_error if row.images else 0)):
        errors = [
            f"{100 * e:.2f} %" if row.images else "–" for e in (row.top1_error, row.top5_error)
        ][: len(shown)]
        other = row.mistaken_for
        taken = "" if other is None else f"{names[other]} ({row.mistaken:,})"
        lines.append(line(row.label, names[row.label], f"{row.images:,}", *errors, taken))
    return "\n".join(text.rstrip() for text in lines)
