"""Local response normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pyalexnet import ops
from pyalexnet.device import Shape
from pyalexnet.errors import NetError
from pyalexnet.nn.layers.base import (
    Layer,
    LayerBuffers,
    StepContext,
    check,
    check_sizes,
    is_number,
)


@dataclass(frozen=True)
class LRN(Layer):
    """Local response normalisation over `size` neighbouring maps (paper, section 3.3).

    y_i = x_i / (k + alpha Σ x_j²)^beta, with the sum over the maps j around map i. As in the paper,
    `alpha` is not divided by `size`.

    Attributes
    ----------
    size : int
        Neighbouring maps in the sum, an odd number.
    k : float
        Above 0.
    alpha : float
        At least 0.
    beta : float
        The exponent.
    groups : int
        Groups of the channels; a sum stays within its group.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    prefix: ClassVar[str] = "lrn"

    def __post_init__(self) -> None:
        check_sizes(self, "size", "groups")
        check(self, "size", self.size % 2 == 1, "an odd number")
        check(self, "k", is_number(self.k, 0) and self.k > 0, "a number above 0")
        check(self, "alpha", is_number(self.alpha, 0), "a number from 0")
        check(self, "beta", is_number(self.beta), "a number")

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.maps(shapes)
        if shape[0] % self.groups:
            raise NetError(
                f"LRN: groups is {self.groups}; expected a divisor of {shape[0]} channels"
            )
        return shape

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        ops.lrn_forward(buffers.x, **self._formula(), out=buffers.y)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        if buffers.dx is not None:
            dy = buffers.output_gradient
            ops.lrn_backward(dy, buffers.x, **self._formula(), out=buffers.dx)

    def _formula(self) -> dict[str, Any]:
        names = ("size", "k", "alpha", "beta", "groups")
        return {name: getattr(self, name) for name in names}
