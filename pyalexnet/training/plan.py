"""What a run does: the options with everything decided that they leave open."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pyalexnet import data
from pyalexnet.cores import count_cores
from pyalexnet.data import Dataset
from pyalexnet.errors import UserError
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Dropout
from pyalexnet.nn.net import Net
from pyalexnet.training.options import SMALL, Options

_ZEROS = 0.25  # of a net's field, that may at most lie outside the images


@dataclass(frozen=True)
class Plan:
    """A run, decided by its options, its data and, when it resumes, its checkpoint.

    The attributes are as those of `Options`, but none is None and `net` is the net itself.
    """

    net: Net
    batch_size: int
    epochs: int
    lr: float
    bias_lr: float
    momentum: float
    weight_decay: float
    schedule: str
    seed: int
    crop_pad: int
    mirror: bool
    shared_crop: int
    colour_noise: float
    colour_variant: str
    skip_bad_images: bool
    workers: int
    weight_stats: bool
    options: dict[str, Any]  #: for the checkpoint: the options, with what was decided


def decide(
    options: Options, dataset: Dataset, saved: Net | None = None, cores: int | None = None
) -> Plan:
    """Decides what the options leave open.

    Parameters
    ----------
    options : Options
    dataset : Dataset
        What `options.data` names.
    saved : Net, optional
        A checkpoint's net, to go on with.
    cores : int, optional
        Of this process; by default, all that it may run on.

    Raises
    ------
    UserError
        The net does not fit the data, or has no dropout to change; the data has one class;
        colour noise is asked for and the images have no three channels; a share is to be held out
        of data that has validation images.
    """
    if options.colour_noise and dataset.train.shape[2] != 3:
        raise UserError(
            f"colour-noise is {options.colour_noise:g}, but images of {options.data} have "
            f"{dataset.train.shape[2]} channels; expected 3"
        )
    _check_data(options, dataset)
    net = saved
    if net is None:
        net = build_net(options, dataset)
        _check_fit(net, options, dataset)
    small = options.net_name == SMALL
    room = min(dataset.train.shape[0] - net.input[1], dataset.train.shape[1] - net.input[2])
    lr = _given(options.lr, 0.02 if small else 0.01)
    decided: dict[str, Any] = {
        "epochs": _given(options.epochs, 7 if small else 90),
        "lr": lr,
        "schedule": _given(options.schedule, "epochs:6" if small else "plateau:5"),
        # Images of the net's size leave no room to crop, so they get a little padding.
        "crop_pad": _given(options.crop_pad, net.input[1] // 16 if room == 0 else 0),
        "mirror": _given(options.mirror, dataset.mirror),
    }
    recorded = dataclasses.replace(options, net=options.net_name, **decided)
    return Plan(
        net=net,
        bias_lr=_given(options.bias_lr, 2 * lr),
        batch_size=options.batch_size,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        seed=options.seed,
        shared_crop=options.shared_crop,
        colour_noise=options.colour_noise,
        colour_variant=options.colour_variant,
        skip_bad_images=options.skip_bad_images,
        workers=_given(options.workers, cores or count_cores()),
        weight_stats=options.weight_stats,
        options=dataclasses.asdict(recorded),
        **decided,
    )


def _check_data(options: Options, dataset: Dataset) -> None:
    if len(dataset.classes) < 2:
        name = dataset.classes[0]
        raise UserError(
            f"data {options.data}: has one class, {name!r}; expected at least two. If {name} is "
            "itself a folder of classes, give that as --data"
        )
    if options.val_share is not None and dataset.val_share is None:
        raise UserError(
            f"val-share is {options.val_share:g}, but {options.data} has validation images of its "
            "own; expected no val-share"
        )


def _check_fit(net: Net, options: Options, dataset: Dataset) -> None:
    """Raises UserError where zeros around the images would fill much of what the net reads."""
    _, *reads = net.input
    stored = dataset.train.shape[:2]
    covered = math.prod(map(min, reads, stored)) / math.prod(reads)
    if covered < 1 - _ZEROS:
        enlarge = f"--image-size {max(reads) * 8 // 7}, or "
        source, _ = data.find_source(options.data)
        raise UserError(
            f"net {net.name} reads {reads[0]}×{reads[1]}, but images of {options.data} are "
            f"{stored[0]}×{stored[1]}: zeros would fill {100 * (1 - covered):.0f} % of its field; "
            f"expected at most {100 * _ZEROS:.0f} %: give {enlarge * source.may_resize}"
            "another net, such as --net small"
        )


def build_net(options: Options, dataset: Dataset) -> Net:
    """The net that the options name, for the data's channels and classes; errors as `decide`."""
    rows, columns, channels = dataset.train.shape
    classes = len(dataset.classes)
    name = options.net_name
    if name == SMALL:
        net = zoo.get(name, input=(channels, rows, columns), classes=classes)
    else:
        net = zoo.get(name, classes=classes if name in zoo.NAMES else None)
    for what, of_net, of_data in (
        ("channels", net.input[0], channels),
        ("classes", net.classes, classes),
    ):
        if of_net != of_data:
            raise UserError(
                f"net {name} has {of_net} {what}, but the data {options.data} have {of_data}; "
                "expected the same"
            )
    return net if options.dropout is None else _with_dropout(net, options.dropout)


def _with_dropout(net: Net, p: float) -> Net:
    if not any(isinstance(layer, Dropout) for layer in net.layers):
        raise UserError(f"dropout is {p}, but net {net.name} has no dropout layer; expected one")
    layers = (
        dataclasses.replace(layer, p=p) if isinstance(layer, Dropout) else layer
        for layer in net.layers
    )
    return dataclasses.replace(net, layers=tuple(layers))


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
