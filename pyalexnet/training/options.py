"""The options of a run, as the user gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from pyalexnet import data
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.errors import UserError
from pyalexnet.nn import schedules

SMALL = "small"  # the net that takes the images' size
_SMALL_STORED = 64  # rows and columns of its images where they are resized


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
    devices : str
        As `device.open` takes it; two of a kind, as in "cuda:0,cuda:1", for a tower each.
    batch_size, epochs : int
    lr, bias_lr, momentum, weight_decay : float
        As `SGD`.
    schedule : str
        As `schedules.schedule`.
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
    colour_noise : float
        Standard deviation of the colour noise's α; 0 for none.
    colour_variant : str
        One of `augmentation.COLOUR_VARIANTS`.
    output : str
        The run's folder.
    skip_bad_images : bool
        Leave out unreadable images, and count them.
    workers : int, optional
        Processes that read ahead, or threads where images lie in memory; by default one for each
        core. 0: the trainer reads them itself when it needs them.
    threads : int, optional
        Threads of the host's kernels.
    progress, weight_stats : bool
        What to show: progress within an epoch; mean |w| and |Δw| after each.
    """

    net: str | None = None
    data: str = "shapes"
    image_size: int | None = None
    val_share: float | None = None
    devices: str = "auto"
    batch_size: int = 128
    epochs: int | None = None
    lr: float | None = None
    bias_lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0005
    schedule: str | None = None
    dropout: float | None = None
    seed: int = 0
    crop_pad: int | None = None
    mirror: bool | None = None
    shared_crop: int = 1
    colour_noise: float = 0.0
    colour_variant: str = "paper"
    output: str | None = None
    skip_bad_images: bool = False
    workers: int | None = None
    threads: int | None = None
    progress: bool = True
    weight_stats: bool = True

    def check(self) -> None:
        """Raises UserError naming an option that is out of range."""
        for name, lowest in (
            ("image_size", 1),
            ("batch_size", 1),
            ("epochs", 1),
            ("seed", 0),
            ("crop_pad", 0),
            ("shared_crop", 1),
            ("workers", 0),
            ("threads", 1),
            ("lr", 0),
            ("bias_lr", 0),
            ("momentum", 0),
            ("weight_decay", 0),
            ("dropout", 0),
            ("colour_noise", 0),
        ):
            value = getattr(self, name)
            if value is not None and not lowest <= value < math.inf:
                raise UserError(f"{name.replace('_', '-')} is {value}; expected at least {lowest}")
        for name in ("momentum", "dropout"):
            value = getattr(self, name)
            if value is not None and value >= 1:
                raise UserError(f"{name} is {value}; expected less than 1")
        if self.colour_variant not in COLOUR_VARIANTS:
            raise UserError(
                f"colour-variant is {self.colour_variant!r}; "
                f"expected one of {', '.join(COLOUR_VARIANTS)}"
            )
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise UserError(f"val-share is {self.val_share}; expected more than 0 and less than 1")
        if self.seed >= 2**64:
            raise UserError(f"seed is {self.seed}; expected less than 2^64")
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
            return Path(self.output).expanduser()
        source, place = data.find_source(self.data)
        # A user has many folders of images, but one MNIST.
        name = source.name if place is None or not source.resizes else place.resolve().name
        return Path("runs") / f"{name}-{Path(self.net_name).stem}"

    def stored_size(self) -> int | None:
        """The image size to open the data with."""
        resizes = data.find_source(self.data)[0].resizes
        if self.image_size is None and self.net_name == SMALL and resizes:
            return _SMALL_STORED
        return self.image_size
