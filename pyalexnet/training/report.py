"""What a run tells its user: lines, the bar, metrics.jsonl, the curve, and advice in errors."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyalexnet.data import Dataset, WorkerDied
from pyalexnet.errors import DataError, UserError
from pyalexnet.model import Metrics, Totals
from pyalexnet.training.checkpoint import Progress
from pyalexnet.training.display import Display
from pyalexnet.training.metrics import MetricsFile
from pyalexnet.training.plan import Plan
from pyalexnet.training.run_folder import BEST, LAST
from pyalexnet.training.state import TrainingState


class Diverged(UserError):
    """The loss, or a weight, is no longer a finite number."""


class Report:
    """Tells how a run goes.

    Of several processes, the first writes and prints; the others have a silent one.

    Parameters
    ----------
    folder : Path
        The run's.
    plan : Plan
    dataset : Dataset
    display : Display
    """

    def __init__(self, folder: Path, plan: Plan, dataset: Dataset, display: Display) -> None:
        self.display = display
        self._folder, self._plan, self._dataset = folder, plan, dataset
        self._metrics: MetricsFile | None = None

    def open_metrics(self, progress: Progress) -> None:
        """Opens metrics.jsonl, without epochs that `progress` has not seen; by the first process.

        Raises
        ------
        UserError
            It cannot be read or written.
        """
        self._metrics = MetricsFile(self._folder, after=progress.epoch)

    def add_epoch(self, record: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl, where it is open; errors as `open_metrics`."""
        if self._metrics is not None:
            self._metrics.add(record)

    def draw_curve(self) -> None:
        """Draws the curve, where metrics.jsonl is open; errors as `open_metrics`."""
        if self._metrics is not None:
            self._metrics.draw()

    def head(self, progress: Progress, device: str, processes: int) -> None:
        """Prints what is trained, on what and where."""
        train, val = self._dataset.train, self._dataset.val
        net = self._plan.net
        self.display.line(
            f"data    {self._dataset.name}: {len(train):,} + {len(val):,} images of "
            f"{'×'.join(map(str, train.shape))}, {len(self._dataset.classes)} classes"
        )
        for note in self._dataset.notes:
            self.display.line(f"        {note}")
        parameters = sum(parameter.size for parameter in net.parameters().values())
        self.display.line(f"net     {net.name}: {parameters:,} parameters")
        replicas = f"{processes} replicas, the first on " if processes > 1 else ""
        self.display.line(f"device  {replicas}{device}")
        self.display.line(f"output  {self._folder}")
        if progress.step:
            self.display.line(
                f"resumed after step {progress.step:,}, epoch {progress.epoch} of "
                f"{self._plan.epochs}"
            )

    def begin_epoch(self, progress: Progress) -> None:
        """An epoch begins, or is resumed."""
        images = len(self._dataset.train)
        done = min(progress.position * self._plan.batch_size, images)
        self.display.begin(progress.epoch + 1, self._plan.epochs, images, done)

    def running(self, progress: Progress, totals: Totals) -> None:
        """Shows the epoch's loss so far."""
        speed = totals.images / max(progress.seconds, 1e-9)
        self.display.measured(progress.step, totals.metrics(), speed)

    def record(
        self, state: TrainingState, validation: Metrics, training: Metrics
    ) -> dict[str, Any]:
        """The record of an epoch, for `end_epoch` and `add_epoch`."""
        progress, optimiser = state.progress, state.optimiser
        record: dict[str, Any] = {"epoch": progress.epoch + 1, "step": progress.step}
        for part, metrics in (("train", training), ("val", validation)):
            names = ("loss", "top1_error", "top5_error")
            record |= {f"{part}_{name}": getattr(metrics, name) for name in names}
        record |= {
            "lr": optimiser.lr * optimiser.factor,
            "bias_lr": optimiser.bias_lr * optimiser.factor,
            "images_per_second": training.images / progress.seconds,
            "seconds": progress.seconds,
            "data_seconds": progress.data_seconds,
            "data_share": progress.data_seconds / progress.seconds,
            "skipped": self._dataset.train.skipped + self._dataset.val.skipped,
        }
        return record

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Prints an epoch's record."""
        self.display.epoch(record, self._plan.epochs)

    def stopped(self, progress: Progress, steps: int) -> None:
        """Prints that the run was stopped within an epoch of so many steps, and how to resume."""
        self.display.line(
            f"stopped after step {progress.step:,} (epoch {progress.epoch + 1}, "
            f"{progress.position} of {steps} steps); saved {self._folder / LAST}\n"
            f"resume with: {self._command()}"
        )

    def done(self, progress: Progress) -> None:
        """Prints the result of the whole run."""
        assert progress.best is not None
        self.display.line(
            f"done: lowest validation top-1 error {100 * progress.best:.2f} % after epoch "
            f"{progress.best_epoch}, kept in {self._folder / BEST}"
        )

    def diverged(self, progress: Progress) -> Diverged:
        """The error of a loss or weight that is not finite, with advice."""
        lr = self._plan.lr
        advice = (
            f"training diverged by step {progress.step:,}: the loss or a weight is not a finite "
            f"number. Try a lower --lr (it was {lr:g}), such as {lr / 10:g}, or smaller initial "
            "weights"
        )
        last = self._folder / LAST
        if not last.exists():
            return Diverged(f"{advice}; no checkpoint had been saved yet")
        command = self._command("--lr", f"{lr / 10:g}")
        return Diverged(f"{advice}; {last} is from before; resume it with: {command}")

    def unreadable(self, error: DataError, progress: Progress, skips: bool) -> DataError:
        """The error of an image that cannot be read, with advice."""
        advice = str(error)
        if not isinstance(error, WorkerDied) and skips:
            advice += "; --skip-bad-images leaves such images out and counts them"
        if progress.step:
            advice += f"; saved {self._folder / LAST}; resume with: {self._command()}"
        return DataError(advice)

    def _command(self, *more: str) -> str:
        parts: Sequence[str] = ["pyalexnet-train", "--resume", "--output", str(self._folder), *more]
        return shlex.join(parts)
