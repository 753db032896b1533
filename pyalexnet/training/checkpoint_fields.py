"""What a checkpoint may hold: a file's metadata and tensors are what the rest relies on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any

import numpy as np
import numpy.typing as npt

from pyalexnet.device import Shape
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.nn import schedules
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import MOMENTUM
from pyalexnet.text import nearest, printable
from pyalexnet.training import options
from pyalexnet.training.tensor_file import Entry

_STEPS = 2**32 - 1  # the kernels count so far
_MOST = 2**53  # that a float counts exactly
_DROPS = 1000  # of the rate, after which it is 0
_Check = tuple[Callable[[Any], bool], str]  # of a value, and what it expects in words


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_number(value: Any, most: float = sys.float_info.max) -> bool:
    return type(value) in (int, float) and 0 <= value <= most


def _or_none(check: _Check) -> _Check:
    return (lambda value: value is None or check[0](value)), f"{check[1]}, or none"


def _is_totals(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_TEXT: _Check = (lambda value: isinstance(value, str)), "a text"
_OBJECT: _Check = (lambda value: isinstance(value, dict)), "an object"
_TIME: _Check = _is_number, "a number from 0"
_SHARE: _Check = (lambda value: _is_number(value, 1)), "a number from 0 to 1"
_STEP: _Check = (lambda value: _is_count(value, _STEPS)), f"a whole number from 0 to {_STEPS}"
_COUNT: _Check = (lambda value: _is_count(value, _MOST)), f"a whole number from 0 to {_MOST}"

_DATA = {
    "spec": _TEXT,
    "name": _TEXT,
    "train": _COUNT,
    "val": _COUNT,
    "val_share": _or_none(_SHARE),
}
_PROGRESS = {
    "step": _STEP,
    "epoch": _STEP,
    "position": _STEP,
    "seconds": _TIME,
    "data_seconds": _TIME,
    "totals": (_is_totals, "four numbers from 0"),
    "best": _or_none(_SHARE),
    "best_epoch": _STEP,
    "schedule": _OBJECT,
}
_SCHEDULE: dict[str, _Check] = {
    "drops": ((lambda value: _is_count(value, _DROPS)), f"a whole number from 0 to {_DROPS}"),
    "best": _or_none(_SHARE),
    "stalled": _COUNT,
}


def _expect(ok: bool, name: str, value: Any, expected: str) -> None:
    if not ok:
        raise CheckpointError(f"{printable(name)[:99]} is {repr(value)}; expected {expected}")


def checked(about: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Checkpoint` that a file's metadata have, and "crc32", the tensors' sums.

    Parameters
    ----------
    about : mapping
        What a JSON text has held: any values.

    Raises
    ------
    CheckpointError, NetError
        A field is missing, or of another type or range; the message names it.
    """
    parts = ("net", "classes", "image_shape", "data", "progress", "options", "crc32")
    for part in parts:
        _expect(part in about, part, None, "a value")
    net = Net.from_value(about["net"])
    classes, shape = about["classes"], about["image_shape"]
    ok = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    _expect(ok, "classes", classes, "a list of names")
    _expect(len(classes) == net.classes, "number of classes", len(classes), f"{net.classes}")
    ok = isinstance(shape, list) and len(shape) == 3
    ok = ok and all(_is_count(n, 2**31 - 1) and n for n in shape)
    _expect(ok, "image_shape", shape, "rows, columns and channels from 1")
    ok = shape[2] == net.input[0]
    _expect(ok, "image_shape", shape, f"the {net.input[0]} channels of net {net.name}")
    progress = _object("progress", about["progress"], _PROGRESS)
    settings = _options(about["options"])
    _object("progress.schedule", progress["schedule"], _schedule_of(settings))
    data = about["data"]
    if isinstance(data, dict) and data:  # the first checkpoints have no val_share
        data = {"val_share": None} | data
    data = _object("data", data, _DATA if data else {})
    _check_progress(progress, data, settings)
    sums = about["crc32"]
    ok = isinstance(sums, dict) and all(_is_count(value, _STEPS) for value in sums.values())
    _expect(ok, "crc32", sums, "the tensors' sums")
    return {
        "net": net,
        "classes": classes,
        "image_shape": tuple(shape),
        "data": data,
        "progress": progress,
        "options": settings,
        "crc32": sums,
    }


