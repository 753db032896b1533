"""Activations as layers of their own; `Conv`, `Linear` and `Add` have theirs built in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.nn.layers.base import Layer, LayerBuffers, StepContext


@dataclass(frozen=True)
class Activation(Layer):
    """Applies the function that `prefix` names, element by element."""

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        ops.activation_forward(buffers.x, self.prefix, out=buffers.y)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        if buffers.dx is not None:
            dy = buffers.output_gradient
            ops.activation_backward(dy, buffers.y, self.prefix, out=buffers.dx)


@dataclass(frozen=True)
class ReLU(Activation):
    """max(x, 0) (paper, section 3.1)."""

    prefix: ClassVar[str] = "relu"


@dataclass(frozen=True)
class Tanh(Activation):
    """tanh(x)."""

    prefix: ClassVar[str] = "tanh"
