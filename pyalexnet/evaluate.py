"""Measures a trained net on a validation set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyalexnet import checkpoint as checkpoints
from pyalexnet import data
from pyalexnet import device as devices
from pyalexnet.checkpoint import Checkpoint
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.device import Device
from pyalexnet.errors import CheckpointError, DataError, DeviceError, UserError
from pyalexnet.model import Model, Totals


def open_device(name: str, threads: int | None = None) -> Device:
    """The device called `name`: "auto" (a GPU if one can be used), "host" or "cuda:<index>".

    Parameters
    ----------
    name : str
    threads : int, optional
        Threads of the host's kernels; without effect on a GPU.

    Raises
    ------
    DeviceError
        It cannot be used, or `name` lists several.
    """
    if "," in name:
        raise DeviceError(f"devices {name!r}: expected one device, as in host or cuda:0")
    device = devices.get(devices.default_name() if name == "auto" else name)
    if threads is not None and device.name == "host":
        if threads < 1:
            raise UserError(f"threads is {threads}; expected at least 1")
        device.lib.set_threads(threads)
    return device


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


def load_model(path: Path, device: Device, batch: int) -> tuple[Model, Checkpoint]:
    """The model of a checkpoint, with its weights and mean image; and the checkpoint.

    Raises
    ------
    CheckpointError
        As `checkpoint.load`, or weights that do not fit the net.
    """
    checkpoint = checkpoints.load(path)
    model = Model(checkpoint.net, device, batch)
    try:
        model.load_state(checkpoint.weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    model.set_mean(checkpoint.mean)
    return model, checkpoint


def check_data(path: Path, checkpoint: Checkpoint, dataset: data.Dataset) -> None:
    """Raises CheckpointError naming the difference unless the data set fits the checkpoint."""
    shape = dataset.val.shape
    if shape != checkpoint.mean.shape:
        raise CheckpointError(
            f"{path}: a checkpoint for images of {'×'.join(map(str, checkpoint.mean.shape))} "
            f"(rows, columns, channels); those of {dataset.name} are {'×'.join(map(str, shape))}"
        )
    old, new = checkpoint.classes, dataset.classes
    if old != new:
        at = next((i for i, pair in enumerate(zip(old, new, strict=False)) if len({*pair}) > 1), -1)
        what = f"class {at} is {old[at]!r}, not {new[at]!r}" if at >= 0 else f"it has {len(old)}"
        raise CheckpointError(
            f"{path}: a checkpoint for other classes than the {len(new)} of {dataset.name}: {what}"
        )


def validate(
    model: Model,
    split: data.Split,
    *,
    workers: int = 2,
    stop: Callable[[], bool] = lambda: False,
) -> Totals | None:
    """Loss and errors of a model on the centre crops of a split; None once `stop` says true.

    The model's totals must have been taken before.

    Raises
    ------
    DataError
        An image cannot be read, or none could.
    """
    size = model.net.input[1:]
    order = np.arange(len(split))
    for images, labels in data.batches(split, order, model.batch, workers=workers):
        model.eval_step(images, labels, centre_crops(len(images), split.shape[:2], size))
        if stop():
            model.take_totals()
            return None
    totals = model.take_totals()
    if not totals.images:
        raise DataError(f"none of the {len(split)} validation images could be read")
    return totals


def evaluate(
    path: Path,
    spec: str | None = None,
    *,
    device: str = "auto",
    batch: int = 128,
    workers: int = 2,
    threads: int | None = None,
    skip_bad: bool = False,
) -> Totals:
    """Loss and errors of a checkpoint's net on the validation images of a data set.

    Parameters
    ----------
    path : Path
        The checkpoint.
    spec : str, optional
        The data set, by default the one that the net was trained on.
    device, batch, workers, threads, skip_bad
        As `pyalexnet-train` takes them; they change the results at most by rounding.

    Raises
    ------
    UserError
        The checkpoint, the data or the device cannot be used, or do not fit each other.
    """
    model, checkpoint = load_model(path, open_device(device, threads), batch)
    spec = spec or str(checkpoint.data["spec"])
    size = checkpoint.mean.shape[0] if spec.startswith("folder:") else None
    dataset = open_data(spec, size=size, skip_bad=skip_bad)
    check_data(path, checkpoint, dataset)
    totals = validate(model, dataset.val, workers=workers)
    assert totals is not None  # nothing stops it
    return totals
