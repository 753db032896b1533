"""What a run shows while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Display:
    """Prints to standard output; the bar is on standard error.

    Parameters
    ----------
    progress : bool
        Whether to show how an epoch goes on; its result is printed in any case.
    silent : bool
        Show nothing at all: another process does.
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
        """An epoch of so many images begins, or goes on after those `done`."""
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
        """Whether `measured` prints a line after this step: in lines, early and then seldom."""
        wanted = step in (1, 10) or step % 100 == 0
        return self._progress and not self._terminal and wanted

    def advance(self, images: int) -> None:
        """So many images more have been trained."""
        if self._bar is not None:
            self._bar.update(images)

    def measured(self, step: int, totals: Sequence[float], speed: float) -> None:
        """Shows loss and error of the epoch so far: a model's raw totals; and images a second."""
        loss, right, _, images = totals
        if not images:
            return
        loss, error = loss / images, 100 * (1 - right / images)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, error {error:.1f} %", refresh=False)
        elif self.wants_line(step):
            self.line(
                f"{self._head}  step {step}  loss {loss:.4f}  error {error:.1f} %  "
                f"{speed:,.0f} images/s"
            )

    def end(self) -> None:
        """The epoch is over, or interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def epoch(self, record: Mapping[str, Any], epochs: int) -> None:
        """Prints what an epoch has come to: its line of `metrics.Metrics`; of so many epochs."""

        def errors(part: str) -> str:
            return (
                f"loss {record[f'{part}_loss']:.4f}, top-1 {100 * record[f'{part}_top1']:.2f} %, "
                f"top-5 {100 * record[f'{part}_top5']:.2f} %"
            )

        left = (epochs - record["epoch"]) * record["seconds"]
        skipped = f", {record['skipped']} images skipped" if record["skipped"] else ""
        self.line(
            f"epoch {record['epoch']}/{epochs}  training {errors('train')}; "
            f"validation {errors('val')}; rate {record['rate']:g}, "
            f"{record['images_per_second']:,.0f} images/s, {duration(record['seconds'])}, "
            f"{100 * record['waited_share']:.0f} % of it waiting for images{skipped}"
            + (f", {duration(left)} left" if left else "")
        )

    def magnitudes(self, by_parameter: Mapping[str, tuple[float, float]]) -> None:
        """Prints mean |w| and mean |Δw| of each parameter."""
        for name, (size, change) in by_parameter.items():
            self.line(f"  {name:<14} mean |w| {size:.3e}  mean |Δw| {change:.3e}")


def duration(seconds: float) -> str:
    """A time to read: "42 s", "3 min 5 s", "2 h 10 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
