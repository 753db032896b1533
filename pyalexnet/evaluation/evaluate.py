"""Loss and errors of trained nets on validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet import device as devices
from pyalexnet.data import Dataset, Loader, Split, find_source, open_dataset
from pyalexnet.errors import CheckpointError, DataError, UserError
from pyalexnet.evaluation import views as positions
from pyalexnet.evaluation.members import Member, listed, load_members
from pyalexnet.evaluation.tally import ClassErrors, Tally
from pyalexnet.evaluation.views import STRIDE, Crops, average
from pyalexnet.evaluation.writers import Submission, Table, Writer
from pyalexnet.files import check_targets, naming, replacing
from pyalexnet.model import Metrics
from pyalexnet.streams import Terminal
from pyalexnet.training.checkpoint import check_data


class MemberResult(NamedTuple):
    """Results of one net alone."""

    path: Path  #: the checkpoint
    crops: Crops  #: its views
    metrics: Metrics


class Evaluation(NamedTuple):
    """Results of `evaluate`."""

    metrics: Metrics  #: of the probabilities averaged over nets and views
    members: list[MemberResult]
    by_class: list[ClassErrors]  #: of the averaged probabilities, by label
    classes: list[str]  #: their names
    skipped: int  #: unreadable images
    data: str  #: the data set, as `data.open_dataset` takes it
    device: str  #: in words


def evaluate(
    checkpoints: str | Path | Sequence[str | Path],
    data: str | None = None,
    *,
    views: str = "centre",
    dense_stride: int = STRIDE,
    predictions: str | Path | None = None,
    submission: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    threads: int | None = None,
    skip_bad_images: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Computes loss and errors of nets on the validation images of a data set.

    All nets see a batch before the next one is read, so that only counts are kept.

    Parameters
    ----------
    checkpoints : path, or sequence of them
        Checkpoints, whose probabilities are averaged (the paper's five nets, section 6). Each
        subtracts its own mean image and reads a folder's images at its own size.
    data : str, optional
        The data set, by default the one that the nets were trained on.
    views, dense_stride
        As `kind` and `stride` of `views.views`.
    predictions, submission : path, optional
        Files to write: `writers.Table` and `writers.Submission`.
    device : str
        As in `device.open`.
    batch_size, workers, threads, skip_bad_images
        As in `training.options.Options`; the results depend on them by rounding only.
    progress : bool
        Show a progress bar if standard error is a terminal.

    Raises
    ------
    UserError
        A checkpoint, the data or the device cannot be used, or they do not fit each other; a file
        cannot be written; or a submission is wanted and the classes have no ILSVRC2012_IDs.
    """
    predictions, submission = (
        None if path is None else Path(path) for path in (predictions, submission)
    )
    wanted = [path for path in (predictions, submission) if path is not None]
    targets = {"predictions": predictions, "submission": submission}
    check_targets(targets, listed(checkpoints))
    with ExitStack() as stack:
        files = {path: stack.enter_context(replacing(path, text=True)) for path in wanted}
        members = load_members(checkpoints, devices.open(device, threads), batch_size)
        spec = _common_spec(members) if data is None else data
        try:
            _, folder = find_source(spec)
            check_targets(targets, [] if folder is None else [folder])
            sets = _open_sets(members, spec, skip_bad_images)
        except CheckpointError:
            raise
        except DataError as error:
            if data is not None:
                raise
            kind, colon, _ = spec.rpartition(":")
            raise DataError(
                f"{error}; {members[0].path} was trained on {spec}: give --data, as in --data "
                f"{kind}{colon}DIR"
            ) from error
        writers: list[tuple[Path, Writer]] = []
        if predictions is not None:
            writers.append((predictions, Table(files[predictions], sets[0].classes)))
        if submission is not None:
            if sets[0].ids is None:
                raise UserError(
                    f"submission {submission}: data is {sets[0].name}; expected ImageNet, prepared "
                    "with its devkit, which has ILSVRC2012_IDs"
                )
            writers.append((submission, Submission(files[submission], sets[0].ids)))
        crops = [
            positions.views(
                views,
                own.val.shape[:2],
                member.model.net.input[1:],
                mirror=own.mirror,
                stride=dense_stride,
            )
            for member, own in zip(members, sets, strict=True)
        ]
        result = _measure(members, sets, crops, writers, workers, progress)
        return result._replace(data=spec, device=members[0].model.device_words)


