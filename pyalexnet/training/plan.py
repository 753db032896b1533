"""What a run does: the options with everything decided that they leave open."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyalexnet import data
from pyalexnet.cores import count_cores
from pyalexnet.data import Dataset
from pyalexnet.errors import UserError
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Dropout
from pyalexnet.nn.net import Net
from pyalexnet.training import recipes
from pyalexnet.training.options import SMALL, SMALL_SIZE, Options

_EPOCH_STEPS = 40  # in an epoch, at least, where batches can be made small enough
_BATCHES = 16, 128  # the smallest and the largest
_FEW = _EPOCH_STEPS * _BATCHES[1]  # images, of which fewer are few
_MOST_EPOCHS = 120
_FEW_NOISE = 0.8  # standard deviations of the set's own colours

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
    warmup: float
    seed: int
    crop_pad: int
    mirror: bool
    shared_crop: int
    colour_noise: float
    colour_variant: str
    skip_bad_images: bool
    workers: int
    weight_stats: bool
    border: str  #: that a part of what the net reads lies outside the images; "" where none does
    fitted: str  #: the numbers that follow from the size of the training set; "" for none
    options: dict[str, Any]  #: for the checkpoint: the options, with what was decided


class Fit(NamedTuple):
    """Numbers that suit the size of a training set; docs/defaults.md has the measurements."""

    batch_size: int
    epochs: int
    lr: float
    schedule: str
    colour_noise: float  #: of images with three channels
    margin: int  #: of which a part of the net's rows crops may lie outside the image: 16 for 1/16


def fit(images: int, small: bool, batch_size: int | None = None) -> Fit:
    """The numbers for so many training images.

    Few images need small batches and many epochs, or there are too few steps to learn in; small
    batches have noisier gradients, which need a lower rate. Few images also show few places and
    colours of a thing: wide crops and colour noise keep the net from learning these by heart.

    Parameters
    ----------
    images : int
    small : bool
        Whether the net is for images of up to 64×64 pixels.
    batch_size : int, optional
        To fit the rate to, where the user has chosen it.
    """
    if batch_size is None:
        batch_size = _power_of_two(images // _EPOCH_STEPS, _BATCHES)
    slower = min(1.0, math.sqrt(batch_size / _BATCHES[1]))
    if not small:
        return Fit(batch_size, 90, _round(0.01 * slower), "plateau:5", 0.0, 16)
    lr, epochs = _round(0.02 * slower), round(7 * (20_000 / images) ** 0.6)
    if images < _FEW:
        return Fit(batch_size, min(epochs, _MOST_EPOCHS), lr, "step", _FEW_NOISE, 8)
    return Fit(batch_size, max(epochs, 7), lr, "step", 0.0, 16)


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
    channels = dataset.train.shape[2]
    if options.colour_noise and channels != 3:
        raise UserError(
            f"colour-noise is {options.colour_noise:g}, but images of {options.data} have "
            f"{channels} channels; expected 3"
        )
    _check_data(options, dataset)
    net = saved
    if net is None:
        net = build_net(options, dataset)
        _check_fit(net, options, dataset)
    options = _with_defaults_of(net, options)
    small = max(net.input[1:]) <= SMALL_SIZE
    fitted = fit(len(dataset.train), small, options.batch_size)
    noise = fitted.colour_noise if channels == 3 else 0.0
    room = min(dataset.train.shape[0] - net.input[1], dataset.train.shape[1] - net.input[2])
    decided: dict[str, Any] = {
        "batch_size": fitted.batch_size,
        "epochs": _given(options.epochs, fitted.epochs),
        "lr": _given(options.lr, fitted.lr),
        "schedule": _given(options.schedule, fitted.schedule),
        "warmup": _given(options.warmup, 0.0),
        # Images of the net's size leave no room to crop, so they get a little padding.
        "crop_pad": _given(options.crop_pad, net.input[1] // fitted.margin if room == 0 else 0),
        "mirror": _given(options.mirror, dataset.mirror),
        "colour_noise": _given(options.colour_noise, noise),
        # Where the user asks for noise, it is the paper's.
        "colour_variant": _given(
            options.colour_variant, "code" if noise and options.colour_noise is None else "paper"
        ),
    }
    recorded = dataclasses.replace(
        options, net=options.net_name, image_size=_resized(options, dataset), **decided
    )
    return Plan(
        net=net,
        bias_lr=_given(options.bias_lr, 2 * decided["lr"]),
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        seed=options.seed,
        shared_crop=options.shared_crop,
        skip_bad_images=options.skip_bad_images,
        workers=_given(options.workers, cores or count_cores()),
        weight_stats=options.weight_stats,
        border=_border(net, dataset),
        fitted=_in_words(options, decided, len(dataset.train)),
        options=dataclasses.asdict(recorded),
        **decided,
    )


def _with_defaults_of(net: Net, options: Options) -> Options:
    """The options and, for those that are not given, the net's own."""
    of_net = recipes.options(f"net {net.name}, training", net.training)
    return dataclasses.replace(
        options, **{name: _given(getattr(options, name), value) for name, value in of_net.items()}
    )


def _resized(options: Options, dataset: Dataset) -> int | None:
    """The image size to record: a run that resumes may not have the net's file any more."""
    resizes = data.find_source(options.data)[0].resizes
    return dataset.train.shape[0] if resizes else options.image_size


def _in_words(options: Options, decided: dict[str, Any], images: int) -> str:
    """Which numbers follow from the size of the training set: "160 images are few: batch 16, …"."""
    few = images < _FEW
    forms = {"batch_size": "batch {}", "lr": "learning rate {:g}", "epochs": "{} epochs"}
    if few:
        forms |= {"colour_noise": "colour noise {:g}", "crop_pad": "crop-pad {}"}
    words = [
        form.format(decided[name])
        for name, form in forms.items()
        if getattr(options, name) is None and decided[name]
    ]
    return f"{images:,} images{' are few' * few}: {', '.join(words)}" if words else ""


def _power_of_two(value: int, bounds: tuple[int, int]) -> int:
    """The largest power of two up to `value`, within the bounds."""
    return max(bounds[0], min(1 << max(value, 1).bit_length() - 1, bounds[1]))


def _round(value: float) -> float:
    return float(f"{value:.2g}")


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
        size = max(reads) * 8 // 7
        source, _ = data.find_source(options.data)
        option = "--image-size" if source.may_resize else "pyalexnet-prepare's --size"
        raise UserError(
            f"net {net.name} reads {reads[0]}×{reads[1]}, but images of {options.data} are "
            f"{stored[0]}×{stored[1]}: zeros would fill {100 * (1 - covered):.0f} % of its field; "
            f"expected at most {100 * _ZEROS:.0f} %: give {option} {size}, or "
            "another net, such as --net small"
        )


def _border(net: Net, dataset: Dataset) -> str:
    """A note where the net reads more than the images: "2 % of the net's 227×227 are zeros …"."""
    _, *reads = net.input
    rows, columns, _ = dataset.train.shape
    covered = math.prod(map(min, reads, (rows, columns))) / math.prod(reads)
    if covered == 1:
        return ""
    return (
        f"{100 * (1 - covered):.0f} % of the net's {reads[0]}×{reads[1]} are zeros around images "
        f"of {rows}×{columns} (image-size)"
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
