"""The fully connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.device import Array, Device, Shape
from pyalexnet.nn.layers.base import (
    FEWEST_IMAGES,
    Layer,
    LayerBuffers,
    Parameter,
    StepContext,
    check_count,
    check_sizes,
    check_weights,
    weight_and_bias,
)


@dataclass(frozen=True)
class Linear(Layer):
    """A fully connected layer of `features` outputs, then the activation.

    Maps are flattened in the order channel, row, column. `activation`, `bias` and `std` are as in
    `Conv`.

    Attributes
    ----------
    features : int
        Number of outputs.
    """

    features: int
    activation: str = "relu"
    bias: float = 0.0
    std: float | None = None

    prefix: ClassVar[str] = "fc"
    can_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "features")
        check_weights(self)

    def output_shape(self, *shapes: Shape) -> Shape:
        check_count(self, "input", *self.one(shapes))
        check_count(self, "features and a vector", self.features + FEWEST_IMAGES)
        return (self.features,)

    def parameters(self, *shapes: Shape) -> dict[str, Parameter]:
        return weight_and_bias((math.prod(self.one(shapes)), self.features), self.bias, self.std)

    def macs(self, *shapes: Shape) -> int:
        return math.prod(self.one(shapes)) * self.features

    def workspace(self, at: Device, *shapes: Shape, images: int) -> int:
        return ops.linear_workspace(
            at, (math.prod(self.one(shapes)), images), (self.features, images)
        )

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        w, b = buffers.parameters["weight"], buffers.parameters["bias"]
        ops.linear_forward(
            _flat(buffers.x),
            w,
            b,
            activation=self.activation,
            images=step.images,
            workspace=buffers.workspace,
            out=buffers.y,
        )

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        dy = buffers.output_gradient
        if self.activation and not buffers.dy_masked:
            ops.activation_backward(dy, buffers.y, self.activation, out=dy)
        if buffers.dx is not None:
            w, dx = buffers.parameters["weight"], _flat(buffers.dx)
            mask = _flat(buffers.x) if buffers.masks_dx else None
            ops.linear_backward_data(dy, w, mask=mask, workspace=buffers.workspace, out=dx)

    def backward_parameters(self, buffers: LayerBuffers, step: StepContext) -> None:
        dy, dw = buffers.output_gradient, buffers.gradients["weight"]
        ops.bias_backward(dy, out=buffers.gradients["bias"])
        ops.linear_backward_weights(_flat(buffers.x), dy, workspace=buffers.workspace, out=dw)


def _flat(array: Array) -> Array:
    """(C, H, W, N) as (F, N): the same memory."""
    return array.reshape((-1, array.shape[-1]))
