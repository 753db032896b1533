"""Measures trained nets on a validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet import checkpoint as checkpoints
from pyalexnet import data
from pyalexnet import device as devices
from pyalexnet.checkpoint import Checkpoint
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.device import Device
from pyalexnet.errors import CheckpointError, DataError, UserError
from pyalexnet.model import Model, Totals
from pyalexnet.predictions import Submission, Table, Writer, naming, replacing
from pyalexnet.replicas import Alone
from pyalexnet.tally import ClassErrors, Tally
from pyalexnet.views import STRIDE, Crops, average, views


def open_devices(names: str, threads: int | None = None) -> list[Device]:
    """The devices that `names` lists: "auto" (a GPU if one can be used), "host", "cuda:0,cuda:1".

    Parameters
    ----------
    names : str
    threads : int, optional
        Threads of the host's kernels; without effect on a GPU.

    Raises
    ------
    DeviceError
        One of them cannot be used.
    """
    found = [
        devices.get(devices.default_name() if name == "auto" else name) for name in names.split(",")
    ]
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads is {threads}; expected at least 1")
        for device in found:
            if device.name == "host":
                device.lib.set_threads(threads)
    return found


def open_data(spec: str, *, size: int | None, skip_bad: bool) -> data.Dataset:
    """As `data.open_dataset`, and DataError where `size` is given but the images have theirs."""
    dataset = data.open_dataset(spec, size=size, skip_bad=skip_bad)
    if size is not None and dataset.train.shape[:2] != (size, size):
        rows, columns, _ = dataset.train.shape
        raise DataError(
            f"data {spec!r}: its images are {rows}×{columns} and are not resized; "
            f"the image size asked for is {size}"
        )
    return dataset


def load_model(path: Path, found: Sequence[Device], batch: int) -> tuple[Model, Checkpoint]:
    """The model of a checkpoint, with its weights and mean image; and the checkpoint.

    Raises
    ------
    CheckpointError
        As `checkpoint.load`, or weights that do not fit the net.
    """
    checkpoint = checkpoints.load(path)
    model = Model(checkpoint.net, found, batch)
    try:
        model.load_state(checkpoint.weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.set_mean(checkpoint.mean)
    return model, checkpoint


class Member(NamedTuple):
    """A trained net, alone or one of several whose probabilities are averaged."""

    path: Path
    model: Model
    about: Checkpoint  #: without the weights, which the model has, and the momenta


def load_members(paths: Sequence[Path], found: Sequence[Device], batch: int) -> list[Member]:
    """The models of checkpoints, all of the same classes.

    Raises
    ------
    CheckpointError
        As `load_model`, or two have different classes; the message says which.
    """
    members: list[Member] = []
    for path in paths:
        model, checkpoint = load_model(path, found, batch)
        members.append(Member(path, model, dataclasses.replace(checkpoint, weights={}, momenta={})))
        first = members[0]
        difference = _difference(checkpoint.classes, first.about.classes)
        if difference:
            raise CheckpointError(
                f"{path}: a checkpoint for other classes than {first.path}, so that they cannot be "
                f"averaged: {difference}"
            )
    return members


def check_data(path: Path, checkpoint: Checkpoint, dataset: data.Dataset) -> None:
    """Raises CheckpointError naming the difference unless the data set fits the checkpoint."""
    shape = dataset.val.shape
    if shape != checkpoint.mean.shape:
        raise CheckpointError(
            f"{path}: a checkpoint for images of {'×'.join(map(str, checkpoint.mean.shape))} "
            f"(rows, columns, channels); those of {dataset.name} are {'×'.join(map(str, shape))}"
        )
    difference = _difference(checkpoint.classes, dataset.classes)
    if difference:
        raise CheckpointError(
            f"{path}: a checkpoint for other classes than the {len(dataset.classes)} of "
            f"{dataset.name}: {difference}"
        )


def _difference(old: Sequence[str], new: Sequence[str]) -> str:
    """The first difference between lists of classes, if any."""
    for label, (name, wanted) in enumerate(zip(old, new, strict=False)):
        if name != wanted:
            return f"class {label} is {name!r}, not {wanted!r}"
    return "" if len(old) == len(new) else f"it has {len(old)}, not {len(new)}"


def _batches(
    splits: Sequence[data.Split], batch: int, workers: int | None
) -> Iterator[tuple[list[NDArray[np.uint8]], NDArray[np.int32]]]:
    """The images of splits that differ in their size only, from each, and their labels.

    A label is -1 where any split cannot read the image.
    """
    with ExitStack() as stack:
        loaders = [
            stack.enter_context(data.Loader(split, batch, workers=workers)) for split in splits
        ]
        for parts in zip(*(loader.epoch() for loader in loaders), strict=True):
            yield [part.images for part in parts], np.min([part.labels for part in parts], axis=0)


def validate(
    model: Model,
    loader: data.Loader,
    *,
    stop: Callable[[], bool] = lambda: False,
    job: Alone | None = None,
) -> Totals | None:
    """Loss and errors of a model on the centre crops of a split; None once `stop` says true.

    The loader gives the split in batches that the model takes, or a replica's part of each where
    there are others in the `job`, who all call this; the result is that of all.

    The model's totals must have been taken before.

    Raises
    ------
    DataError
        An image cannot be read, or none could.
    """
    job = job or Alone()
    split, size = loader.split, model.net.input[1:]
    for batch in job.agreed(loader.epoch()):
        if len(batch.images):
            crops = centre_crops(len(batch.images), split.shape[:2], size)
            model.eval_step(batch.images, batch.labels, crops)
        if job.any(stop()):
            model.take_totals()
            return None
    model.set_raw_totals(job.sum(model.raw_totals()))
    totals = model.take_totals()
    if not totals.images:
        raise _none_read(split)
    return totals


def _none_read(split: data.Split) -> DataError:
    return DataError(f"none of the {len(split)} validation images could be read")


class Evaluation(NamedTuple):
    """What `evaluate` has measured."""

    totals: Totals  #: of the probabilities averaged over nets and views
    members: list[tuple[Path, Crops, Totals]]  #: of each net alone: checkpoint, views, totals
    by_class: list[ClassErrors]  #: of the averaged probabilities, by label
    classes: list[str]  #: their names
    skipped: int  #: images that could not be read


def evaluate(
    paths: Sequence[Path],
    spec: str | None = None,
    *,
    kind: str = "centre",
    stride: int = STRIDE,
    predictions: Path | None = None,
    submission: Path | None = None,
    device: str = "auto",
    batch: int = 128,
    workers: int | None = None,
    threads: int | None = None,
    skip_bad: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Loss and errors of nets on the validation images of a data set.

    The nets read the images side by side, so that nothing is kept but counts.

    Parameters
    ----------
    paths : sequence of Path
        Checkpoints, whose probabilities are averaged (the paper's five nets, section 6). Each has
        its own mean image and, of a folder's images, its own size.
    spec : str, optional
        The data set, by default the one that the nets were trained on.
    kind, stride
        As `views.views`.
    predictions, submission : Path, optional
        Files to write: `predictions.Table` and `predictions.Submission`.
    device, batch, workers, threads, skip_bad
        As `pyalexnet-train` takes them; they change the results at most by rounding.
    progress : bool
        Show a bar where standard error is a terminal.

    Raises
    ------
    UserError
        A checkpoint, the data or the device cannot be used, or they do not fit each other; a file
        cannot be written; or there are no ILSVRC2012_IDs to submit.
    """
    wanted = [path for path in (predictions, submission) if path is not None]
    if len({path.expanduser().resolve() for path in wanted}) < len(wanted):
        raise UserError(f"predictions and submission are both {predictions}; expected two files")
    with ExitStack() as stack:
        files = {path: stack.enter_context(replacing(path)) for path in wanted}
        members = load_members(paths, open_devices(device, threads), batch)
        sets = _open_sets(members, spec or _common_spec(members), skip_bad)
        writers: list[tuple[Path, Writer]] = []
        if predictions is not None:
            writers.append((predictions, Table(files[predictions], sets[0].classes)))
        if submission is not None:
            if sets[0].ids is None:
                raise UserError(
                    f"submission {submission}: ILSVRC's form needs ILSVRC2012_IDs, which only "
                    f"ImageNet's classes have, not those of {sets[0].name}"
                )
            writers.append((submission, Submission(files[submission], sets[0].ids)))
        crops = [
            views(
                kind, own.val.shape[:2], net.model.net.input[1:], mirror=own.mirror, stride=stride
            )
            for net, own in zip(members, sets, strict=True)
        ]
        return _measure(members, sets, crops, writers, workers, progress)


