"""Convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyalexnet import ops
from pyalexnet.device import Device, Shape
from pyalexnet.errors import NetError
from pyalexnet.nn.layers.base import (
    FEWEST_IMAGES,
    Layer,
    LayerBuffers,
    Parameter,
    StepContext,
    check_count,
    check_flags,
    check_sizes,
    check_weights,
    weight_and_bias,
)
from pyalexnet.nn.layers.window import check_last, window_places

#: Rows and columns, with border and strides, are fewer (csrc/conv/shape.cuh).
_MOST_ROWS = 1 << 28


@dataclass(frozen=True)
class Conv(Layer):
    """Convolution by `filters` filters of `size`×`size` pixels, biases, then the activation.

    Attributes
    ----------
    filters : int
        Number of filters: the output's channels.
    size : int
        Rows and columns of a filter.
    stride, pad : int
        In pixels, for rows and columns.
    groups : int
        The filters of a group read only that group's channels; the paper's towers are 2.
    ceil_mode : bool
        The last window may reach over the border, where the image is 0 (see `ops.output_size`).
    activation : {"", "relu", "tanh"}
        Applied to the output; "" is none.
    bias : float
        Initial value of the biases.
    std : float or None
        Standard deviation of the initial weights; None is sqrt(2 / fan-in) (He et al. 2015).
    """

    filters: int
    size: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    ceil_mode: bool = False
    activation: str = "relu"
    bias: float = 0.0
    std: float | None = None

    prefix: ClassVar[str] = "conv"
    can_mask: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "filters", "size", "stride", "pad", "groups")
        check_flags(self, "ceil_mode")
        check_weights(self)

    def output_shape(self, *shapes: Shape) -> Shape:
        shape = self.maps(shapes)
        if shape[0] % self.groups or self.filters % self.groups:
            raise NetError(
                f"Conv: groups is {self.groups}; expected a divisor of both {shape[0]} input "
                f"channels and {self.filters} filters"
            )
        places = window_places(self, shape)
        check_last(self, self.pad, places, shape)
        self._check_counts(shape, places)
        return (self.filters, *places)

    def _check_counts(self, shape: Shape, places: tuple[int, int]) -> None:
        """Raises NetError for sizes that the kernels do not take (csrc/conv/shape.cuh)."""
        window = (self.size, self.size)
        check_count(self, "window x channels", *window, shape[0])
        # The data gradient rounds filters up to vectors.
        check_count(self, "window x filters", *window, self.filters + FEWEST_IMAGES)
        check_count(self, "input", *shape[1:], FEWEST_IMAGES)
        check_count(self, "output", *places, FEWEST_IMAGES)
        most = max(*shape[1:], self.size, self.pad, *(count * self.stride for count in places))
        if most >= _MOST_ROWS:
            raise NetError(
                f"Conv: it has {most} rows or columns, by size, pad and stride; "
                f"expected fewer than {_MOST_ROWS}"
            )

    def parameters(self, *shapes: Shape) -> dict[str, Parameter]:
        channels = self.maps(shapes)[0] // self.groups
        return weight_and_bias((channels, self.size, self.size, self.filters), self.bias, self.std)

    def macs(self, *shapes: Shape) -> int:
        _, rows, columns = self.output_shape(*shapes)
        return rows * columns * self.parameters(*shapes)["weight"].size

    def _plan(self, at: Device, shapes: tuple[Shape, ...], images: int) -> ops.ConvPlan:
        return ops.conv_plan(
            at,
            (*self.maps(shapes), images),
            self.parameters(*shapes)["weight"].shape,
            (*self.output_shape(*shapes), images),
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
        )

    def workspace(self, at: Device, *shapes: Shape, images: int) -> int:
        return max(self._plan(at, shapes, images).workspace)

    def weight_transform(self, at: Device, *shapes: Shape, images: int) -> int:
        return self._plan(at, shapes, images).filters

    def algorithm(self, at: Device, *shapes: Shape, images: int) -> str:
        return self._plan(at, shapes, images).algorithm

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        version = buffers.weights_version
        ops.conv_forward(
            buffers.x,
            buffers.parameters["weight"],
            buffers.parameters["bias"],
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
            activation=self.activation,
            filters=buffers.weight_transform,
            transformed=not step.training and buffers.transformed_version == version,
            images=step.images,
            workspace=buffers.workspace,
            out=buffers.y,
        )
        if step.images > buffers.device.few_images:
            buffers.transformed_version = version

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        dy = buffers.output_gradient
        if self.activation and not buffers.dy_masked:
            ops.activation_backward(dy, buffers.y, self.activation, out=dy)
        if buffers.dx is not None:
            ops.conv_backward_data(
                dy,
                buffers.parameters["weight"],
                buffers.x.shape,
                mask=buffers.x if buffers.masks_dx else None,
                stride=self.stride,
                pad=self.pad,
                groups=self.groups,
                workspace=buffers.workspace,
                out=buffers.dx,
            )

    def backward_parameters(self, buffers: LayerBuffers, step: StepContext) -> None:
        dy, dw = buffers.output_gradient, buffers.gradients["weight"]
        ops.bias_backward(dy, out=buffers.gradients["bias"])
        ops.conv_backward_weights(
            buffers.x,
            dy,
            dw.shape,
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
            workspace=buffers.workspace,
            out=dw,
        )
