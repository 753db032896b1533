"""The options of a run, as the user gives them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import os
import typing
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any

import numpy as np

from pyalexnet import data
from pyalexnet.cores import check_count
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.data.dataset import LARGEST_SIZE
from pyalexnet.errors import UserError
from pyalexnet.files import expanded, real
from pyalexnet.nn import schedules, zoo
from pyalexnet.nn.layers.base import is_number
from pyalexnet.text import nearest

SMALL = "small"  # the net that takes the images' size
SMALL_SIZE = 64  # rows and columns that small nets read at most; those of `small` by default

_MOST = 2**53  # of a whole number, which is then exact as a float, too
_WORDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Options:
    """How to train. `plan.decide` decides what is None here.

    Attributes
    ----------
    net : str, optional
        One of `zoo.NAMES`, or a JSON file. "small" takes the images' size. By default the data
        source's, "alexnet" for ImageNet, else "small".
    data : str
        As `data.open_dataset` takes it.
    image_size : int, optional
        Rows and columns to which images are resized; a folder's always are.
    val_share : float, optional
        As `data.open_dataset` takes it.
    device : str
        As `device.open` takes it; two of a kind, as in "cuda:0,cuda:1", for a tower each.
    batch_size, epochs : int, optional
    lr, bias_lr, momentum, weight_decay : float
        As `SGD`.
    schedule : str, optional
        As `schedules.schedule`.
    warmup : float, optional
        Epochs, or a part of one, in which the rate rises from 0.
    dropout : float, optional
        Replaces the probability of all the net's dropout layers.
    seed : int
        Of weights, order, crops and dropout.
    crop_pad : int
        Zero pixels around an image that crops may include.
    mirror : bool
        Whether to mirror half of the images.
    shared_crop : int
        So many consecutive images of a batch share one crop and mirror.
    colour_noise : float, optional
        Standard deviation of the colour noise's α; 0 for none.
    colour_variant : str, optional
        One of `augmentation.COLOUR_VARIANTS`.
    checkpoint_minutes : float
        Minutes between checkpoints within an epoch; 0 for none.
    output : str
        The run's folder.
    skip_bad_images : bool
        Leave out unreadable images, and count them.
    workers : int, optional
        Processes that read ahead, or threads where images lie in memory; by default one for each
        core. 0: the trainer reads them itself when it needs them.
    threads : int, optional
        Threads of the host's kernels.
    quiet, verbose, weight_stats : bool
        What to show: errors only; also the options as decided; mean |w| and |Δw| after each epoch.
    """

    net: str | None = None
    data: str = "shapes"
    image_size: int | None = None
    val_share: float | None = None
    device: str = "auto"
    batch_size: int | None = None
    epochs: int | None = None
    lr: float | None = None
    bias_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0005
    schedule: str | None = None
    warmup: float | None = None
    dropout: float | None = None
    seed: int = 0
    crop_pad: int | None = None
    mirror: bool | None = None
    shared_crop: int = 1
    colour_noise: float | None = None
    colour_variant: str | None = None
    checkpoint_minutes: float = 30.0
    output: str | None = None
    skip_bad_images: bool = False
    workers: int | None = None
    threads: int | None = None
    quiet: bool = False
    verbose: bool = False
    weight_stats: bool = False

    @classmethod
    def of(cls, given: dict[str, Any]) -> Options:
        """The options with these values; None is as if it were not given.

        Raises
        ------
        UserError
            There is no such option, the message names the nearest; or a value of another type.
        """
        for name in given:
            if name not in NAMES:
                expected = nearest(name, NAMES) or f"one of {', '.join(NAMES)}"
                raise UserError(f"option {name} is unknown; expected {expected}")
        return cls(**{name: typed(name, v) for name, v in given.items() if v is not None})

    def check(self) -> None:
        """Raises UserError naming an option that is out of range."""
        for name, kind in _kinds().items():
            if kind is str and getattr(self, name) == "":  # such as an unset variable of a shell
                raise UserError(f"{name.replace('_', '-')} is ''; expected a value")
        check_count("workers", self.workers, 0)
        check_count("threads", self.threads)
        for name, lowest, highest in (
            ("image_size", 1, LARGEST_SIZE),
            ("batch_size", 1, _MOST),
            ("epochs", 1, _MOST),
            ("seed", 0, math.inf),
            ("crop_pad", 0, LARGEST_SIZE),
            ("shared_crop", 1, _MOST),
            ("lr", 0, math.inf),
            ("bias_lr", 0, math.inf),
            ("momentum", 0, math.inf),
            ("warmup", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("dropout", 0, math.inf),
            ("colour_noise", 0, math.inf),
            ("checkpoint_minutes", 0, math.inf),
        ):
            value, option = getattr(self, name), name.replace("_", "-")
            if value is not None and not lowest <= value < math.inf:
                raise UserError(f"{option} is {repr(value)}; expected at least {lowest}")
            if value is not None and value > highest:
                raise UserError(f"{option} is {repr(value)}; expected at most {highest}")
        for name in ("lr", "bias_lr", "momentum", "weight_decay", "colour_noise"):
            value = getattr(self, name)
            if value is not None and not is_number(value):
                option = name.replace("_", "-")
                raise UserError(f"{option} is {value}; expected a number that float32 holds")
        for name in ("momentum", "dropout"):
            value = getattr(self, name)
            if value is not None and value >= 1:
                raise UserError(f"{name} is {value}; expected less than 1")
        if self.colour_variant not in (None, *COLOUR_VARIANTS):
            raise UserError(
                f"colour-variant is {repr(self.colour_variant)}; "
                f"expected one of {', '.join(COLOUR_VARIANTS)}"
            )
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise UserError(f"val-share is {self.val_share}; expected more than 0 and less than 1")
        if self.seed >= 2**64:
            raise UserError(f"seed is {repr(self.seed)}; expected less than 2^64")
        if self.schedule is not None:
            schedules.schedule(self.schedule)

    @property
    def net_name(self) -> str:
        """`net`, or the data source's default."""
        return self.net or data.find_source(self.data)[0].default_net

    def folder(self) -> Path:
        """The run's folder; by default, it is named after data and net.

        Raises
        ------
        DataError
            There is no such source of data.
        """
        if self.output is not None:
            return expanded(self.output)
        source, place = data.find_source(self.data)
        # A user has many folders of images, but one MNIST.
        name = source.name if place is None or not source.resizes else real(place).name
        return Path("runs") / f"{name}-{Path(self.net_name).stem}"

    def stored_size(self) -> int | None:
        """The image size to open the data with.

        Raises
        ------
        UserError
            There is no such source of data; the net's file cannot be read.
        """
        if self.image_size is not None or not data.find_source(self.data)[0].resizes:
            return self.image_size
        if self.net_name == SMALL:
            return SMALL_SIZE
        reads = max(zoo.get(self.net_name).input[1:])
        return reads if reads <= SMALL_SIZE else None


#: The options' names.
NAMES = tuple(field.name for field in dataclasses.fields(Options))


def typed(name: str, value: Any) -> Any:
    """The value of an option as its type: a whole number may be a float, a path a string.

    Raises
    ------
    UserError
        It is of another type; the message names the option as commands do.
    """
    kind = _kinds()[name]
    if kind is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if kind is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if not isinstance(value, bool):
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
        if kind is float and isinstance(value, numbers.Real):
            with contextlib.suppress(OverflowError):
                return float(value)
    raise UserError(f"{name.replace('_', '-')} is {repr(value)}; expected {_WORDS[kind]}")


@functools.cache
def _kinds() -> dict[str, type]:
    """The options' types; of one or None, the one."""
    hints = typing.get_type_hints(Options)
    return {
        name: typing.get_args(kind)[0] if typing.get_args(kind) else kind
        for name, kind in hints.items()
    }