def _common_spec(members: Sequence[Member]) -> str:
    """The data set that all members were trained on."""
    specs = [member.checkpoint.data.get("spec") for member in members]
    for member, spec in zip(members, specs, strict=True):
        if spec is None:
            raise CheckpointError(f"{member.path}: data is not recorded; expected --data")
        if spec != specs[0]:
            raise CheckpointError(
                f"{member.path}: data is {spec}; expected {specs[0]}, that of {members[0].path}, "
                "or --data"
            )
    return str(specs[0])


def _open_sets(members: Sequence[Member], spec: str, skip_bad: bool) -> list[Dataset]:
    """The data set at each member's image size; members with the same size share it.

    A share of it is held out as it was when the net was trained.
    """
    source, _ = find_source(spec)
    opened: dict[tuple[int | None, float | None], Dataset] = {}
    sets: list[Dataset] = []
    for path, _, checkpoint in members:
        size = checkpoint.image_shape[0] if source.may_resize else None
        share = checkpoint.data.get("val_share")
        if (size, share) not in opened:
            opened[size, share] = open_dataset(spec, size=size, skip_bad=skip_bad, val_share=share)
        check_data(path, checkpoint, opened[size, share])
        sets.append(opened[size, share])
        if sets[-1].val_share != sets[0].val_share:
            raise CheckpointError(
                f"{path}: val-share is {sets[-1].val_share}; expected {sets[0].val_share}, that of "
                f"{members[0].path}"
            )
    return sets


def _measure(
    members: Sequence[Member],
    sets: Sequence[Dataset],
    crops: Sequence[Crops],
    writers: Sequence[tuple[Path, Writer]],
    workers: int | None,
    progress: bool,
) -> Evaluation:
    from tqdm import tqdm

    classes, val = sets[0].classes, sets[0].val
    splits = list({id(own.val): own.val for own in sets}.values())
    sources = [splits.index(own.val) for own in sets]
    tallies, averaged = [Tally(len(classes)) for _ in members], Tally(len(classes))
    done = 0
    with tqdm(
        total=len(val),
        unit=" images",
        leave=False,
        dynamic_ncols=True,
        file=Terminal(),
        disable=None if progress else True,  # None: unless it is a terminal
    ) as bar:
        for images, labels in _batches(splits, members[0].model.batch_size, workers):
            mean = np.zeros((len(labels), len(classes)))
            for member, source, own, tally in zip(members, sources, crops, tallies, strict=True):
                probabilities = average(member.model, images[source], own)
                tally.add(probabilities, labels)
                mean += probabilities / len(members)
            averaged.add(mean, labels)
            if writers:
                names = [val.name(done + i) for i in range(len(labels))]
                for path, writer in writers:
                    with naming(path):
                        writer.add(names, labels, mean)
            done += len(labels)
            bar.update(len(labels))
    metrics = averaged.metrics()
    if not metrics.images:
        raise DataError(f"none of the {len(val)} validation images could be read; expected some")
    return Evaluation(
        metrics,
        [
            MemberResult(member.path, own, tally.metrics())
            for member, own, tally in zip(members, crops, tallies, strict=True)
        ],
        averaged.by_class(),
        classes,
        len(val) - metrics.images,
        data="",
        device="",
    )


def _batches(
    splits: Sequence[Split], batch_size: int, workers: int | None
) -> Iterator[tuple[list[NDArray[np.uint8]], NDArray[np.int32]]]:
    """Batches of splits that differ in image size only: each split's images, and the labels.

    A label is -1 if any split cannot read the image.
    """
    with ExitStack() as stack:
        loaders = [
            stack.enter_context(Loader(split, batch_size, workers=workers)) for split in splits
        ]
        for parts in zip(*(loader.epoch() for loader in loaders), strict=True):
            yield [part.images for part in parts], np.min([part.labels for part in parts], axis=0)
