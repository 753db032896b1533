"""All that changes in a run, saved and restored as one thing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from pyalexnet.data import Dataset
from pyalexnet.data.dataset import Colour
from pyalexnet.device import Floats
from pyalexnet.errors import CheckpointError
from pyalexnet.model import Model
from pyalexnet.nn.optim import SGD
from pyalexnet.nn.schedules import schedule, warm_up
from pyalexnet.training.checkpoint import Checkpoint, Progress
from pyalexnet.training.plan import Plan


class TrainingState:
    """Model, optimiser, schedule and progress of a run.

    Parameters
    ----------
    plan : Plan
    model : Model

    Attributes
    ----------
    optimiser : SGD
    schedule : Schedule
    progress : Progress
    """

    def __init__(self, plan: Plan, model: Model) -> None:
        self.model = model
        self.optimiser = SGD(
            model,
            lr=plan.lr,
            bias_lr=plan.bias_lr,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
        )
        self.schedule = schedule(plan.schedule, plan.epochs)
        self.progress = Progress(schedule=self.schedule.state())
        self._plan = plan

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Takes up what a checkpoint has, but for the model's totals, which are of all processes.

        Raises
        ------
        CheckpointError
            The tensors do not fit the net; the message names `path`.
        """
        try:
            self.model.load_state(checkpoint.model)
            self.optimiser.load_state(checkpoint.optimiser)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        self.progress = checkpoint.progress
        if self._plan.schedule == checkpoint.options["schedule"]:
            self.schedule.load_state(self.progress.schedule)
        else:  # another schedule: starts from the learning rate that there was
            self.schedule.drops = int(self.progress.schedule["drops"])
            self.schedule.after_epoch(self.progress.epoch, math.inf)
        self.progress.schedule = self.schedule.state()

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the schedule has ended the run."""
        return self.progress.epoch >= self._plan.epochs or self.schedule.ended

    def set_rate(self, steps: int) -> None:
        """Sets the rate of the next step in an epoch of so many, or of the last one after it."""
        epoch, position = self.progress.epoch, min(self.progress.position, steps - 1)
        factor = self.schedule.factor(epoch + position / steps)
        factor *= warm_up(epoch + (position + 1) / steps, self._plan.warmup)
        if factor != self.optimiser.factor:
            self.optimiser.factor = factor

    def end_epoch(self, error: float) -> bool:
        """Takes note of an epoch's validation error; whether it is the lowest so far."""
        progress = self.progress
        is_best = progress.best is None or error < progress.best
        if is_best:
            progress.best, progress.best_epoch = error, progress.epoch + 1
        self.schedule.after_epoch(progress.epoch + 1, error)
        progress.schedule = self.schedule.state()
        return is_best

    def checkpoint(
        self, dataset: Dataset, mean: Floats | None, colour: Colour | None
    ) -> Checkpoint:
        """What `restore` needs, and what makes the net usable alone."""
        return Checkpoint(
            net=self._plan.net,
            classes=dataset.classes,
            image_shape=dataset.train.shape,
            model=self.model.state(),
            optimiser=self.optimiser.state(),
            mean=mean,
            colour=colour,
            data={
                "spec": self._plan.options["data"],
                "name": dataset.name,
                "train": len(dataset.train),
                "val": len(dataset.val),
                "val_share": dataset.val_share,
            },
            progress=self.progress,
            options=self._plan.options,
        )

    def checksums(self) -> list[int]:
        """CRC-32 of weights and momentum on each device."""
        return self.model.checksums() + self.optimiser.checksums()


def is_finite(checkpoint: Checkpoint) -> bool:
    """Whether all weights and momenta are finite numbers."""
    tensors = (*checkpoint.model.values(), *checkpoint.optimiser.values())
    return all(bool(np.isfinite(tensor).all()) for tensor in tensors)
