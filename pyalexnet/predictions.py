"""What an evaluation writes: predictions as CSV or in ILSVRC's form, and a table of the classes."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyalexnet.errors import UserError
from pyalexnet.tally import TOP, ClassErrors, most_probable

_NAME = 32  # characters of a class's name in the table


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes errors of the system UserErrors that name `path`, which is being written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """A file to write, which becomes `path` once all is well; until then `path` is as it was.

    Text is UTF-8, but for file names in another encoding, whose bytes stay as they are.

    Raises
    ------
    UserError
        It cannot be written, which is mostly found at once.
    """
    target = path.expanduser().resolve()  # what a link leads to is replaced, not the link
    temporary = target.with_name(f".{target.name}.tmp")
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with naming(path):
        if target.exists() and not target.is_file():
            raise UserError(f"{path}: cannot be written: it is there, and is no regular file")
        file = temporary.open("wb") if binary else temporary.open("w", **text)
    try:
        yield file
        with naming(path):
            file.close()
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


class Writer(Protocol):
    """Something that takes the images' probabilities in their order."""

    def add(
        self,
        names: Sequence[str],
        labels: NDArray[np.int32],
        probabilities: NDArray[np.float64],
    ) -> None:
        """Writes B images: names, labels (-1 for one that is skipped), and (B, classes)."""


class Table:
    """Predictions as CSV: a header, then a line an image.

    Its columns are image, label and class, then label1, class1, probability1 to label5, class5,
    probability5 of the most probable classes, at most five. Of an image that was skipped there is
    its name only.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    classes : list of str
        Names by label; labels tell those apart that share one.
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
            line: list[Any] = [name]
            if label >= 0:
                line += [label, self._classes[label]]
                for other in top:
                    line += [other, self._classes[other], f"{row[other]:.6g}"]
            self._writer.writerow(line + [""] * (len(self._columns) - len(line)))


class Submission:
    """Predictions in ILSVRC's form: a line an image, five ILSVRC2012_IDs, the likeliest first.

    An image that was skipped has zeros, which are no class, for the lines' numbers are the images'.

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
    """The classes' errors as a table to read, the worst top-1 error first, else by label."""
    names = [shortened(name, _NAME) for name in classes]
    width = max(len("class"), *map(len, names))
    line = f"{{:>5}}  {{:{width}}}  {{:>7}}  {{:>11}}  {{:>11}}  {{}}".format
    lines = [line("label", "class", "images", "top-1 error", "top-5 error", "most often taken for")]
    # Those without images have no error, and come last.
    for row in sorted(rows, key=lambda row: (not row.images, -row.top1 if row.images else 0)):
        errors = [f"{100 * e:.2f} %" if row.images else "–" for e in (row.top1, row.top5)]
        other = row.mistaken_for
        taken = "" if other is None else f"{names[other]} ({row.mistaken:,})"
        lines.append(line(row.label, names[row.label], f"{row.images:,}", *errors, taken))
    return "\n".join(text.rstrip() for text in lines)


def shortened(name: str, width: int) -> str:
    """`name` in at most `width` characters: without its last synonyms, or cut off where it must."""
    while len(name) > width and ", " in name:  # as in "tench, Tinca tinca"
        name = name.rpartition(", ")[0]
    return name if len(name) <= width else f"{name[: width - 1].rstrip()}…"
