"""What a run tells its user: lines, the bar, metrics.jsonl, the curve, and advice in errors."""

from __future__ import annotations

import datetime
import math
import platform
import shlex
from pathlib import Path
from typing import Any

from pyalexnet.data import Dataset, find_source
from pyalexnet.data.reading import BadImage
from pyalexnet.errors import DataError, MachineError, UserError
from pyalexnet.model import Metrics, Totals
from pyalexnet.nn.layers.loss import has_top5
from pyalexnet.text import printable, version
from pyalexnet.training import recipes
from pyalexnet.training.chance import ChanceWatch
from pyalexnet.training.checkpoint import Progress
from pyalexnet.training.curve import Subject
from pyalexnet.training.display import Display
from pyalexnet.training.metrics import MetricsFile
from pyalexnet.training.plan import Plan
from pyalexnet.training.run_folder import BEST, HEADER, LAST, RECIPE, write_recipe
from pyalexnet.training.state import TrainingState

#: Options that change nothing in what a run computes.
_NOT_OF_A_RUN = {"output", "quiet", "verbose", "weight_stats"}


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
        self._recorded = False
        self._undrawn = ""  # why the curve could not be drawn

    def open_metrics(self, progress: Progress) -> None:
        """Opens metrics.jsonl, without epochs that `progress` has not seen; by the first process.

        Raises
        ------
        UserError
            It cannot be read or written.
        """
        subject = Subject(self._data_name(), self._plan.net.name, len(self._dataset.classes))
        self._metrics = MetricsFile(self._folder, progress.epoch, subject)

    def _data_name(self) -> str:
        """The data set's name; own images are known by their folder's."""
        source, path = find_source(self._plan.options["data"])
        if path is None or source.name != "folder":
            return self._dataset.name
        return printable(path.absolute().name)

    def add_epoch(self, record: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl, where it is open; errors as `open_metrics`."""
        if self._metrics is not None:
            self._metrics.add(record)

    def draw_curve(self, *, now: bool = True) -> None:
        """Draws the curve as `MetricsFile.draw`, if metrics.jsonl is open; says if it cannot."""
        problem = "" if self._metrics is None else self._metrics.draw(now=now)
        if problem and problem != self._undrawn:
            self.display.line(f"note    {printable(problem)}")
        self._undrawn = problem

    def write_recipe(self, device: str) -> None:
        """Writes run.toml, the options as decided; errors as `open_metrics`."""
        write_recipe(self._folder, self._recipe(device))

    def _recipe(self, device: str) -> str:
        given = self._plan.options
        decided = {
            name: value if name == "net" else getattr(self._plan, name, value)
            for name, value in given.items()
            if name not in _NOT_OF_A_RUN
        }
        decided["device"] = device
        command = shlex.join(["pyalexnet-train", "--recipe", f"{self._folder / RECIPE}"])
        return (
            f"{HEADER} {version()}. To repeat it, in\n"
            f"# {printable(str(Path.cwd()))}:\n"
            f"# {printable(command)} --output DIR\n" + recipes.text(decided)
        )

    def head(self, progress: Progress, device: str, processes: int, verbose: str = "") -> None:
        """Prints what is trained, on what, how and where; and the options that `verbose` names."""
        train, val = self._dataset.train, self._dataset.val
        plan, net, classes = self._plan, self._plan.net, len(self._dataset.classes)
        parameters = sum(parameter.size for parameter in net.parameters().values())
        replicas = f"{processes} replicas, the first on " if processes > 1 else ""
        lines = {
            "data": f"{self._data_name()}: {len(train):,} training and {len(val):,} validation "
            f"images of {'×'.join(map(str, train.shape))}, {classes} classes",
            "net": f"{net.name}: {parameters:,} parameters",
            "device": replicas + device,
            "train": f"{plan.epochs} epochs, batch {plan.batch_size}, learning rate {plan.lr:g} "
            f"({plan.schedule}), momentum {plan.momentum:g}, weight decay {plan.weight_decay:g}",
            "chance": f"error {100 * (1 - 1 / classes):.1f} %, loss {math.log(classes):.4f}",
            "output": str(self._folder),
        }
        if plan.fitted:
            lines["fit"] = plan.fitted
        for name, words in lines.items():
            self.display.line(f"{name:<8}{words}")
            notes = {"data": self._dataset.notes, "net": (plan.border,) if plan.border else ()}
            for note in notes.get(name, ()):
                self.display.line(f"{'':<8}{note}")
        if verbose:
            self.display.line(self._recipe(verbose).rstrip())
        if progress.step and progress.epoch < plan.epochs:
            self.display.line(
                f"resumed after step {progress.step:,}, epoch {progress.epoch} of {plan.epochs}"
            )

    def begin_epoch(self, progress: Progress) -> None:
        """An epoch begins, or is resumed."""
        images = len(self._dataset.train)
        done = min(progress.position * self._plan.batch_size, images)
        batch = self._plan.batch_size
        self.display.begin(progress.epoch + 1, self._plan.epochs, images, done, batch)

    def running(self, progress: Progress, totals: Totals) -> None:
        """Shows the epoch's loss so far."""
        speed = totals.images / max(progress.seconds, 1e-9)
        self.display.measured(progress.step, totals.metrics(), speed)

    def at_chance(self, watch: ChanceWatch) -> None:
        """Advises on a loss that has stayed where guessing has it."""
        plan, classes = self._plan, len(self._dataset.classes)
        self.display.line(
            f"note    the loss has been at chance, ln {classes} = {watch.chance:.3f}, for "
            f"{watch.stayed} steps: the net does not learn. Try --lr {plan.lr / 4:.2g} (it is "
            f"{plan.lr:g}), --warmup 1, or another initialisation (docs/recipes.md)"
        )

    def record(
        self, state: TrainingState, validation: Metrics, training: Metrics
    ) -> dict[str, Any]:
        """The record of an epoch, for `end_epoch` and `add_epoch`.

        The first one of a process says when and where it was written, and by which version.
        """
        progress, optimiser = state.progress, state.optimiser
        record: dict[str, Any] = {"epoch": progress.epoch + 1, "step": progress.step}
        names = ["loss", "top1_error"]
        if has_top5(len(self._dataset.classes)):
            names.append("top5_error")
        for part, metrics in (("train", training), ("val", validation)):
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
        if not self._recorded:
            now = datetime.datetime.now(datetime.timezone.utc).astimezone()
            record |= {"date": now.isoformat(timespec="seconds")}
            record |= {"host": platform.node(), "version": version()}
        self._recorded = True
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
            f"done: lowest validation error {100 * progress.best:.2f} %, after epoch "
            f"{progress.best_epoch}, kept in {self._folder / BEST}"
        )

    def nothing_left(self, progress: Progress) -> None:
        """Prints that a resumed run had been trained to its end, and how to go on."""
        epochs = self._plan.epochs
        more = self._command("--epochs", str(epochs + max(1, epochs // 2)))
        best = "" if progress.best is None else f", lowest error {100 * progress.best:.2f} %"
        self.display.line(
            f"nothing left: {progress.epoch} of {epochs} epochs are done{best}; go on with: {more}"
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

    def failed(self, error: UserError, saved: bool, skips: bool) -> UserError:
        """The error that ends a run, such as an image that cannot be read, with advice."""
        advice = str(error)
        if isinstance(error, BadImage) and skips:
            advice += "; --skip-bad-images leaves such images out and counts them"
        if saved:
            advice += f"; saved {self._folder / LAST}; resume with: {self._command()}"
        elif (self._folder / LAST).exists():
            advice += f"; {self._folder / LAST} is from before; resume with: {self._command()}"
        return (MachineError if isinstance(error, MachineError) else DataError)(advice)

    def _command(self, *more: str) -> str:
        return shlex.join(["pyalexnet-train", "--resume", str(self._folder), *more])
