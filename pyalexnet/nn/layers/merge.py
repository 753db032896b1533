"""Layers that join branches: sum and concatenation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.device import Array, Shape
from pyalexnet.errors import NetError
from pyalexnet.nn.layers.base import Layer, LayerBuffers, StepContext, check_activation


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two or more inputs of equal shape, then the activation: a residual connection."""

    activation: str = ""

    prefix: ClassVar[str] = "add"

    def __post_init__(self) -> None:
        check_activation(self)

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or len(set(shapes)) > 1:
            raise NetError(
                f"Add: its inputs are {', '.join(map(str, shapes))}; "
                "expected two or more of equal shape"
            )
        return shapes[0]

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        first, second, *others = buffers.xs
        ops.add(first, second, out=buffers.y)
        for x in others:
            ops.add(buffers.y, x, out=buffers.y)
        if self.activation:
            ops.activation_forward(buffers.y, self.activation, out=buffers.y)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        dy = buffers.output_gradient
        if self.activation and not buffers.dy_masked:
            ops.activation_backward(dy, buffers.y, self.activation, out=dy)
        for dx in buffers.dxs:
            if dx is not None:
                buffers.device.copy_from(dx, dy, buffers.device)


@dataclass(frozen=True)
class Concat(Layer):
    """Inputs one after the other along the channels: maps of equal rows and columns."""

    prefix: ClassVar[str] = "concat"

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or len({shape[1:] for shape in shapes}) > 1:
            raise NetError(
                f"Concat: its inputs are {', '.join(map(str, shapes))}; "
                "expected two or more of equal shape but for the channels"
            )
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def input_views(self, y: Array, *shapes: Shape) -> list[Array | None]:
        return list(_parts(y, shapes))

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        shapes = [x.shape for x in buffers.xs]
        for x, part, there in zip(
            buffers.xs, _parts(buffers.y, shapes), buffers.in_place, strict=True
        ):
            if not there:
                buffers.device.copy_from(part, x, buffers.device)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        shapes = [x.shape for x in buffers.xs]
        for dx, part in zip(buffers.dxs, _parts(buffers.output_gradient, shapes), strict=True):
            if dx is not None:
                buffers.device.copy_from(dx, part, buffers.device)


def _parts(whole: Array, shapes: list[Shape] | tuple[Shape, ...]) -> list[Array]:
    """Views of `whole` with so many channels each."""
    parts, first = [], 0
    for shape in shapes:
        parts.append(whole[first : first + shape[0]])
        first += shape[0]
    return parts
