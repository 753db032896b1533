"""The trainer: from options to a trained net's checkpoints, metrics and curve in a folder.

Everything random follows from the seed and the numbers of epoch, step and image, and everything
else that changes is in a checkpoint, so a run that stops anywhere and is resumed gives the same
bits as one that never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyalexnet import checkpoint as checkpoints
from pyalexnet import data, metrics, optim
from pyalexnet.checkpoint import Checkpoint, Floats, Progress
from pyalexnet.data.augmentation import colour_shifts, random_crops
from pyalexnet.data.split import Colour
from pyalexnet.device import HostArray
from pyalexnet.display import Display
from pyalexnet.errors import CheckpointError, DataError, UserError
from pyalexnet.evaluate import check_data, open_data, open_devices, validate
from pyalexnet.interruption import Interruption
from pyalexnet.model import Model, Totals
from pyalexnet.options import Options
from pyalexnet.replicas import Alone, join
from pyalexnet.run_folder import BEST, LAST, begin, clear

_LOOK_STEPS, _LOOK_SECONDS = 32, 1.0  # at most between two looks at the loss, which wait for a GPU


class Diverged(UserError):
    """The loss, or a weight, is no longer a finite number."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    folder : Path
    interrupted : bool
        A signal asked it to stop, and "last.safetensors" in `folder` goes on from there.
    progress : Progress
    """

    folder: Path
    interrupted: bool
    progress: Progress


def summary(**given: Any) -> str:
    """The net that `train` would train, as `Model.summary` shows it; errors as `train`'s."""
    options = Options(**{name: value for name, value in given.items() if value is not None})
    options.check()
    found = open_devices(options.devices, options.threads)
    dataset = open_data(options.data, size=options.stored_size(), skip_bad=False)
    return Model(options.build_net(dataset), found, options.batch).summary()


def train(
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[int], None] | None = None,
    **given: Any,
) -> Outcome:
    """Trains a net, with the other processes of the job where an MPI launcher has started several.

    Parameters
    ----------
    resume : bool
        Go on from the last checkpoint in the output folder, with the options that it recorded;
        those `given` replace them.
    overwrite : bool
        Remove what a previous run left in the output folder.
    on_step : callable, optional
        Called with the number of steps done after each.
    **given
        Fields of `Options`.

    Raises
    ------
    UserError
        Data, net, device, options or output folder cannot be used, or `Diverged`. What had been
        saved stays.
    """
    given = {name: value for name, value in given.items() if value is not None}
    folder = Options(**given).folder()
    with join() as job:
        # The folder is the first replica's, who may be the only one to have it.
        options, checkpoint = job.once(lambda: begin(folder, given, resume, overwrite))
        trainer = job.together(lambda: Trainer(options, folder, checkpoint, given, job))
        trainer.prepare(checkpoint)
        if overwrite:
            job.once(lambda: clear(folder))
        with Interruption() as interruption:
            return trainer.run(interruption, on_step or (lambda step: None))


