"""Pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pyalexnet import ops
from pyalexnet.device import Shape
from pyalexnet.nn.layers.base import (
    Layer,
    LayerBuffers,
    StepContext,
    TensorSpec,
    check,
    check_count,
    check_flags,
    check_sizes,
)
from pyalexnet.nn.layers.window import check_last, window_places

_LARGEST_WINDOW = 255  # a window's pixels are numbered in 16 bits, and one number is none's


@dataclass(frozen=True)
class MaxPool(Layer):
    """Maximum of windows of `size`×`size` pixels, `stride` apart; the paper's overlap (3.4).

    Windows are clipped at the border that `pad` and `ceil_mode` let them cross.

    Attributes
    ----------
    size : int
        Rows and columns of a window, at most 255.
    stride : int
        Pixels from window to window, for rows and columns.
    pad : int
        Pixels of border, less than `size`.
    ceil_mode : bool
        The last window may reach over the border (see `ops.output_size`).
    """

    size: int = 3
    stride: int = 2
    pad: int = 0
    ceil_mode: bool = False

    prefix: ClassVar[str] = "pool"
    can_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "size", "stride", "pad")
        check(self, "size", self.size <= _LARGEST_WINDOW, f"at most {_LARGEST_WINDOW}")
        check(self, "pad", self.pad < self.size, f"less than the size, {self.size}")
        check_flags(self, "ceil_mode")

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.maps(shapes)
        places = window_places(self, shape)
        check_last(self, 0, places, shape)
        check_count(self, "input with border", *(size + 2 * self.pad for size in shape[1:]))
        return (shape[0], *places)

    def saved(self, *shapes: Shape, images: int) -> dict[str, TensorSpec]:
        return {"argmax": TensorSpec((*self.output_shape(*shapes), images), np.uint16)}

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        ops.maxpool_forward(
            buffers.x,
            size=self.size,
            stride=self.stride,
            pad=self.pad,
            masked=buffers.masks_dx,
            out=buffers.y,
            argmax=buffers.saved["argmax"],
        )

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        if buffers.dx is not None:
            ops.maxpool_backward(
                buffers.output_gradient,
                buffers.saved["argmax"],
                buffers.x.shape,
                size=self.size,
                stride=self.stride,
                pad=self.pad,
                out=buffers.dx,
            )
