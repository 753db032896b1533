"""The options of a run, and what net and data decide about those left open."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyalexnet import nets, optim
from pyalexnet.data import Dataset
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.errors import UserError
from pyalexnet.layers import Dropout
from pyalexnet.nets import Net

_SMALL_STORED = 64  # what the small net's folder images are brought to


@dataclass(frozen=True)
class Options:
    """How to train. What is None is decided by net and data, see `resolved`.

    Attributes
    ----------
    net : str, optional
        One of `nets.NAMES`, or a JSON file. "small" takes the images' size. By default "alexnet"
        for ImageNet, else "small".
    data : str
        As `data.open_dataset` takes it.
    image_size : int, optional
        Rows and columns that a folder's images are brought to.
    devices : str
        "auto", "host" or "cuda:<index>"; two of a kind, as "cuda:0,cuda:1", for a tower each.
    batch, epochs : int
    rate, bias_rate, momentum, decay : float
        As `optim.SGD`; the biases' rate is twice that of the weights where it is None.
    schedule : str
        As `optim.schedule`.
    dropout : float, optional
        Replaces the probability of all the net's dropout layers.
    seed : int
        Of weights, order, crops and dropout.
    crop_pad : int
        Pixels by which crops may reach over the images' borders.
    mirror : bool
        Whether to mirror half of the images.
    shared_crop : int
        So many consecutive images of a batch have one crop and mirror.
    colour_noise : float
        Standard deviation of the colour noise's α; 0 for none.
    colour_variant : str
        One of `augmentation.COLOUR_VARIANTS`.
    output : str
        The run's folder.
    skip_bad_images : bool
        Leave out unreadable images, and count them.
    workers : int, optional
        Who reads images ahead: processes, or threads where images lie in memory; by default one for
        each core. 0: the trainer itself, when it needs them.
    threads : int, optional
        Threads of the host's kernels.
    progress, magnitudes : bool
        What to show: how epochs go on; mean |w| and |Δw| after each.
    """

    net: str | None = None
    data: str = "shapes"
    image_size: int | None = None
    devices: str = "auto"
    batch: int = 128
    epochs: int | None = None
    rate: float | None = None
    bias_rate: float | None = None
    momentum: float = 0.9
    decay: float = 0.0005
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
    magnitudes: bool = True

    def check(self) -> None:
        """Raises UserError naming an option that is out of range."""
        for name, lowest in (
            ("image_size", 1),
            ("batch", 1),
            ("epochs", 1),
            ("seed", 0),
            ("crop_pad", 0),
            ("shared_crop", 1),
            ("workers", 0),
            ("threads", 1),
            ("rate", 0),
            ("bias_rate", 0),
            ("momentum", 0),
            ("decay", 0),
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
        if self.seed >= 2**64:
            raise UserError(f"seed is {self.seed}; expected less than 2^64")
        if self.schedule is not None:
            optim.schedule(self.schedule)

    @property
    def net_name(self) -> str:
        """`net`, or which one it is by default."""
        return self.net or ("alexnet" if self.data.startswith("imagenet:") else "small")

    def folder(self) -> Path:
        """The run's folder, by default one named after data and net."""
        if self.output is not None:
            return Path(self.output).expanduser()
        source, _, place = self.data.partition(":")
        name = Path(place).expanduser().resolve().name if source == "folder" else source
        return Path("runs") / f"{name}-{Path(self.net_name).stem}"

    def stored_size(self) -> int | None:
        """The image size to open the data with."""
        if self.image_size is None and self.net_name == "small" and self.data.startswith("folder:"):
            return _SMALL_STORED
        return self.image_size

    def resolved(self, net: Net, dataset: Dataset) -> Options:
        """These options with decisions for those that net and data decide.

        Raises
        ------
        UserError
            Colour noise is asked for and the images have no three channels.
        """
        if self.colour_noise and dataset.train.shape[2] != 3:
            raise UserError(
                f"colour-noise is {self.colour_noise:g}, but the images of {self.data} have "
                f"{dataset.train.shape[2]} channels; expected 3"
            )
        small = self.net_name == "small"
        room = min(dataset.train.shape[0] - net.input[1], dataset.train.shape[1] - net.input[2])
        decided: dict[str, Any] = {
            "net": self.net_name,
            "epochs": 7 if small else 90,
            "rate": 0.02 if small else 0.01,
            "schedule": "epochs:6" if small else "stall:5",
            # Images of the net's size have no room to move in, so they get a little.
            "crop_pad": net.input[1] // 16 if room == 0 else 0,
            "mirror": dataset.mirror,
        }
        return dataclasses.replace(
            self, **{k: v for k, v in decided.items() if getattr(self, k) is None}
        )

    def build_net(self, dataset: Dataset) -> Net:
        """The net named, for the data's channels and classes, with the dropout asked for.

        Raises
        ------
        UserError
            The net does not fit the data, or has no dropout to change.
        """
        rows, columns, channels = dataset.train.shape
        classes = len(dataset.classes)
        if self.net_name == "small":
            net = nets.get("small", input=(channels, rows, columns), classes=classes)
        else:
            net = nets.get(self.net_name, classes=classes if self.net_name in nets.NAMES else None)
        for what, of_net, of_data in (
            ("channels", net.input[0], channels),
            ("classes", net.classes, classes),
        ):
            if of_net != of_data:
                raise UserError(
                    f"net {self.net_name} has {of_net} {what}, but the images of {self.data} have "
                    f"{of_data}; expected the same"
                )
        if self.dropout is None:
            return net
        if not any(isinstance(layer, Dropout) for layer in net.layers):
            raise UserError(
                f"dropout is {self.dropout}, but net {self.net_name} has no dropout layer"
            )
        layers = (
            dataclasses.replace(layer, p=self.dropout) if isinstance(layer, Dropout) else layer
            for layer in net.layers
        )
        return dataclasses.replace(net, layers=tuple(layers))
