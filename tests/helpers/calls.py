"""One good call of every kernel of a compiled module, and arrays that are only an interface.

A kernel takes anything with an array interface, so a test can place arrays in memory as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helpers import target

INTERFACE = "__array_interface__" if target.IS_HOST else "__cuda_array_interface__"
N = target.DEVICE.images_multiple


@dataclass
class Spec:
    """An array: its shape and dtype, and what it holds if not zeros."""

    shape: tuple[int, ...]
    dtype: Any = np.float32
    values: Any = 0

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass
class Call:
    """A kernel's arguments: arrays, of which it writes the `results`, and other options.

    `in_place` has the pairs of a result and an input that may be the same array.
    """

    arrays: dict[str, Spec]
    results: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    in_place: tuple[tuple[str, str], ...] = ()


_X, _W, _Y = Spec((4, 5, 5, N)), Spec((2, 3, 3, 6)), Spec((6, 3, 3, N))
_CONV = {"stride": 2, "pad": 1, "groups": 2, "algorithm": ""}
_LRN = {"size": 3, "k": 2.0, "alpha": 1e-4, "beta": 0.75, "groups": 2}
_POOL = {"size": 3, "stride": 2, "pad": 1}
_PLACES = Spec((4, 3, 3, N))
_ARGMAX = Spec((4, 3, 3, N), np.uint16)
_FLAT, _PAIR = Spec((128,)), Spec((2,))
#: Enough for every product here.
_WORKSPACE = Spec((1 << 14,))

#: By kernel; `conv_plan`, which takes no arrays, is not there.
CALLS = {
    "conv_forward": Call(
        {"y": _Y, "x": _X, "w": _W, "b": Spec((6,))}
        | {"filters": Spec((64,)), "workspace": _WORKSPACE},
        ("y", "filters", "workspace"),
        _CONV | {"activation": "relu", "transformed": False},
    ),
    "conv_backward_data": Call(
        {"dx": _X, "dy": _Y, "w": _W, "mask": _X, "workspace": _WORKSPACE},
        ("dx", "workspace"),
        _CONV,
    ),
    "conv_backward_weights": Call(
        {"dw": _W, "x": _X, "dy": _Y, "workspace": _WORKSPACE}, ("dw", "workspace"), _CONV
    ),
    "bias_backward": Call({"db": Spec((6,)), "dy": _Y}, ("db",)),
    "activation_forward": Call({"y": _X, "x": _X}, ("y",), {"kind": "tanh"}, (("y", "x"),)),
    "activation_backward": Call(
        {"dx": _X, "dy": _X, "y": _X}, ("dx",), {"kind": "relu"}, (("dx", "dy"),)
    ),
    "dropout": Call(
        {"y": _X, "x": _X},
        ("y",),
        {"p": 0.5, "scale": 2.0, "seed": 1, "layer": 2, "step": 3}
        | {"first_feature": 4, "first_image": 5},
        (("y", "x"),),
    ),
    "add": Call({"y": _X, "a": _X, "b": _X}, ("y",), {}, (("y", "a"), ("y", "b"))),
    "sgd": Call(
        {"weights": _FLAT, "gradients": _FLAT, "momenta": _FLAT}
        | {"starts": Spec((3,), np.int64, [0, 64, 128]), "rates": _PAIR, "decays": _PAIR},
        ("weights", "momenta"),
        {"momentum": 0.9},
    ),
    "lrn_forward": Call({"y": _X, "x": _X}, ("y",), _LRN),
    "lrn_backward": Call({"dx": _X, "dy": _X, "x": _X}, ("dx",), _LRN),
    "maxpool_forward": Call({"y": _PLACES, "argmax": _ARGMAX, "x": _X}, ("y", "argmax"), _POOL),
    "maxpool_backward": Call({"dx": _X, "dy": _PLACES, "argmax": _ARGMAX}, ("dx",), _POOL),
    "softmax_cross_entropy": Call(
        {"probabilities": Spec((7, N)), "dlogits": Spec((7, N)), "losses": Spec((N,))}
        | {"ranks": Spec((N,), np.int32), "totals": Spec((4,), np.float64)}
        | {"logits": Spec((7, N)), "labels": Spec((N,), np.int32)},
        ("probabilities", "dlogits", "losses", "ranks", "totals"),
        {"k": 5, "scale": 0.5},
    ),
    "augment": Call(
        {"x": Spec((3, 4, 4, N)), "images": Spec((2, 6, 6, 3), np.uint8)}
        | {"crops": Spec((2, 3), np.int32), "mean": Spec((6, 6, 3)), "scale": Spec((3,))}
        | {"shifts": Spec((2, 3))},
        ("x",),
    ),
}


class Interface:
    """An array that is nothing but its interface; `memory` keeps its bytes."""

    def __init__(self, fields: Any, memory: Any = None) -> None:
        setattr(self, INTERFACE, fields)
        self.memory = memory


def address_of(memory: Any) -> int:
    """Where an array of the device under test begins."""
    return int(memory.ctypes.data if target.IS_HOST else memory.data.ptr)


def fields_of(spec: Spec, address: int) -> dict[str, Any]:
    """The interface of an array at an address."""
    return {
        "version": 3,
        "shape": spec.shape,
        "typestr": np.dtype(spec.dtype).str,
        "data": (address, False),
        "strides": None,
    }


def place(call: Call, offsets: Mapping[str, int] | None = None) -> dict[str, Interface]:
    """A call's arrays in one block of memory, one right after the other.

    `offsets` moves arrays to so many bytes from the block's begin.
    """
    starts, end = {}, 0
    for name, spec in call.arrays.items():
        starts[name] = end
        end += -(-spec.nbytes // 16) * 16  # a GPU's alignment
    starts |= offsets or {}
    size = max(starts[name] + spec.nbytes for name, spec in call.arrays.items())
    bytes_ = np.zeros(size, np.uint8)
    for name, spec in call.arrays.items():
        if np.any(spec.values):
            values = np.asarray(spec.values, spec.dtype).view(np.uint8)
            bytes_[starts[name] :][: values.size] = values
    memory = target.DEVICE.upload(bytes_)
    return {
        name: Interface(fields_of(spec, address_of(memory) + starts[name]), memory)
        for name, spec in call.arrays.items()
    }


def run(kernel: str, arguments: Mapping[str, Any]) -> Any:
    """Calls a kernel of the device under test, and waits for it."""
    result = getattr(target.DEVICE.kernels, kernel)(**arguments)
    target.DEVICE.synchronize()
    return result