def _object(name: str, value: Any, fields: Mapping[str, _Check]) -> dict[str, Any]:
    _expect(isinstance(value, dict), name, value, "an object")
    for key in value.keys() | fields.keys():
        expected = f"nothing but {', '.join(fields)}" if fields else "nothing"
        _expect(key in fields, f"{name}.{key}", value.get(key), expected)
        check, words = fields[key]
        _expect(key in value and check(value[key]), f"{name}.{key}", value.get(key), words)
    return dict(value)


def _check_progress(
    progress: Mapping[str, Any], data: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raises CheckpointError unless the numbers of a run's progress agree with each other."""
    step, epoch, position = progress["step"], progress["epoch"], progress["position"]
    if data and settings:
        steps = -(-data["train"] // settings["batch_size"])
        _expect(position <= steps, "progress.position", position, f"at most the epoch's {steps}")
    ok = step >= epoch + position
    _expect(ok, "progress.step", step, f"at least {position}, and one of each of {epoch} epochs")


def _options(value: Any) -> dict[str, Any]:
    """The options of a run; none of a model that was saved alone."""
    _expect(isinstance(value, dict), "options", value, "an object")
    for name in value:
        expected = nearest(name, options.NAMES) or f"some of {', '.join(options.NAMES)}"
        _expect(name in options.NAMES, "a name of options", name, expected)
    if not value:
        return {}
    given = {name: option for name, option in value.items() if option is not None}
    for name in ("data", "seed", "batch_size", "epochs", "lr", "schedule"):
        _expect(name in given, f"options.{name}", None, "a value")
    try:
        options.Options.of(given).check()
    except UserError as error:
        raise CheckpointError(f"options: {error}") from error
    return dict(value)


def _schedule_of(settings: Mapping[str, Any]) -> dict[str, _Check]:
    """The fields of the state of a run's schedule."""
    if not settings:
        return {}
    return {name: _SCHEDULE[name] for name in schedules.schedule(settings["schedule"]).state()}


def expect_tensors(entries: Mapping[str, Entry], fields: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless a file's tensors are those of the `checked` fields."""
    expected = _tensors(fields["net"], fields["image_shape"])
    named = entries.keys() | fields["crc32"].keys()
    for name in sorted(named):
        shown = f"tensor {printable(name)[:99]}"
        _expect(name in expected, shown, "there", f"none but those of net {fields['net'].name}")
        if name not in entries or name not in fields["crc32"]:
            raise CheckpointError(f"{shown} is missing, or its sum; expected both")
        entry = entries[name]
        found = entry.type, entry.shape
        if found != expected[name]:
            raise CheckpointError(f"{shown} is {repr(found)}; expected {expected[name]}")
    for name in expected:
        # Optimiser, mean image and colours may be left out, each as a whole.
        prefix = name.partition(".")[0]
        needed = prefix == "model" or any(other.startswith(prefix) for other in named)
        _expect(not needed or name in named, f"tensor {name}", "missing", "it")


def _tensors(net: Net, image_shape: Shape) -> dict[str, tuple[str, Shape]]:
    """Type and shape of every tensor that the checkpoint of a net can have."""
    parameters = {name: parameter.shape for name, parameter in net.parameters().items()}
    buffers = {name: buffer.shape for name, buffer in net.buffers().items()}
    floats = {f"model.{name}": shape for name, shape in (parameters | buffers).items()}
    floats |= {f"optimizer.{MOMENTUM}{name}": shape for name, shape in parameters.items()}
    floats["mean"] = image_shape
    doubles: dict[str, Shape] = {"colour.values": (3,), "colour.vectors": (3, 3)}
    return {name: ("F32", shape) for name, shape in floats.items()} | {
        name: ("F64", shape) for name, shape in doubles.items()
    }


def check_finite(name: str, tensor: npt.NDArray[Any]) -> None:
    """Raises CheckpointError, which names the tensor, unless all its numbers are finite."""
    if not np.isfinite(tensor).all():
        wrong = tensor[~np.isfinite(tensor)][0]
        raise CheckpointError(f"tensor {name} holds {wrong}; expected finite numbers")
