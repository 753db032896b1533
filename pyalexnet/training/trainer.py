"""The trainer: from options to a trained net's checkpoints, metrics and curve in a folder.

Everything random follows from the seed and the numbers of epoch, step and image, and everything
else that changes is in a checkpoint. So a run that was stopped anywhere and resumed gives the same
bits as one that never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyalexnet import data
from pyalexnet import device as devices
from pyalexnet.data.augmentation import colour_shifts, random_crops
from pyalexnet.data.dataset import Colour
from pyalexnet.device import Device, Floats, HostArray
from pyalexnet.device.planned import PlannedDevice, check_fits
from pyalexnet.errors import CheckpointError, DataError, UserError
from pyalexnet.model import Metrics, Model, Totals
from pyalexnet.nn.optim import SGD
from pyalexnet.parallel.communicator import Communicator, join
from pyalexnet.training import metrics
from pyalexnet.training.chance import ChanceWatch
from pyalexnet.training.checkpoint import Checkpoint, Progress, check_data, check_net
from pyalexnet.training.display import Display
from pyalexnet.training.interruption import Interruption
from pyalexnet.training.options import Options
from pyalexnet.training.plan import Plan, decide
from pyalexnet.training.report import Report
from pyalexnet.training.run_folder import BEST, LAST, Start, begin, clear, written
from pyalexnet.training.state import TrainingState, is_finite
from pyalexnet.training.validation import validate

# How often the running loss is read back; each read synchronises with the GPU.
_LOOK_STEPS, _LOOK_SECONDS = 32, 1.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    folder : Path
    interrupted : bool
        A signal stopped it; "last.safetensors" in `folder` can be resumed.
    progress : Progress
    """

    folder: Path
    interrupted: bool
    progress: Progress

    @property
    def history(self) -> list[dict[str, Any]]:
        """The epochs so far, as metrics.jsonl has them; see `MetricsFile.records`."""
        return metrics.read(self.folder)


def summary(**given: Any) -> str:
    """The net that `train` would train, as `Model.summary` shows it; errors as `train`'s."""
    model, optimiser = build(**given)
    return model.summary(optimiser)


def build(**given: Any) -> tuple[Model, SGD]:
    """The model that `train` would train, with its optimiser, but without memory for their arrays.

    Errors are `train`'s.
    """
    options = Options.of(given)
    options.check()
    found = devices.open(options.device, options.threads)
    dataset = data.open_dataset(
        options.data, size=options.stored_size(), val_share=options.val_share
    )
    return _planned(decide(options, dataset), [PlannedDevice(device) for device in found])