def _common_spec(members: Sequence[Member]) -> str:
    first = members[0]
    for other in members:
        if other.about.data["spec"] != first.about.data["spec"]:
            raise CheckpointError(
                f"{other.path}: trained on {other.about.data['spec']}, and {first.path} on "
                f"{first.about.data['spec']}; say on which --data to measure them"
            )
    return str(first.about.data["spec"])


def _open_sets(members: Sequence[Member], spec: str, skip_bad: bool) -> list[data.Dataset]:
    """For each member the data set in its size; members of one size share it."""
    opened: dict[int | None, data.Dataset] = {}
    sets = []
    for path, _, checkpoint in members:
        size = checkpoint.mean.shape[0] if spec.startswith("folder:") else None
        if size not in opened:
            opened[size] = open_data(spec, size=size, skip_bad=skip_bad)
        check_data(path, checkpoint, opened[size])
        sets.append(opened[size])
    return sets


def _measure(
    members: Sequence[Member],
    sets: Sequence[data.Dataset],
    crops: Sequence[Crops],
    writers: Sequence[tuple[Path, Writer]],
    workers: int | None,
    progress: bool,
) -> Evaluation:
    from tqdm import tqdm

    classes, val = sets[0].classes, sets[0].val
    splits = list({id(own.val): own.val for own in sets}.values())
    sources = [splits.index(own.val) for own in sets]
    alone, together = [Tally(len(classes)) for _ in members], Tally(len(classes))
    done = 0
    with tqdm(
        total=len(val),
        unit=" images",
        leave=False,
        dynamic_ncols=True,
        disable=None if progress else True,  # None: unless it is a terminal
    ) as bar:
        for images, labels in _batches(splits, members[0].model.batch, workers):
            mean = np.zeros((len(labels), len(classes)))
            for member, source, own, tally in zip(members, sources, crops, alone, strict=True):
                probabilities = average(member.model, images[source], own)
                tally.add(probabilities, labels)
                mean += probabilities / len(members)
            together.add(mean, labels)
            if writers:
                names = [val.name(done + i) for i in range(len(labels))]
                for path, writer in writers:
                    with naming(path):
                        writer.add(names, labels, mean)
            done += len(labels)
            bar.update(len(labels))
    totals = together.totals()
    if not totals.images:
        raise _none_read(val)
    return Evaluation(
        totals,
        [(net.path, own, t.totals()) for net, own, t in zip(members, crops, alone, strict=True)],
        together.by_class(),
        classes,
        len(val) - totals.images,
    )
