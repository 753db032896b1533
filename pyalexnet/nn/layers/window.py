"""Windows that slide over maps, of convolution and pooling."""

from __future__ import annotations

from typing import Protocol

from pyalexnet import ops
from pyalexnet.device import Shape
from pyalexnet.errors import NetError


class Windowed(Protocol):
    """A layer with square windows."""

    @property
    def size(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def ceil_mode(self) -> bool: ...


def window_places(layer: Windowed, shape: Shape) -> tuple[int, int]:
    """Rows and columns of the windows' places in maps of `shape`.

    Raises
    ------
    NetError
        Not one window fits.
    """
    rows, columns = (
        ops.output_size(size, layer.size, layer.stride, layer.pad, layer.ceil_mode)
        for size in shape[1:]
    )
    if min(rows, columns) < 1:
        raise NetError(
            f"{type(layer).__name__}: its input is {shape[1]}×{shape[2]} padded by {layer.pad}; "
            f"expected at least the window's {layer.size}×{layer.size}"
        )
    return rows, columns


def check_last(layer: Windowed, reach: int, places: tuple[int, int], shape: Shape) -> None:
    """Raises NetError unless the last windows begin before so many pixels past the input's end."""
    for count, size in zip(places, shape[1:], strict=True):
        if (count - 1) * layer.stride - layer.pad >= size + reach:
            raise NetError(
                f"{type(layer).__name__}: its last window lies outside the input of {size} pixels; "
                "expected it to overlap the input"
            )
