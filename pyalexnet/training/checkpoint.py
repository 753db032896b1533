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
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any

import numpy.typing as npt

from pyalexnet import files
from pyalexnet.data import Dataset
from pyalexnet.data.dataset import Colour
from pyalexnet.device import Device, Floats
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.files import expanded, parse_json
from pyalexnet.model import Model, Totals
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import SGD
from pyalexnet.text import printable
from pyalexnet.training import tensor_file
from pyalexnet.training.checkpoint_fields import check_finite, checked, expect_tensors

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
        """Writes the file, see `files.replacing`; the same bytes for an equal checkpoint.

        Raises
        ------
        UserError
            It cannot be written; a file that was there is as it was.
        """
        tensors = self._tensors()
        text = json.dumps(self._about(tensors))
        metadata = {_KEY: text, "crc32": str(zlib.crc32(text.encode()))}
        tensor_file.write(path, tensors, metadata)

    def check(self) -> None:
        """Raises UserError unless `load` will take what `save` writes."""
        tensors = self._tensors()
        fields = checked(json.loads(json.dumps(self._about(tensors))))
        expect_tensors(tensor_file.entries(tensors), fields)
        for name, tensor in tensors.items():
            check_finite(name, tensor)

    def _tensors(self) -> dict[str, npt.NDArray[Any]]:
        tensors: dict[str, npt.NDArray[Any]] = {}
        if self.mean is not None:
            tensors["mean"] = self.mean
        if self.colour is not None:
            tensors |= {f"colour.{name}": a for name, a in self.colour._asdict().items()}
        tensors |= {f"model.{name}": array for name, array in self.model.items()}
        tensors |= {f"optimizer.{name}": array for name, array in self.optimiser.items()}
        return tensors

    def _about(self, tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "net": json.loads(self.net.to_json()),
            "classes": self.classes,
            "image_shape": self.image_shape,
            "data": self.data,
            "progress": dataclasses.asdict(self.progress),
            "options": self.options,
            "crc32": {name: _sum(tensors[name]) for name in sorted(tensors)},
        }

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
    """Reads a checkpoint, which is then fit for use: every field is of its type and range.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or not a checkpoint of pyalexnet, or a tensor holds a number
        that is not finite; the message says which.
    """
    with files.reading(path, CheckpointError):
        try:
            with tensor_file.opened(path) as file:
                return _read(file)
        except FileNotFoundError:
            raise CheckpointError(
                f"{path}: no such file; expected a checkpoint, *.safetensors"
            ) from None
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error


def load_run(path: Path) -> Checkpoint:
    """Reads a checkpoint from which a run can go on; errors as `load`, and where it has none."""
    checkpoint = load(path)
    if not (checkpoint.options and checkpoint.data and checkpoint.optimiser):
        raise CheckpointError(
            f"{path}: has a model alone, of no run; expected a checkpoint that training has written"
        )
    return checkpoint


def _read(file: tensor_file.TensorFile) -> Checkpoint:
    """The checkpoint in a file; the values of tensors are only read once all else is right."""
    text = file.metadata.get(_KEY)
    if text is None:
        raise CheckpointError(
            f"a safetensors file without {_KEY!r} in its metadata; expected a checkpoint of "
            "pyalexnet"
        )
    if str(zlib.crc32(text.encode(errors="surrogatepass"))) != file.metadata.get("crc32"):
        raise CheckpointError("damaged: its metadata are not what was written")
    about = parse_json(text, "metadata", CheckpointError)
    written = about.get("format") if isinstance(about, dict) else None
    if type(written) is not int or written < 1:
        raise CheckpointError(f"damaged metadata: format is {repr(written)}; expected {FORMAT}")
    if written != FORMAT:
        raise CheckpointError(f"format is {repr(written)}; expected {FORMAT}")
    try:
        fields = checked(about)
        expect_tensors(file.entries, fields)
    except UserError as error:
        raise CheckpointError(f"damaged metadata: {error}") from error
    sums, progress = fields.pop("crc32"), fields.pop("progress")
    progress["totals"] = Totals(*map(float, progress["totals"]))
    tensors = {}
    for name in sorted(file.entries):
        tensors[name] = file.read(name)
        if _sum(tensors[name]) != sums[name]:
            raise CheckpointError(f"damaged: tensor {name} is not what was written")
        check_finite(name, tensors[name])
    return Checkpoint(
        **fields,
        progress=Progress(**progress),
        model=_part(tensors, "model."),
        optimiser=_part(tensors, "optimizer."),
        mean=tensors.get("mean"),
        colour=Colour(**colour) if (colour := _part(tensors, "colour.")) else None,
    )


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
        The file cannot be written, the number of classes is not the net's, or a weight is not
        finite.
    """
    net = model.net
    names = list(map(str, range(net.classes))) if classes is None else list(classes)
    if len(names) != net.classes:
        raise UserError(f"classes: {len(names)}; expected the {net.classes} of net {net.name}")
    checkpoint = Checkpoint(
        net=net,
        classes=names,
        image_shape=image_shape or model.image_shape,
        model=model.state(),
        optimiser={} if optimiser is None else optimiser.state(),
        mean=model.mean_image if net.normalization.uses_mean_image else None,
    )
    checkpoint.check()
    checkpoint.save(expanded(path))


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
            return f"class {label} is '{printable(name)}'; expected '{printable(wanted)}'"
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


def _sum(array: npt.NDArray[Any]) -> int:
    kind = f"{array.dtype} {array.shape}"
    return zlib.crc32(tensor_file.flat(array).data, zlib.crc32(kind.encode()))


def _part(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
