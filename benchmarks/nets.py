"""The nets that the benchmarks run, and what a library other than this must know of them."""

from __future__ import annotations

from pyalexnet.device import Shape
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Conv, MaxPool
from pyalexnet.nn.net import Net

ALIASES = {"paper": "alexnet", "torchvision": "alexnet-one-tower"}
HELP = f"{', '.join([*ALIASES, *zoo.NAMES])} or a .json file (default: paper)"


class NoCounterpart(Exception):
    """A library cannot compute a layer; the message names both."""


def get(name: str) -> Net:
    """A net by one of `ALIASES`, a name of `zoo.NAMES`, or a JSON file."""
    return zoo.get(ALIASES.get(name, name))


def overhang(layer: Conv | MaxPool, shape: Shape) -> tuple[int, int]:
    """Rows and columns by which the last windows reach over the padded input of `shape`."""
    places = layer.output_shape(shape)[1:]
    rows, columns = (
        max(0, (count - 1) * layer.stride + layer.size - size - 2 * layer.pad)
        for count, size in zip(places, shape[1:], strict=True)
    )
    return rows, columns
