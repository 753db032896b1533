"""Progress of a run: a bar on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyalexnet.model import Metrics
from pyalexnet.streams import Terminal, say
from pyalexnet.text import duration

if TYPE_CHECKING:
    from tqdm import tqdm

#: Without a terminal, an epoch has lines at so many equal parts of it, the last one its result's.
PARTS = 6
LONG = 300  #: steps of an epoch that has such lines
_WAITS = 0.05  # the share of an epoch's time that waiting for images may take unmentioned


class Display:
    """Prints to standard output; the bar is on standard error.

    Parameters
    ----------
    quiet : bool
        Show nothing, because the user or another process wants so.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._head = ""
        self._images, self._done = 1, 0  # of the epoch
        self._part_ends = self._long = False
        self._lr: float | None = None
        self._skipped = 0

    def line(self, text: str) -> None:
        """Prints a line."""
        if not self._quiet:
            say(text)

    def begin(self, epoch: int, epochs: int, images: int, done: int, batch: int) -> None:
        """Begins an epoch of so many images, of which `done` have been trained before."""
        self._head = f"epoch {epoch}/{epochs}"
        self._images, self._done, self._part_ends = images, done, False
        self._long = images >= LONG * batch
        if not self._quiet and self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=images,
                initial=done,
                desc=self._head,
                unit=" images",
                leave=False,
                dynamic_ncols=True,
                file=Terminal(),
            )

    def advance(self, images: int) -> None:
        """So many more images of the epoch have been trained."""
        before, self._done = self._done, self._done + images
        parts = before * PARTS // self._images, self._done * PARTS // self._images
        self._part_ends = parts[0] < parts[1] < PARTS
        if self._bar is not None:
            self._bar.update(images)

    def wants_line(self, step: int) -> bool:
        """Whether `measured` prints a line after this step.

        Where there is no terminal, it does after steps 1, 10 and 100 of a run, and at the end of a
        part of a long epoch.
        """
        if self._quiet or self._terminal:
            return False
        return step in (1, 10, 100) or (self._part_ends and self._long)

    def measured(self, step: int, metrics: Metrics, speed: float) -> None:
        """Shows loss and error of the epoch so far, and images a second."""
        if not metrics.images:
            return
        loss, error = metrics.loss, 100 * metrics.top1_error
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, error {error:.1f} %", refresh=False)
        elif self.wants_line(step):
            self.line(
                f"{self._head}  step {step:,}  training loss {loss:.4f}, error {error:.1f} %, "
                f"{speed:,.0f} images/s"
            )

    def end(self) -> None:
        """Removes the bar: the epoch is over, or interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def epoch(self, record: Mapping[str, Any], epochs: int) -> None:
        """Prints the result of one of so many epochs, its record in metrics.jsonl.

        That is a line of at most 100 characters, and one of what is out of the ordinary.
        """
        top5 = record.get("val_top5_error")
        left = (epochs - record["epoch"]) * record["seconds"]
        self.line(
            f"epoch {record['epoch']}/{epochs}  error {_percent(record['val_top1_error'])}, "
            + ("" if top5 is None else f"top-5 {_percent(top5)}, ")
            + f"loss {_loss(record['val_loss'])} "
            f"(training {_percent(record['train_top1_error'])}, {_loss(record['train_loss'])})"
            + (f", {_left(left)} left" if left >= 1 else "")
        )
        notes = []
        if self._lr not in (None, record["lr"]):
            notes.append(f"learning rate {record['lr']:g}")
        if record["data_share"] > _WAITS:
            notes.append(f"{100 * record['data_share']:.0f} % of the time waiting for images")
        if record["skipped"] != self._skipped:
            notes.append(f"{record['skipped']:,} images skipped")
        self._lr, self._skipped = record["lr"], record["skipped"]
        if notes:
            self.line("  " + "; ".join(notes))

    def weight_stats(self, by_parameter: Mapping[str, tuple[float, float]]) -> None:
        """Prints mean |w| and mean |Δw| of each parameter."""
        for name, (size, change) in by_parameter.items():
            self.line(f"  {name:<14} mean |w| {size:.3e}  mean |Δw| {change:.3e}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if loss < 100 else f"{loss:.3g}"


def _left(seconds: float) -> str:
    """As `duration`, without minutes where there are hours."""
    return duration(seconds) if seconds < 3600 else f"{seconds / 3600:,.0f} h"
