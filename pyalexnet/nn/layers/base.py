"""What a layer is: a frozen description that is given its arrays by the net that runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet.device import Array, Device, Shape
from pyalexnet.errors import NetError

ACTIVATIONS = ("", "relu", "tanh")
#: The kernels count in 32 bits: extents of arrays, and products of them, are at most this
#: (csrc/kernels.hpp).
MOST = 2**31 - 1 - 4096
#: A GPU's grid has so many rows, of which each group takes one.
MOST_GROUPS = 65535
#: Images of an array, at the least: the widest vector.
FEWEST_IMAGES = 16
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Parameter:
    """A learnt tensor.

    Attributes
    ----------
    shape : tuple of int
    std, constant : float
        Initial values are drawn from N(constant, std²).
    is_bias : bool
        The optimiser uses the biases' learning rate.
    decays : bool
        Weight decay applies.
    """

    shape: Shape
    std: float = 0.0
    constant: float = 0.0
    is_bias: bool = False
    decays: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class TensorSpec(NamedTuple):
    """A tensor that a layer needs beside its inputs, its output and its parameters."""

    shape: Shape
    dtype: npt.DTypeLike = np.float32
    value: float = 0.0  #: initial value of a buffer; a saved tensor has none


@dataclass(frozen=True)
class StepContext:
    """One forward (and backward) pass over a batch.

    Attributes
    ----------
    training : bool
        Training mode; otherwise test mode.
    images : int
        Real images in the batch; the arrays' other images are padding.
    seed, step, first_image : int
        Counters of the random draws. `first_image` is the place of the first image in the global
        batch.
    """

    training: bool
    images: int
    seed: int = 0
    step: int = 0
    first_image: int = 0


@dataclass
class LayerBuffers:
    """A layer's arrays, allocated once.

    Attributes
    ----------
    device : Device
    xs : list of Array
        The inputs. Their values stay until the backward pass.
    y : Array
        The output. It stays until the backward pass, too.
    dxs : list of Array or None
        Gradients of the inputs; None where no layer below has parameters.
    dy : Array or None
        Gradient of the output. The layer may overwrite it.
    in_place : list of bool
        For each input, whether it is already where `Layer.input_views` wants it.
    parameters, gradients : dict of Array
        By the names that `Layer.parameters` uses.
    saved : dict of Array
        By the names that `Layer.saved` uses.
    buffers : dict of Array
        By the names that `Layer.buffers` uses.
    workspace : Array or None
        At least `Layer.workspace` floats, shared by all layers.
    weight_transform : Array or None
        `Layer.weight_transform` floats, the weights as the forward pass multiplies by them.
    weights_version, transformed_version : int
        The present weights' version, see `Arena`, and that of `weight_transform`.
    stream : int
        Number of the layer among those that draw random numbers.
    masks_dx : bool
        Whether the only input is a ReLU's output and `dx` gets the gradient of the ReLU's input,
        which is 0 where `x` is not above 0.
    dy_masked : bool
        Whether `dy` has become the gradient of the layer's ReLU's input so.
    """

    device: Device
    xs: list[Array]
    y: Array
    dxs: list[Array | None]
    dy: Array | None
    in_place: list[bool]
    parameters: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    saved: dict[str, Array] = field(default_factory=dict)
    buffers: dict[str, Array] = field(default_factory=dict)
    workspace: Array | None = None
    weight_transform: Array | None = None
    weights_version: int = 0
    transformed_version: int = -1
    stream: int = 0
    masks_dx: bool = False
    dy_masked: bool = False

    @property
    def x(self) -> Array:
        """The first input."""
        return self.xs[0]

    @property
    def dx(self) -> Array | None:
        """Gradient of the first input."""
        return self.dxs[0]

    @property
    def output_gradient(self) -> Array:
        """`dy`, in a backward pass."""
        assert self.dy is not None
        return self.dy


@dataclass(frozen=True)
class Layer:
    """A layer with one input and no parameters, whose output has the input's shape.

    Subclasses override what differs. Shapes are those of one image: (C, H, W) for maps, (F,) for
    features; arrays have the images as one more, last axis. Methods take the shape of each input.

    Attributes
    ----------
    name : str
        By default, `prefix` and a number, such as "conv1"; see `Net.names`.
    inputs : tuple of str
        Names of the layers that it reads, or "input"; by default, the layer before.

    Raises
    ------
    NetError
        The constructors raise it for arguments out of range, `output_shape` for inputs that the
        layer cannot have.
    """

    name: str = field(default="", kw_only=True, repr=False)
    inputs: tuple[str, ...] = field(default=(), kw_only=True, repr=False)

    prefix: ClassVar[str]
    #: Whether the layer draws random numbers, see `LayerBuffers.stream`.
    draws: ClassVar[bool] = False
    #: Whether the layer, which has one input, does as `LayerBuffers.masks_dx` says.
    can_mask: ClassVar[bool] = False
    #: What a net allocates for the layer.
    buffers_type: ClassVar[type[LayerBuffers]] = LayerBuffers

    @property
    def has_relu(self) -> bool:
        """Whether a ReLU is built in, as the last operation."""
        return getattr(self, "activation", "") == "relu"

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output."""
        return self.one(shapes)

    def parameters(self, *shapes: Shape) -> dict[str, Parameter]:
        """The learnt tensors, such as "weight" and "bias"."""
        return {}

    def buffers(self, *shapes: Shape) -> dict[str, TensorSpec]:
        """Tensors that are not learnt but belong to the net's state, such as running means."""
        return {}

    def saved(self, *shapes: Shape, images: int) -> dict[str, TensorSpec]:
        """Tensors that the forward pass saves for the backward pass, beside inputs and output."""
        return {}

    def workspace(self, at: Device, *shapes: Shape, images: int) -> int:
        """Floats of workspace that a pass needs on the device `at`."""
        return 0

    def weight_transform(self, at: Device, *shapes: Shape, images: int) -> int:
        """Floats of the weights as the device's forward pass has them; 0 if it reads them alone."""
        return 0

    def algorithm(self, at: Device, *shapes: Shape, images: int) -> str:
        """How the device `at` computes it, "" where there is one way: see `ops.conv_plan`."""
        return ""

    def macs(self, *shapes: Shape) -> int:
        """Multiply-adds of the forward pass of one image."""
        return 0

    def input_views(self, y: Array, *shapes: Shape) -> list[Array | None]:
        """Where each input may lie within the output `y`, which saves a copy; None: nowhere."""
        return [None] * len(shapes)

    def forward(self, buffers: LayerBuffers, step: StepContext) -> None:
        """Computes `buffers.y` and `buffers.saved`."""
        raise NotImplementedError

    def backward(self, buffers: LayerBuffers, step: StepContext) -> None:
        """Computes those of `buffers.dxs` that are not None, from `buffers.dy`."""
        raise NotImplementedError

    def backward_parameters(self, buffers: LayerBuffers, step: StepContext) -> None:
        """Computes `buffers.gradients`, from `buffers.dy` as `backward` has left it."""

    def dy_queued(self, buffers: LayerBuffers) -> None:
        """Called once all kernels that compute `buffers.dy` have been queued."""

    def one(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of the only input."""
        if len(shapes) != 1:
            raise NetError(f"{type(self).__name__}: it has {len(shapes)} inputs; expected one")
        return shapes[0]

    def maps(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of the only input, which must be maps."""
        shape = self.one(shapes)
        if len(shape) != 3:
            raise NetError(f"{type(self).__name__}: its input is {shape}; expected maps (C, H, W)")
        return shape


def check(layer: Layer, name: str, ok: bool, expected: str) -> None:
    """Raises NetError that names a field of a layer unless `ok`."""
    if not ok:
        raise NetError(
            f"{type(layer).__name__}: {name} is {repr(getattr(layer, name))}; expected {expected}"
        )


def is_int(value: Any, least: int, most: int = MOST) -> bool:
    """Whether `value` is a whole number from `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any, least: float = -math.inf) -> bool:
    """Whether `value` is a number of at least `least` that float32 holds.

    A number other than 0 must not become 0, nor infinite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    fits = -_LARGEST <= value <= _LARGEST  # before the conversion, which has no larger ones
    return fits and value >= least and (value == 0 or np.float32(value) != 0)


def is_power(base: float, exponent: float) -> bool:
    """Whether float32 holds the power of two numbers that it holds, the base above 0."""
    with np.errstate(all="ignore"):
        return bool(np.float64(np.float32(base)) ** np.float64(np.float32(exponent)) <= _LARGEST)


def check_count(layer: Layer, what: str, *factors: int) -> None:
    """Raises NetError unless the kernels can count to the product of the factors."""
    if math.prod(factors) > MOST:
        raise NetError(
            f"{type(layer).__name__}: {what} is {' x '.join(map(str, factors))}; "
            f"expected at most {MOST}"
        )


def check_sizes(layer: Layer, *names: str) -> None:
    """Raises NetError unless these fields are whole numbers from 1, "pad" from 0."""
    for name in names:
        least = 0 if name == "pad" else 1
        most = MOST_GROUPS if name == "groups" else MOST
        ok = is_int(getattr(layer, name), least, most)
        check(layer, name, ok, f"a whole number from {least} to {most}")


def check_flags(layer: Layer, *names: str) -> None:
    """Raises NetError unless these fields are booleans."""
    for name in names:
        check(layer, name, isinstance(getattr(layer, name), bool), "true or false")


def check_activation(layer: Any) -> None:
    """Raises NetError unless the field "activation" is one of `ACTIVATIONS`."""
    check(layer, "activation", layer.activation in ACTIVATIONS, f"one of {ACTIVATIONS}")


def check_weights(layer: Any) -> None:
    """Raises NetError unless "activation", "bias" and "std" of a layer with weights are right."""
    check_activation(layer)
    check(layer, "bias", is_number(layer.bias), "a number (float32)")
    ok = layer.std is None or is_number(layer.std, 0)
    check(layer, "std", ok, "None or a number from 0 (float32)")


def weight_and_bias(shape: Shape, bias: float, std: float | None) -> dict[str, Parameter]:
    """Filters of `shape`, the filters last, and their biases.

    `std` None is sqrt(2 / fan-in) (He et al. 2015).
    """
    fan_in = math.prod(shape[:-1])
    return {
        "weight": Parameter(shape, std=math.sqrt(2 / fan_in) if std is None else std),
        "bias": Parameter(shape[-1:], constant=bias, is_bias=True, decays=False),
    }
