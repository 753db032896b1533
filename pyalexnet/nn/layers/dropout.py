"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.device import Array
from pyalexnet.nn.layers.base import (
    Layer,
    LayerBuffers,
    StepContext,
    check,
    check_flags,
    is_number,
)


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets values to 0 with probability `p` in training (paper, section 4.2).

    As in the paper, values are multiplied by 1 - p in a test.

    Attributes
    ----------
    p : float
        Probability of a 0; at least 0, less than 1.
    inverted : bool
        Divide the values kept in training by 1 - p instead, and change nothing in tests.
    """

    p: float = 0.5
    inverted: bool = False

    prefix: ClassVar[str] = "dropout"
    draws: ClassVar[bool] = True
    can_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ok = is_number(self.p, 0) and self.p < 1
        check(self, "p", ok, "a number from 0, less than 1 (float32)")
        check_flags(self, "inverted")

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        self._apply(buffers.x, buffers.y, buffers, step)

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        if buffers.dx is not None:
            mask = buffers.x if buffers.masks_dx else None
            self._apply(buffers.output_gradient, buffers.dx, buffers, step, mask)

    def first_feature(self, values: Array) -> int:
        """Number, in the whole net's layer, of the first feature of `values`."""
        return 0

    def _apply(
        self,
        values: Array,
        out: Array,
        buffers: LayerBuffers,
        step: StepContext,
        mask: Array | None = None,
    ) -> None:
        keep = 1 - self.p
        if step.training:
            p, scale = self.p, 1 / keep if self.inverted else 1.0
        else:
            p, scale = 0.0, 1.0 if self.inverted else keep
        ops.dropout(
            values,
            p=p,
            scale=scale,
            seed=step.seed,
            layer=buffers.stream,
            step=step.step,
            first_feature=self.first_feature(values),
            first_image=step.first_image,
            mask=mask,
            out=out,
        )
