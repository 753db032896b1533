"""Checkpoints: all that a run needs to go on, and a net needs to be used, in one safetensors file.

The tensors are "model.<name>", the weights and the layers' buffers; "optimizer.<name>"; "mean", the
mean image; and, of runs with colour noise, "colour.values" and "colour.vectors". The file's
metadata hold one JSON object under "pyalexnet", and its checksum.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pyalexnet import files
from pyalexnet.data import Dataset
from pyalexnet.data.dataset import Colour
from pyalexnet.device import Device, Floats
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.model import Model, Totals
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import SGD

FORMAT = 2
_KEY = "pyalexnet"


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Batches trained since the beginning; the counter of the next one's random draws.
    epoch : int
        Epochs done.
    position : int
        Batches done of the current epoch.
    seconds, data_seconds : float
        Time spent on those, and how much of it was spent waiting for their images.
    totals : Totals
        Their `Model.totals`.
    best, best_epoch : float or None, and int
        The lowest validation top-1 error, 0..1, and after which epoch; None and 0 before the first.
    schedule : dict
        `Schedule.state`.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    totals: Totals = field(default_factory=Totals)
    best: float | None = None
    best_epoch: int = 0
    schedule: dict[str, Any] = field(default_factory=dict)


@dataclass
class Checkpoint:
    """A run at one moment.

    Attributes
    ----------
    net : Net
    classes : list of str
        Their names by label.
    image_shape : (H, W, C)
        Of the stored images.
    model, optimiser : dict of float32 arrays
        `Model.state` and `SGD.state`.
    mean : float32 (H, W, C), optional
        The training set's mean image, where the net's normalization uses it.
    colour : Colour, optional
        How the training set's colours vary, where the run has colour noise.
    data : dict
        The data set: "spec" as given, "name", the numbers of images "train" and "val", and
        "val_share", as `Dataset.val_share`.
    progress : Progress
    options : dict
        The run's options.
    """

    net: Net
    classes: list[str]
    image_shape: tuple[int, int, int]
    model: Mapping[str, Floats]
    optimiser: Mapping[str, Floats] = field(default_factory=dict)
    mean: Floats | None = None
    colour: Colour | None = None
    data: dict[str, Any] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the file, see `files.replacing`.

        Raises
        ------
        UserError
            It cannot be written; a file that was there is as it was.
        """
        tensors: dict[str, npt.NDArray[Any]] = {}
        if self.mean is not None:
            tensors["mean"] = self.mean
        if self.colour is not None:
            arrays = self.colour._asdict().items()  # safetensors writes them as they lie in memory
            tensors |= {f"colour.{name}": np.ascontiguousarray(array) for name, array in arrays}
        tensors |= {f"model.{name}": array for name, array in self.model.items()}
        tensors |= {f"optimizer.{name}": array for name, array in self.optimiser.items()}
        about = {
            "format": FORMAT,
            "net": json.loads(self.net.to_json()),
            "classes": self.classes,
            "image_shape": self.image_shape,
            "data": self.data,
            "progress": dataclasses.asdict(self.progress),
            "options": self.options,
            "crc32": {name: _sum(array) for name, array in tensors.items()},
        }
        text = json.dumps(about)
        metadata = {_KEY: text, "crc32": str(zlib.crc32(text.encode()))}
        files.replace(path, save(tensors, metadata))

    def build(self, device: str | Device | Sequence[Device], batch_size: int) -> Model:
        """A model with these weights and this mean image; errors as `Model`, and as `load`."""
        model = Model(self.net, device, batch_size)
        self.fill(model)
        return model

    def fill(self, model: Model) -> None:
        """Sets the weights and the mean image of a model of this net; errors as `load`."""
        model.load_state(self.model)
        if self.mean is not None:
            model.set_mean_image(self.mean)

    @property
    def mirrored(self) -> bool:
        """Whether the run mirrored its images; True where it is not recorded."""
        return bool(self.options.get("mirror", True))


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or not a checkpoint of pyalexnet; the message says which.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint, *.safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: types NumPy has not
        raise CheckpointError(f"{path}: damaged, or no safetensors file: {error}") from error
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file without {_KEY!r} in its metadata; expected a checkpoint "
            "of pyalexnet"
        )
    if str(zlib.crc32(metadata[_KEY].encode())) != metadata.get("crc32"):
        raise CheckpointError(f"{path}: damaged: its metadata are not what was written")
    try:
        about = json.loads(metadata[_KEY])
        written = about["format"]
        if written != FORMAT:
            raise CheckpointError(f"{path}: format is {written}; expected {FORMAT}")
        _verify(path, tensors, about["crc32"])
        rows, columns, channels = map(int, about["image_shape"])
        progress = about["progress"] | {"totals": Totals(*about["progress"]["totals"])}
        return Checkpoint(
            net=Net.from_json(json.dumps(about["net"])),
            classes=about["classes"],
            image_shape=(rows, columns, channels),
            model=_part(tensors, "model."),
            optimiser=_part(tensors, "optimizer."),
            mean=tensors.get("mean"),
            colour=Colour(**colour) if (colour := _part(tensors, "colour.")) else None,
            data=about["data"],
            progress=Progress(**progress),
            options=about["options"],
        )
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise CheckpointError(f"{path}: damaged metadata: {error!r}") from error


