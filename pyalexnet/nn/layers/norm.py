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
    is_power,
)

#: The widest window that fits into a GPU's shared memory (csrc/ops/lrn.cu).
_WIDEST = 1023


@dataclass(frozen=True)
class LRN(Layer):
    """Local response normalisation over `size` neighbouring maps (paper, section 3.3).

    y_i = x_i / (k + alpha Σ x_j²)^beta, with the sum over the maps j around map i. As in the paper,
    `alpha` is not divided by `size`.

    Attributes
    ----------
    size : int
        Neighbouring maps in the sum, an odd number. At most 1023 of them may be in a group.
    k : float
        Above 0.
    alpha : float
        At least 0.
    beta : float
        The exponent, at least 0. Float32 must hold k^(-beta - 1) and 2 alpha beta.
    groups : int
        Groups of the channels; a sum stays within its group.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    prefix: ClassVar[str] = "lrn"
    can_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "size", "groups")
        check(self, "size", self.size % 2 == 1, "an odd number")
        check(self, "k", is_number(self.k, 0) and self.k > 0, "a number above 0 (float32)")
        check(self, "alpha", is_number(self.alpha, 0), "a number from 0 (float32)")
        check(self, "beta", is_number(self.beta, 0), "a number from 0 (float32)")
        ok = is_power(self.k, -self.beta - 1) and is_number(2.0 * self.alpha * self.beta)
        check(self, "beta", ok, "k^(-beta - 1) and 2 alpha beta to be numbers (float32)")

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.maps(shapes)
        if shape[0] % self.groups:
            raise NetError(
                f"LRN: groups is {self.groups}; expected a divisor of {shape[0]} channels"
            )
        window = min(self.size, 2 * (shape[0] // self.groups) - 1)
        if window > _WIDEST:
            raise NetError(
                f"LRN: size is {self.size}; expected at most {_WIDEST} of "
                f"{shape[0] // self.groups} channels"
            )
        return shape

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        ops.lrn_forward(buffers.x, **self._formula(), out=buffers.y)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        if buffers.dx is not None:
            dy = buffers.output_gradient
            ops.lrn_backward(
                dy, buffers.x, **self._formula(), masked=buffers.masks_dx, out=buffers.dx
            )

    def _formula(self) -> dict[str, Any]:
        names = ("size", "k", "alpha", "beta", "groups")
        return {name: getattr(self, name) for name in names}
