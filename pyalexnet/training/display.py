"""Progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyalexnet.model import Metrics
from pyalexnet.text import duration

if TYPE_CHECKING:
    from tqdm import tqdm


class Display:
    """Prints to standard output; the bar is on standard error.

    Parameters
    ----------
    progress : bool
        Show progress within an epoch. Results of epochs are printed in any case.
    silent : bool
        Show nothing, because another process does.
    """

    def __init__(self, progress: bool, silent: bool = False) -> None:
        self._progress = progress and not silent
        self._silent = silent
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._head = ""

    def line(self, text: str) -> None:
        """Prints a line."""
        if not self._silent:
            print(text, flush=True)

    def begin(self, epoch: int, epochs: int, images: int, done: int) -> None:
        """Begins an epoch of so many images, of which `done` have been trained before."""
        self._head = f"epoch {epoch}/{epochs}"
        if self._progress and self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=images,
                initial=done,
                desc=self._head,
                unit=" images",
                leave=False,
                dynamic_ncols=True,
            )

    def wants_line(self, step: int) -> bool:
        """Whether `measured` prints a line after this step: the 1st, 10th and every 100th."""
        wanted = step in (1, 10) or step % 100 == 0
        return self._progress and not self._terminal and wanted

    def advance(self, images: int) -> None:
        """Moves the bar on by so many images."""
        if self._bar is not None:
            self._bar.update(images)

    def measured(self, step: int, metrics: Metrics, speed: float) -> None:
        """Shows loss and error of the epoch so far, and images a second."""
        if not metrics.images:
            return
        loss, error = metrics.loss, 100 * metrics.top1_error
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, error {error:.1f} %", refresh=False)
        elif self.wants_line(step):
            self.line(
                f"{self._head}  step {step}  loss {loss:.4f}  error {error:.1f} %  "
                f"{speed:,.0f} images/s"
            )

    def end(self) -> None:
        """Removes the bar: the epoch is over, or interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def epoch(self, record: Mapping[str, Any], epochs: int) -> None:
        """Prints the result of one of so many epochs, its record in metrics.jsonl."""

        def errors(part: str) -> str:
            names = ("loss", "top1_error", "top5_error")
            loss, top1, top5 = (record[f"{part}_{name}"] for name in names)
            return f"loss {loss:.4f}, top-1 {100 * top1:.2f} %, top-5 {100 * top5:.2f} %"

        left = (epochs - record["epoch"]) * record["seconds"]
        skipped = f", {record['skipped']} images skipped" if record["skipped"] else ""
        self.line(
            f"epoch {record['epoch']}/{epochs}  training {errors('train')}; "
            f"validation {errors('val')}; lr {record['lr']:g}, "
            f"{record['images_per_second']:,.0f} images/s, {duration(record['seconds'])}, "
            f"{100 * record['data_share']:.0f} % of it waiting for images{skipped}"
            + (f", {duration(left)} left" if left else "")
        )

    def weight_stats(self, by_parameter: Mapping[str, tuple[float, float]]) -> None:
        """Prints mean |w| and mean |Δw| of each parameter."""
        for name, (size, change) in by_parameter.items():
            self.line(f"  {name:<14} mean |w| {size:.3e}  mean |Δw| {change:.3e}")