def open_model(
    path: Path, checkpoint: Checkpoint, device: str | Device | Sequence[Device], batch_size: int
) -> Model:
    """As `Checkpoint.build`, with the file's name in errors about its tensors."""
    try:
        return checkpoint.build(device, batch_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def save_model(
    model: Model,
    path: str | Path,
    *,
    optimiser: SGD | None = None,
    classes: Sequence[str] | None = None,
    image_shape: tuple[int, int, int] | None = None,
) -> None:
    """Writes a model to a checkpoint that `pyalexnet.load` and the commands read.

    Parameters
    ----------
    model : Model
    path : str or Path
    optimiser : SGD, optional
        Its state is written, too.
    classes : sequence of str, optional
        Names by label; by default, the labels.
    image_shape : (H, W, C), optional
        Of the stored images; by default that of the mean image, or of the images that the model
        has read last, or the net's input.

    Raises
    ------
    UserError
        The file cannot be written, or the number of classes is not the net's.
    """
    net = model.net
    names = list(map(str, range(net.classes))) if classes is None else list(classes)
    if len(names) != net.classes:
        raise UserError(f"classes: {len(names)}; expected the {net.classes} of net {net.name}")
    mean = model.mean_image
    Checkpoint(
        net=net,
        classes=names,
        image_shape=image_shape or model.image_shape,
        model=model.state(),
        optimiser={} if optimiser is None else optimiser.state(),
        mean=mean,
    ).save(Path(path))


def check_net(path: Path, saved: Net, wanted: Net) -> None:
    """Raises CheckpointError naming the first difference unless the nets, but for names, agree."""
    if saved != dataclasses.replace(wanted, name=saved.name):
        raise CheckpointError(
            f"{path}: a checkpoint of another net: {_net_difference(saved, wanted)}"
        )


def check_data(path: Path, checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Raises CheckpointError naming the difference unless the data set fits the checkpoint."""
    shape = dataset.val.shape
    if shape != checkpoint.image_shape:
        raise CheckpointError(
            f"{path}: image shape is {'×'.join(map(str, checkpoint.image_shape))}; expected that "
            f"of {dataset.name}, {'×'.join(map(str, shape))} (rows, columns, channels)"
        )
    difference = class_difference(checkpoint.classes, dataset.classes)
    if difference:
        raise CheckpointError(f"{path}: classes differ from those of {dataset.name}: {difference}")


def class_difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """The first difference between lists of classes; "" if they are equal."""
    for label, (name, wanted) in enumerate(zip(found, expected, strict=False)):
        if name != wanted:
            return f"class {label} is {name!r}; expected {wanted!r}"
    return "" if len(found) == len(expected) else f"it has {len(found)}; expected {len(expected)}"


def _net_difference(saved: Net, wanted: Net) -> str:
    for what in ("input", "normalization", "loss"):
        old, new = getattr(saved, what), getattr(wanted, what)
        if old != new:
            return f"its {what} is {old}; expected {new}"
    for name, old, new in zip(saved.names, saved.layers, wanted.layers, strict=False):
        for what in ("name", "inputs"):
            one, other = getattr(old, what), getattr(new, what)
            if one != other:
                return f"its layer {name} has {what} {one!r}; expected {other!r}"
        if old != new:
            return f"its layer {name} is {old}; expected {new}"
    return f"it has {len(saved.layers)} layers; expected {len(wanted.layers)}"


def _verify(path: Path, tensors: Mapping[str, npt.NDArray[Any]], sums: Mapping[str, int]) -> None:
    for name in sorted(tensors.keys() | sums.keys()):
        if name not in tensors or _sum(tensors[name]) != sums.get(name):
            raise CheckpointError(f"{path}: damaged: tensor {name} is not what was written")


def _sum(array: npt.NDArray[Any]) -> int:
    return zlib.crc32(array.data, zlib.crc32(f"{array.dtype} {array.shape}".encode()))


def _part(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