class Trainer:
    """A run: opens all that it needs, and trains.

    Parameters
    ----------
    options : Options
    folder : Path
        For what the run writes; exists.
    checkpoint : Checkpoint, optional
        To go on from.
    given : dict
        The options that the user has named; what a checkpoint says is only compared with these.
    job : Alone
        This process's place among the replicas. All do the same; the first writes and prints.

    Raises
    ------
    UserError
        As `train`.
    """

    def __init__(
        self,
        options: Options,
        folder: Path,
        checkpoint: Checkpoint | None,
        given: dict[str, Any],
        job: Alone,
    ) -> None:
        self.folder, self.job = folder, job
        if options.batch < job.size:
            raise UserError(
                f"batch is {options.batch}; expected at least an image for each of the "
                f"{job.size} replicas"
            )
        self.devices = open_devices(job.devices(options.devices), options.threads or job.cores)
        self.workers = job.cores if options.workers is None else options.workers
        self.data = open_data(
            options.data, size=options.stored_size(), skip_bad=options.skip_bad_images
        )
        if checkpoint is None or given.keys() & {"net", "dropout"}:
            self.net = options.build_net(self.data)
        else:
            self.net = checkpoint.net
        self.options = options.resolved(self.net, self.data)
        assert self.options.epochs and self.options.schedule and self.options.rate is not None
        self.epochs, rate = self.options.epochs, self.options.rate
        if checkpoint is not None:
            checkpoints.check_net(folder / LAST, checkpoint.net, self.net)
            self._check_same_data(checkpoint)
        part = -(-self.options.batch // job.size)
        self.model = Model(self.net, self.devices, part, self.options.seed)
        bias_rate = self.options.bias_rate
        self.sgd = optim.SGD(
            self.model,
            rate=rate,
            bias_rate=2 * rate if bias_rate is None else bias_rate,
            momentum=self.options.momentum,
            decay=self.options.decay,
        )
        self.schedule = optim.schedule(self.options.schedule)
        self.steps = -(-len(self.data.train) // self.options.batch)  # in an epoch
        self.display = Display(self.options.progress, silent=job.rank > 0)
        self.progress = Progress()
        if checkpoint is not None:
            self._restore(checkpoint)
        self.sgd.factor = self.schedule.factor
        self.progress.schedule = self.schedule.state()

    def prepare(self, checkpoint: Checkpoint | None) -> None:
        """Does what replicas do together before they train.

        Raises
        ------
        UserError
            No training image can be read, or the replicas do not fit each other.
        """
        job = self.job
        job.same("net", self.net.to_json())
        job.same("data set", (self.data.name, len(self.data.train), len(self.data.val)))
        self.mean, self.colour = job.once(lambda: self._statistics(checkpoint))
        self.model.set_mean(self.mean)
        self.gradient_sum = job.gradient_sum(self.model)
        self._check_same_weights()

    def _check_same_data(self, checkpoint: Checkpoint) -> None:
        path = self.folder / LAST
        check_data(path, checkpoint, self.data)
        old, new = checkpoint.data["train"], len(self.data.train)
        if old != new:
            raise CheckpointError(
                f"{path}: a run on {old} training images; {self.options.data} has {new}"
            )

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            self.model.load_state(checkpoint.weights)
            self.model.load_momenta(checkpoint.momenta)
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder / LAST}: {error}") from error
        self.progress = checkpoint.progress
        if self.job.rank == 0:  # the replicas' totals are added up later
            self.model.set_raw_totals(np.array(self.progress.totals, np.float64))
        if self.options.schedule == checkpoint.options["schedule"]:
            self.schedule.load_state(self.progress.schedule)
        else:  # another schedule: goes on from the rate that there was
            self.schedule.drops = int(self.progress.schedule["drops"])
            self.schedule.after_epoch(self.progress.epoch, math.inf)

    def _statistics(self, checkpoint: Checkpoint | None) -> tuple[Floats, Colour | None]:
        """The mean image and, for colour noise, how colours vary: the checkpoint's, if there."""
        known = self.data
        if checkpoint is not None:
            known = dataclasses.replace(
                known, mean=checkpoint.mean, colour=checkpoint.colour or known.colour
            )
        return data.measured(
            known, colour=self.options.colour_noise > 0, workers=self.options.workers
        )

    def run(self, interruption: Interruption, on_step: Callable[[int], None]) -> Outcome:
        """Trains until all epochs are done or an interruption is requested."""
        self.job.once(self._open_metrics)
        self._announce()
        training = self._loader(self.data.train, self.options.seed)
        validation = self._loader(self.data.val, None)
        try:
            with training, validation:
                while self.progress.epoch < self.epochs and not self._stops(interruption):
                    self._epoch(training, validation, interruption, on_step)
        except DataError as error:  # an image that is unreadable can be mended
            if not self.job.all_stop:
                raise
            if self.progress.step:
                self._save(LAST)
            raise self._with_advice(error) from error
        finally:
            self.display.end()
        self.job.once(lambda: self.metrics.draw())
        finished = self.progress.epoch >= self.epochs
        if finished:
            self._conclude()
        else:
            self._check_same_weights()
            self._save(LAST)
            self.display.line(
                f"stopped after step {self.progress.step:,} (epoch {self.progress.epoch + 1}, "
                f"{self.progress.position} of {self.steps} steps); saved {self.folder / LAST}\n"
                f"go on with: {self._command()}"
            )
        return Outcome(self.folder, not finished, self.progress)

    def _open_metrics(self) -> None:
        self.metrics = metrics.Metrics(self.folder, after=self.progress.epoch)

    def _loader(self, split: data.Split, seed: int | None) -> data.Loader:
        return data.Loader(
            split,
            self.options.batch,
            seed=seed,
            workers=self.workers,
            rank=self.job.rank,
            ranks=self.job.size,
            hold=1,  # a GPU may still be copying the batch before
            pin=self._pin,
            unpin=self._unpin,
        )

    def _pin(self, memory: HostArray) -> None:
        self.devices[0].pin(memory)  # for the other one too

    def _unpin(self, memory: HostArray) -> None:
        self.model.synchronize()
        self.devices[0].unpin(memory)

    def _stops(self, interruption: Interruption) -> bool:
        """Whether to stop now: a signal has reached any replica."""
        return self.job.any(interruption.requested)

    def _epoch(
        self,
        training: data.Loader,
        validation: data.Loader,
        interruption: Interruption,
        on_step: Callable[[int], None],
    ) -> None:
        progress, batch = self.progress, self.options.batch
        images = len(self.data.train)
        self.display.begin(
            progress.epoch + 1, self.epochs, images, min(progress.position * batch, images)
        )
        self._train_steps(training, interruption, on_step)
        self.display.end()
        if progress.position < self.steps:
            return
        totals = self.job.together(
            lambda: validate(
                self.model, validation, stop=lambda: interruption.requested, job=self.job
            )
        )
        if totals is None:  # resuming repeats the validation only
            return
        if not math.isfinite(totals.loss):
            self.job.fail(self._diverged())
        self._end_epoch(totals)

    def _train_steps(
        self, loader: data.Loader, interruption: Interruption, on_step: Callable[[int], None]
    ) -> None:
        """The rest of an epoch. The totals of all replicas are in `progress` afterwards."""
        progress, job = self.progress, self.job
        before, begin = progress.seconds, time.perf_counter()
        waited_before = progress.waited - loader.waited
        looked_at, look_time = progress.position, begin
        try:
            for batch in job.agreed(loader.epoch(progress.epoch, start=progress.position)):
                self._gradients(batch)
                self.gradient_sum.finish()
                self.sgd.step()
                progress.step += 1
                progress.position += 1
                on_step(progress.step)
                self.display.advance(batch.whole)
                now = time.perf_counter()
                progress.seconds = before + now - begin
                progress.waited = waited_before + loader.waited
                looks = (
                    progress.position - looked_at >= _LOOK_STEPS
                    or now - look_time >= _LOOK_SECONDS
                    or self.display.wants_line(progress.step)
                )
                if job.any(looks):
                    looked_at, look_time = progress.position, now
                    self._look()
                if self._stops(interruption):
                    break
        except UserError:
            if job.all_stop:
                self._sum_totals()
            raise
        self._sum_totals()
        self._check(progress.totals)
        self.model.set_raw_totals(np.zeros(4))
        progress.seconds = before + time.perf_counter() - begin

    def _gradients(self, batch: data.Batch) -> None:
        """Computes this replica's part of a step's gradients, and begins to sum them."""
        options, step = self.options, self.progress.step
        if not len(batch.images):
            self.gradient_sum.skip()
            return
        crops = random_crops(
            options.seed,
            step,
            len(batch.images),
            self.data.train.shape[:2],
            self.net.input[1:],
            pad=options.crop_pad or 0,
            mirror=bool(options.mirror),
            first_image=batch.first,
            global_batch=batch.whole,
            shared=options.shared_crop,
        )
        shifts = None
        if self.colour is not None:
            shifts = colour_shifts(
                self.colour,
                options.seed,
                step,
                len(batch.images),
                std=options.colour_noise,
                variant=options.colour_variant,
                first_image=batch.first,
                global_batch=batch.whole,
            )
        self.model.train_step(
            batch.images,
            batch.labels,
            crops,
            seed=options.seed,
            step=step,
            first_image=batch.first,
            global_batch=batch.whole,
            shifts=shifts,
            ready=self.gradient_sum.ready,
        )

    def _sum_totals(self) -> None:
        self.progress.totals = self.job.sum(self.model.raw_totals()).tolist()
        self.progress.waited = self.job.largest(self.progress.waited)

    def _look(self) -> None:
        """Shows the epoch's loss so far."""
        totals = self.job.sum(self.model.raw_totals()).tolist()
        self._check(totals)
        self.display.measured(
            self.progress.step, totals, totals[3] / max(self.progress.seconds, 1e-9)
        )

    def _check(self, totals: list[float]) -> None:
        if not math.isfinite(totals[0]):
            self.job.fail(self._diverged())

    def _check_same_weights(self) -> None:
        """Raises UserError unless weights and momenta have the same bits in all replicas."""
        if self.job.size == 1:
            return
        sums = [
            zlib.crc32(tower.device.download(arena.flat).data)
            for tower in self.model.towers
            for arena in (tower.weights, tower.momenta)
        ]
        self.job.same(f"checksum of weights and momenta after step {self.progress.step}", sums)

    def _end_epoch(self, validation: Totals) -> None:
        progress = self.progress
        self._check_same_weights()
        if self.options.skip_bad_images:  # each replica has read its images only
            for split in (self.data.train, self.data.val):
                self.job.lower(split.labels)
        self.model.set_raw_totals(np.array(progress.totals, np.float64))
        training = self.model.take_totals()
        factor = self.sgd.factor
        record: dict[str, Any] = {"epoch": progress.epoch + 1, "step": progress.step}
        record |= {f"train_{k}": getattr(training, k) for k in ("loss", "top1", "top5")}
        record |= {f"val_{k}": getattr(validation, k) for k in ("loss", "top1", "top5")}
        record |= {
            "rate": self.sgd.rate * factor,
            "bias_rate": self.sgd.bias_rate * factor,
            "images_per_second": training.images / progress.seconds,
            "seconds": progress.seconds,
            "waited": progress.waited,
            "waited_share": progress.waited / progress.seconds,
            "skipped": self.data.train.skipped + self.data.val.skipped,
        }
        is_best = progress.best is None or validation.top1 < progress.best
        if is_best:
            progress.best, progress.best_epoch = validation.top1, progress.epoch + 1
        self.schedule.after_epoch(progress.epoch + 1, validation.top1)
        self.sgd.factor = self.schedule.factor
        progress.schedule = self.schedule.state()
        self.display.epoch(record, self.epochs)
        if self.options.magnitudes and self.job.rank == 0:  # who alone prints
            self.display.magnitudes(self.model.magnitudes())
        progress.epoch, progress.position = progress.epoch + 1, 0
        progress.seconds, progress.waited, progress.totals = 0.0, 0.0, [0.0] * 4
        # The line comes first: a resumed run removes one that is too many, but could not add one.
        self.job.once(lambda: self.metrics.add(record))
        self._save(LAST, *([BEST] if is_best else []))

    def _save(self, *names: str) -> None:
        weights, momenta = self.model.state(), self.model.momenta_state()
        if not all(np.isfinite(array).all() for array in (*weights.values(), *momenta.values())):
            self.job.fail(self._diverged())
        checkpoint = Checkpoint(
            net=self.net,
            classes=self.data.classes,
            data={
                "spec": self.options.data,
                "name": self.data.name,
                "train": len(self.data.train),
                "val": len(self.data.val),
            },
            mean=self.mean,
            colour=self.colour,
            weights=weights,
            momenta=momenta,
            progress=self.progress,
            options=dataclasses.asdict(self.options),
        )
        for name in names:
            self.job.once(partial(checkpoint.save, self.folder / name))

    def _diverged(self) -> Diverged:
        last = self.folder / LAST
        rate = self.sgd.rate
        advice = (
            f"training diverged by step {self.progress.step:,}: the loss or a weight is not a "
            f"finite number. Try a lower --rate (it was {rate:g}), such as {rate / 10:g}, or "
            "smaller initial weights"
        )
        if not last.exists():
            return Diverged(f"{advice}; no checkpoint had been saved yet")
        command = self._command("--rate", f"{rate / 10:g}")
        return Diverged(f"{advice}; {last} is from before, and goes on with: {command}")

    def _with_advice(self, error: DataError) -> DataError:
        advice = str(error)
        unreadable = not isinstance(error, data.WorkerDied)
        if unreadable and self.data.name == "folder" and not self.options.skip_bad_images:
            advice += "; --skip-bad-images leaves such images out and counts them"
        if self.progress.step:
            advice += f"; saved {self.folder / LAST}, which goes on with: {self._command()}"
        return DataError(advice)

    def _command(self, *more: str) -> str:
        return shlex.join(["pyalexnet-train", "--resume", "--output", str(self.folder), *more])

    def _announce(self) -> None:
        train, val = self.data.train, self.data.val
        line, progress = self.display.line, self.progress
        line(
            f"data    {self.data.name}: {len(train):,} + {len(val):,} images of "
            f"{'×'.join(map(str, train.shape))}, {len(self.data.classes)} classes"
        )
        parameters = sum(p.size for p in self.net.parameters().values())
        line(f"net     {self.net.name}: {parameters:,} parameters")
        replicas = f"{self.job.size} replicas, the first on " if self.job.size > 1 else ""
        line(f"device  {replicas}{self.model.device_name}")
        line(f"output  {self.folder}")
        if progress.step:
            line(f"resumed after step {progress.step:,}, epoch {progress.epoch} of {self.epochs}")

    def _conclude(self) -> None:
        best = self.progress.best
        assert best is not None
        self.display.line(
            f"done: lowest validation top-1 error {100 * best:.2f} % after epoch "
            f"{self.progress.best_epoch}, kept in {self.folder / BEST}"
        )
