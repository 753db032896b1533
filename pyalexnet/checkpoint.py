"""Checkpoints: all that a run needs to go on, and a net needs to be used, in one safetensors file.

The tensors are "weights.<parameter>", "momenta.<parameter>", "mean", the mean image, and, of runs
with colour noise, "colour.values" and "colour.vectors"; the file's metadata hold one JSON object
under "pyalexnet", and its checksum. Files are replaced as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pyalexnet.data.split import Colour
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.nets import Net

Floats = npt.NDArray[np.float32]

FORMAT = 1
_KEY = "pyalexnet"


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Batches trained since the beginning; numbers the random draws of the next one.
    epoch : int
        Epochs done.
    position : int
        Batches done of the epoch under way.
    seconds, waited : float
        Spent on those, and how much of it waiting for their images.
    totals : list of float
        Their `Model.raw_totals`.
    best, best_epoch : float and int
        The lowest validation top-1 error, 0..1, and after which epoch; none yet: None and 0.
    schedule : dict
        `Schedule.state`.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    totals: list[float] = field(default_factory=lambda: [0.0] * 4)
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
    data : dict
        The data set: "spec" as given, "name", "train" and "val", the numbers of images.
    mean : float32 (H, W, C)
        The training set's mean image; its shape is that of stored images.
    weights, momenta : dict of float32 arrays
        `Model.state` and `Model.momenta_state`.
    progress : Progress
    options : dict
        The run's options, the seed among them.
    colour : Colour, optional
        How the training set's colours vary, where the run has colour noise.
    """

    net: Net
    classes: list[str]
    data: dict[str, Any]
    mean: Floats
    weights: Mapping[str, Floats]
    momenta: Mapping[str, Floats]
    progress: Progress
    options: dict[str, Any]
    colour: Colour | None = None

    def save(self, path: Path) -> None:
        """Writes the file, which is `path` only once it is complete and on the disk.

        Raises
        ------
        CheckpointError
            It cannot be written; a file that was there is as it was.
        """
        tensors: dict[str, npt.NDArray[Any]] = {"mean": self.mean}
        if self.colour is not None:
            arrays = self.colour._asdict().items()  # safetensors writes them as they lie in memory
            tensors |= {f"colour.{name}": np.ascontiguousarray(array) for name, array in arrays}
        tensors |= {f"weights.{name}": array for name, array in self.weights.items()}
        tensors |= {f"momenta.{name}": array for name, array in self.momenta.items()}
        about = {
            "format": FORMAT,
            "net": json.loads(self.net.to_json()),
            "classes": self.classes,
            "data": self.data,
            "progress": dataclasses.asdict(self.progress),
            "options": self.options,
            "crc32": {name: _sum(array) for name, array in tensors.items()},
        }
        text = json.dumps(about)
        metadata = {_KEY: text, "crc32": str(zlib.crc32(text.encode()))}
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(tensors, temporary, metadata)
            temporary.chmod(mode)  # safetensors lets no other user read its files
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise CheckpointError(f"{path}: cannot be written: {error}") from error


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or no checkpoint of this program's; the message says which.
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
            f"{path}: a safetensors file, but no checkpoint of pyalexnet's: its metadata lack "
            f"{_KEY!r}"
        )
    if str(zlib.crc32(metadata[_KEY].encode())) != metadata.get("crc32"):
        raise CheckpointError(f"{path}: damaged: its metadata are not what was written")
    try:
        about = json.loads(metadata[_KEY])
        written = about["format"]
        if written != FORMAT:
            raise CheckpointError(f"{path}: format {written}; this version reads {FORMAT}")
        _verify(path, tensors, about["crc32"])
        return Checkpoint(
            net=Net.from_json(json.dumps(about["net"])),
            classes=about["classes"],
            data=about["data"],
            mean=tensors["mean"],
            weights=_part(tensors, "weights."),
            momenta=_part(tensors, "momenta."),
            progress=Progress(**about["progress"]),
            options=about["options"],
            colour=Colour(**colour) if (colour := _part(tensors, "colour.")) else None,
        )
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise CheckpointError(f"{path}: damaged metadata: {error!r}") from error


def check_net(path: Path, saved: Net, wanted: Net) -> None:
    """Raises CheckpointError naming the first difference unless the nets, but for names, agree."""
    if saved != dataclasses.replace(wanted, name=saved.name):
        raise CheckpointError(f"{path}: a checkpoint of another net: {_difference(saved, wanted)}")


def _difference(saved: Net, wanted: Net) -> str:
    for what in ("input", "scale"):
        old, new = getattr(saved, what), getattr(wanted, what)
        if old != new:
            return f"its {what} is {old}; expected {new}"
    for name, old, new in zip(saved.names, saved.layers, wanted.layers, strict=False):
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


def _flush(path: Path) -> None:
    """Has the disk hold a file's contents, or a folder's names, before anything relies on them."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