def _planned(plan: Plan, devices: Sequence[PlannedDevice], replicas: int = 1) -> tuple[Model, SGD]:
    """A replica's model and optimiser without memory."""
    model = Model(plan.net, devices, -(-plan.batch_size // replicas))
    return model, SGD(model)


def train(
    *,
    resume: bool | str | Path = False,
    overwrite: bool = False,
    on_step: Callable[[int], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    **given: Any,
) -> Outcome:
    """Trains a net, together with the other processes that an MPI launcher has started.

    Parameters
    ----------
    resume : bool, str or Path
        Go on from the last checkpoint in the output folder, with the options that it recorded;
        those `given` replace them. "auto": begin a run where there is no such checkpoint. A path:
        go on from this checkpoint, or from the last one in this folder; the output folder is the
        checkpoint's unless another is given.
    overwrite : bool
        Remove what a previous run left in the output folder.
    on_step : callable, optional
        Called with the number of steps done after each.
    on_epoch : callable, optional
        Called after each epoch, once it is saved, with its record as in `Outcome.history`.
    **given
        Fields of `Options`.

    Raises
    ------
    UserError
        Data, net, device, options or output folder cannot be used, or the run diverged. What had
        been saved stays.
    """
    given = {name: value for name, value in given.items() if value is not None}
    with join() as job:
        # The folder is the first process's, which may be the only one to have it.
        start = job.on_rank_0(lambda: begin(given, resume, overwrite))
        trainer = Trainer(job.raise_everywhere(partial(_set_up, start, set(given), job)), job)
        with ExitStack() as stack:
            job.on_rank_0(lambda: stack.enter_context(written(start.folder)))
            if overwrite:
                job.on_rank_0(lambda: clear(start.folder))
            interruption = stack.enter_context(Interruption())
            return trainer.run(interruption, on_step or _nothing, on_epoch or _nothing)


def _nothing(_: object) -> None:
    """What happens after a step or an epoch by default."""


class Setup(NamedTuple):
    """What a process has opened for a run, before it talks to the others."""

    plan: Plan
    folder: Path  #: for what the run writes
    dataset: data.Dataset
    devices: list[Device]
    state: TrainingState
    report: Report
    checkpoint: Checkpoint | None  #: to go on from


def _set_up(start: Start, given: set[str], job: Communicator) -> Setup:
    """Opens devices and data, decides the plan, and builds the model."""
    folder, options, path, checkpoint = start
    found = devices.open(job.local_devices(options.device), options.threads or job.cores)
    dataset = data.open_dataset(
        options.data,
        size=options.stored_size(),
        skip_bad=options.skip_bad_images,
        val_share=options.val_share,
    )
    saved = None if checkpoint is None or given & {"net", "dropout"} else checkpoint.net
    plan = decide(options, dataset, saved, job.cores)
    if plan.batch_size < job.size:
        raise UserError(
            f"batch-size is {plan.batch_size}; expected at least an image for each of the "
            f"{job.size} replicas"
        )
    if checkpoint is not None:
        check_net(path, checkpoint.net, plan.net)
        _check_same_data(path, checkpoint, dataset, options.data)
    planned = [PlannedDevice(device) for device in found]
    _planned(plan, planned, job.size)
    check_fits(planned, f"training net {plan.net.name} at batch-size {plan.batch_size}")
    model = Model(plan.net, found, -(-plan.batch_size // job.size), plan.seed)
    state = TrainingState(plan, model)
    if checkpoint is not None:
        state.restore(checkpoint, path)
        if job.rank == 0:  # the processes' totals are added up later
            model.set_totals(state.progress.totals)
    report = Report(folder, plan, dataset, Display(options.quiet or job.rank > 0))
    return Setup(plan, folder, dataset, found, state, report, checkpoint)


def _check_same_data(path: Path, checkpoint: Checkpoint, dataset: data.Dataset, spec: str) -> None:
    check_data(path, checkpoint, dataset)
    old, new = checkpoint.data["train"], len(dataset.train)
    if old != new:
        raise CheckpointError(f"{path}: training images are {old}; expected the {new} of {spec}")


class Trainer:
    """The loop over epochs and steps.

    All processes of a job have one and do the same; the first one writes and prints. The
    constructor agrees with the others, and measures the training set where that is needed.

    Parameters
    ----------
    setup : Setup
    job : Communicator

    Raises
    ------
    UserError
        No training image can be read, or the processes do not fit each other.
    """

    def __init__(self, setup: Setup, job: Communicator) -> None:
        self.plan, self.dataset, self.state = setup.plan, setup.dataset, setup.state
        self.job, self.report, self.folder = job, setup.report, setup.folder
        self.model, self._devices = setup.state.model, setup.devices
        self.steps = -(-len(self.dataset.train) // self.plan.batch_size)  # in an epoch
        self._chance = ChanceWatch(len(self.dataset.classes), self.steps)
        job.assert_equal("net", self.plan.net.to_json())
        sizes = len(self.dataset.train), len(self.dataset.val)
        job.assert_equal("data set", (self.dataset.name, *sizes))
        self._mean, self._colour = job.on_rank_0(lambda: self._statistics(setup.checkpoint))
        if self._mean is not None:
            self.model.set_mean_image(self._mean)
        self._gradient_sum = job.gradient_sum(self.model.parts)
        self._check_same_weights()

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        return self.state.progress

    def _statistics(self, checkpoint: Checkpoint | None) -> tuple[Floats | None, Colour | None]:
        """The mean image and, for colour noise, how colours vary: the checkpoint's, if there."""
        known, noise = self.dataset, self.plan.colour_noise > 0
        if checkpoint is not None:
            known = dataclasses.replace(
                known,
                mean=known.mean if checkpoint.mean is None else checkpoint.mean,
                colour=checkpoint.colour or known.colour,
            )
        uses_mean = self.plan.net.normalization.uses_mean_image
        if not (uses_mean or noise):
            return None, None
        mean, colour = data.measured(known, colour=noise, workers=self.plan.workers)
        return (mean if uses_mean else None), colour

    def run(
        self,
        interruption: Interruption,
        on_step: Callable[[int], None],
        on_epoch: Callable[[dict[str, Any]], None],
    ) -> Outcome:
        """Trains until all epochs are done or a signal stops the run."""
        job, progress, report = self.job, self.progress, self.report
        # Of several processes, each has another device.
        device = self.model.device_name if job.size == 1 else self.plan.options["device"]
        job.on_rank_0(lambda: report.write_recipe(device))
        job.on_rank_0(lambda: report.open_metrics(progress))
        verbose = device if self.plan.options["verbose"] else ""
        report.head(progress, self.model.device_words, job.size, verbose)
        already = self.state.finished
        training = self._loader(self.dataset.train, self.plan.seed)
        validation = self._loader(self.dataset.val, None)
        try:
            with training, validation:
                while not self.state.finished and not self._stops(interruption):
                    self._epoch(training, validation, interruption, on_step, on_epoch)
        except DataError as error:  # the user can mend an unreadable image
            if not job.failed_together:
                raise
            if progress.step:
                self._save(LAST)
            source, _ = data.find_source(self.plan.options["data"])
            advises = source.skips and not self.plan.skip_bad_images
            raise report.unreadable(error, progress, advises) from error
        finally:
            report.display.end()
        job.on_rank_0(report.draw_curve)
        finished = self.state.finished
        if already:
            report.nothing_left(progress)
        elif finished:
            report.done(progress)
        else:
            self._check_same_weights()
            self._save(LAST)
            report.stopped(progress, self.steps)
        return Outcome(self.folder, not finished, progress)

    def _loader(self, split: data.Split, seed: int | None) -> data.Loader:
        return data.Loader(
            split,
            self.plan.batch_size,
            seed=seed,
            workers=self.plan.workers,
            rank=self.job.rank,
            ranks=self.job.size,
            hold=1,  # a GPU may still be copying the batch before
            pin=self._pin,
            unpin=self._unpin,
        )

    def _pin(self, memory: HostArray) -> None:
        self._devices[0].pin(memory)  # for the other one too

    def _unpin(self, memory: HostArray) -> None:
        self.model.synchronize()
        self._devices[0].unpin(memory)

    def _stops(self, interruption: Interruption) -> bool:
        """Whether a signal has reached any process."""
        return self.job.any(interruption.requested)

    def _epoch(
        self,
        training: data.Loader,
        validation: data.Loader,
        interruption: Interruption,
        on_step: Callable[[int], None],
        on_epoch: Callable[[dict[str, Any]], None],
    ) -> None:
        self.report.begin_epoch(self.progress)
        self._train_steps(training, interruption, on_step)
        self.report.display.end()
        if self.progress.position < self.steps:
            return
        found = self.job.raise_everywhere(
            lambda: validate(
                self.model, validation, stop=lambda: interruption.requested, job=self.job
            )
        )
        if found is None:  # resuming repeats the validation only
            return
        if not math.isfinite(found.loss):
            self.job.fail(self.report.diverged(self.progress))
        on_epoch(self._end_epoch(found))

    def _train_steps(
        self, loader: data.Loader, interruption: Interruption, on_step: Callable[[int], None]
    ) -> None:
        """The rest of an epoch. The totals of all processes are in `progress` afterwards."""
        progress, job, display = self.progress, self.job, self.report.display
        before, begin = progress.seconds, time.perf_counter()
        data_before = progress.data_seconds - loader.wait_seconds
        looked_at, look_time = progress.position, begin
        self.state.set_rate(self.steps)
        self._chance.begin(progress.totals, progress.position)
        try:
            for batch in job.in_lockstep(loader.epoch(progress.epoch, start=progress.position)):
                self._compute_gradients(batch)
                self._gradient_sum.finish()
                self.state.set_rate(self.steps)
                self.state.optimiser.step()
                progress.step += 1
                progress.position += 1
                on_step(progress.step)
                display.advance(batch.whole)
                now = time.perf_counter()
                progress.seconds = before + now - begin
                progress.data_seconds = data_before + loader.wait_seconds
                looks = (
                    progress.position - looked_at >= _LOOK_STEPS
                    or now - look_time >= _LOOK_SECONDS
                    or display.wants_line(progress.step)
                )
                if job.any(looks):
                    looked_at, look_time = progress.position, now
                    totals = self._sum_totals()
                    self._check_finite(totals)
                    self.report.running(progress, totals)
                    self._watch_chance(totals)
                if self._stops(interruption):
                    break
        except UserError:
            if job.failed_together:
                self._take_totals()
            raise
        self._take_totals()
        self._check_finite(progress.totals)
        self._watch_chance(progress.totals)
        self.model.set_totals(Totals())
        progress.seconds = before + time.perf_counter() - begin

    def _compute_gradients(self, batch: data.Batch) -> None:
        """Computes this process's part of a step's gradients, and begins to sum them."""
        plan, step, count = self.plan, self.progress.step, len(batch.images)
        if not count:
            self._gradient_sum.skip()
            return
        crops = random_crops(
            plan.seed,
            step,
            count,
            self.dataset.train.shape[:2],
            plan.net.input[1:],
            pad=plan.crop_pad,
            mirror=plan.mirror,
            first_image=batch.first,
            global_batch=batch.whole,
            shared=plan.shared_crop,
        )
        shifts = None
        if self._colour is not None:
            shifts = colour_shifts(
                self._colour,
                plan.seed,
                step,
                count,
                std=plan.colour_noise,
                variant=plan.colour_variant,
                first_image=batch.first,
                global_batch=batch.whole,
            )
        self.model.forward_backward(
            batch.images,
            batch.labels,
            crops,
            seed=plan.seed,
            step=step,
            first_image=batch.first,
            global_batch=batch.whole,
            shifts=shifts,
            ready=self._gradient_sum.ready,
        )

    def _sum_totals(self) -> Totals:
        """The totals of all processes."""
        return Totals(*self.job.allreduce_sum(np.array(self.model.totals())).tolist())

    def _take_totals(self) -> None:
        self.progress.totals = self._sum_totals()
        self.progress.data_seconds = self.job.allreduce_max(self.progress.data_seconds)

    def _check_finite(self, totals: Totals) -> None:
        if not math.isfinite(totals.loss):
            self.job.fail(self.report.diverged(self.progress))

    def _watch_chance(self, totals: Totals) -> None:
        if self._chance.look(totals, self.progress.position):
            self.report.at_chance(self._chance)

    def _check_same_weights(self) -> None:
        """Raises UserError unless weights and momentum have the same bits in all processes."""
        if self.job.size > 1:
            what = f"checksum of weights and momentum after step {self.progress.step}"
            self.job.assert_equal(what, self.state.checksums())

    def _end_epoch(self, validation: Metrics) -> dict[str, Any]:
        progress, report = self.progress, self.report
        self._check_same_weights()
        if self.plan.skip_bad_images:  # each process has read its images only
            for split in (self.dataset.train, self.dataset.val):
                self.job.allreduce_min(split.labels)
        record = report.record(self.state, validation, progress.totals.metrics())
        is_best = self.state.end_epoch(validation.top1_error)
        report.end_epoch(record)
        if self.plan.weight_stats and self.job.rank == 0:  # which alone prints
            report.display.weight_stats(self.state.optimiser.weight_stats())
        progress.epoch, progress.position = progress.epoch + 1, 0
        progress.seconds, progress.data_seconds, progress.totals = 0.0, 0.0, Totals()
        # The line comes first: a resumed run removes one that is too many, but could not add one.
        self.job.on_rank_0(lambda: report.add_epoch(record))
        self._save(LAST, *([BEST] if is_best else []))
        return record

    def _save(self, *names: str) -> None:
        checkpoint = self.state.checkpoint(self.dataset, self._mean, self._colour)
        if not is_finite(checkpoint):
            self.job.fail(self.report.diverged(self.progress))
        for name in names:
            self.job.on_rank_0(partial(checkpoint.save, self.folder / name))
