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
from pyalexnet.nn.schedules import schedule
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
        self.schedule = schedule(plan.schedule)
        self.progress = Progress()
        self._plan = plan
        self._follow_schedule()

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
        self._follow_schedule()

    def end_epoch(self, error: float) -> bool:
        """Takes note of an epoch's validation error; whether it is the lowest so far."""
        progress = self.progress
        is_best = progress.best is None or error < progress.best
        if is_best:
            progress.best, progress.best_epoch = error, progress.epoch + 1
        self.schedule.after_epoch(progress.epoch + 1, error)
        self._follow_schedule()
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

    def _follow_schedule(self) -> None:
        self.optimiser.factor = self.schedule.factor
        self.progress.schedule = self.schedule.state()


def is_finite(checkpoint: Checkpoint) -> bool:
    """Whether all weights and momenta are finite numbers."""
    tensors = (*checkpoint.model.values(), *checkpoint.optimiser.values())
    return all(bool(np.isfinite(tensor).all()) for tensor in tensors)
