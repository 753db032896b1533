"""The layers: what each makes of a shape, which parameters it has, its forward and backward pass.

A layer is a frozen description and holds no arrays. Shapes are without the images: (C, H, W) for
maps, (F,) for features; arrays have the images as a last axis more. A model gives a layer its
buffers in a `Slot` and what changes from step to step in a `Pass`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pyalexnet import ops
from pyalexnet.device import Array, Device, Event, Shape
from pyalexnet.errors import NetError

ACTIVATIONS = ("", "relu", "tanh")
_LARGEST_WINDOW = 256  # a window's pixels are numbered in 16 bits


@dataclass(frozen=True)
class Parameter:
    """A tensor to be learnt: its shape and how it begins, N(0, std) + constant.

    `decayed` tells whether weight decay pulls it to 0: weights yes, biases no.
    """

    shape: Shape
    std: float = 0.0
    constant: float = 0.0
    decayed: bool = True

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Pass:
    """What one pass over a batch needs to know beside the batch.

    `seed`, `step` and the images' numbers, counted from `first_image`, decide what dropout drops.
    """

    training: bool
    seed: int = 0
    step: int = 0
    first_image: int = 0


@dataclass
class Slot:
    """A layer's buffers in a model, all allocated beforehand.

    Attributes
    ----------
    device : where the layer runs
    x, y : input and output, kept from the forward to the backward pass
    dx, dy : their gradients. dy's buffer may be overwritten by the layer. dx is None where no
        gradient is needed, because nothing below has parameters
    parameters, gradients : by the names that `Layer.parameters` uses
    kept : the uint16 buffer of shape `Layer.kept`, if any
    workspace : at least `Layer.workspace` floats, shared by all layers
    dropout : this layer's number among the net's dropout layers, from 0
    tower, peer : which tower of a net split in two this slot belongs to, 0 or 1, and the same
        layer's slot in the other one
    received : of an exchange: what it receives of its input's gradient from the other tower
    after_dx : called when the kernels that compute dx have been queued
    dy_ready : of an exchange: a mark behind the kernels that compute dy
    moved : of an exchange: bytes received from the other tower so far
    """

    device: Device
    x: Array
    y: Array
    dx: Array | None = None
    dy: Array | None = None
    parameters: dict[str, Array] = field(default_factory=dict)
    gradients: dict[str, Array] = field(default_factory=dict)
    kept: Array | None = None
    workspace: Array | None = None
    dropout: int = 0
    tower: int = 0
    peer: Slot | None = None
    received: Array | None = None
    after_dx: Callable[[], None] = lambda: None
    dy_ready: Event = None
    moved: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer without parameters, whose output has its input's shape; others override.

    Constructors raise NetError for arguments out of range, `output_shape` for an input that the
    layer cannot have.
    """

    #: What names of layers begin with: "conv1", "pool1".
    prefix: ClassVar[str]

    def output_shape(self, shape: Shape) -> Shape:
        """The output's shape for an input of `shape`."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        """The parameters of a layer with input `shape`: "weight" and "bias", or none."""
        return {}

    def macs(self, shape: Shape) -> int:
        """Multiplications with an addition that the forward pass of one image costs."""
        return 0

    def kept(self, shape: Shape) -> Shape | None:
        """The shape of what is kept for the backward pass beside x and y, if anything."""
        return None

    def workspace(self, at: Device, shape: Shape, images: int) -> int:
        """Floats of workspace that the backward pass needs on the device `at`."""
        return 0

    def forward(self, slot: Slot, run: Pass) -> None:
        """Computes slot.y, and what is kept, from slot.x."""
        raise NotImplementedError

    def backward(self, slot: Slot, run: Pass) -> None:
        """Computes slot.gradients, and slot.dx unless it is None, from slot.dy."""
        raise NotImplementedError


def _check(layer: Layer, name: str, ok: bool, expected: str) -> None:
    if not ok:
        raise NetError(
            f"{type(layer).__name__}: {name} is {getattr(layer, name)!r}, not {expected}"
        )


def _is_int(value: Any, least: int, most: int = 2**31 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any, least: float = -math.inf) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= least


def _check_sizes(layer: Layer, *names: str) -> None:
    for name in names:
        least = 0 if name == "pad" else 1
        expected = f"a whole number from {least}"
        _check(layer, name, _is_int(getattr(layer, name), least), expected)


def _check_weights(layer: Conv | Linear) -> None:
    _check(layer, "activation", layer.activation in ACTIVATIONS, f"one of {ACTIVATIONS}")
    _check(layer, "bias", _is_number(layer.bias), "a number")
    ok = layer.std is None or _is_number(layer.std, 0)
    _check(layer, "std", ok, "None or a number from 0")


def _maps(layer: Layer, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise NetError(f"{type(layer).__name__} needs maps (C, H, W), its input is {shape}")
    return shape


def _windows(layer: Conv | MaxPool, shape: Shape) -> tuple[int, int]:
    """Rows and columns of a window's places in maps of `shape`."""
    sizes = [ops.output_size(s, layer.size, layer.stride, layer.pad, layer.ceil) for s in shape[1:]]
    if min(sizes) < 1:
        raise NetError(
            f"{type(layer).__name__}: {layer.size}×{layer.size} windows do not fit into an input "
            f"of {shape[1]}×{shape[2]} padded by {layer.pad}"
        )
    return sizes[0], sizes[1]


def _weights_and_bias(layer: Conv | Linear, shape: Shape) -> dict[str, Parameter]:
    """Filters of `shape`, the filters last, and their biases."""
    fan_in = math.prod(shape[:-1])
    std = math.sqrt(2 / fan_in) if layer.std is None else layer.std
    return {
        "weight": Parameter(shape, std=std),
        "bias": Parameter(shape[-1:], constant=layer.bias, decayed=False),
    }


@dataclass(frozen=True)
class Conv(Layer):
    """`filters` convolution filters of `size`×`size` pixels, biases, then the activation.

    Attributes
    ----------
    stride, pad : in pixels, for rows and columns
    groups : filters of a group see only that group's channels; the paper's towers are 2
    ceil : the last window may hang over the border, where the image is 0 (see `ops.output_size`)
    activation : "", "relu" or "tanh"
    bias : what biases begin with
    std : of the first weights; None for sqrt(2 / fan-in) (He et al. 2015)
    """

    filters: int
    size: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    ceil: bool = False
    activation: str = "relu"
    bias: float = 0.0
    std: float | None = None

    prefix: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        _check_sizes(self, "filters", "size", "stride", "pad", "groups")
        _check(self, "ceil", isinstance(self.ceil, bool), "true or false")
        _check_weights(self)

    def output_shape(self, shape: Shape) -> Shape:
        channels = _maps(self, shape)[0]
        if channels % self.groups or self.filters % self.groups:
            raise NetError(
                f"Conv: {self.groups} groups do not divide both {channels} input channels "
                f"and {self.filters} filters"
            )
        return (self.filters, *_windows(self, shape))

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        return _weights_and_bias(
            self, (shape[0] // self.groups, self.size, self.size, self.filters)
        )

    def macs(self, shape: Shape) -> int:
        _, rows, columns = self.output_shape(shape)
        return rows * columns * self.parameters(shape)["weight"].size

    def workspace(self, at: Device, shape: Shape, images: int) -> int:
        w_shape = self.parameters(shape)["weight"].shape
        dy_shape = (*self.output_shape(shape), images)
        return ops.conv_workspace(
            at,
            (*shape, images),
            w_shape,
            dy_shape,
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
        )

    def forward(self, slot: Slot, run: Pass) -> None:
        ops.conv_forward(
            slot.x,
            slot.parameters["weight"],
            slot.parameters["bias"],
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
            activation=self.activation,
            out=slot.y,
        )

    def backward(self, slot: Slot, run: Pass) -> None:
        dy, w = _dy(slot), slot.parameters["weight"]
        if self.activation:
            ops.activation_backward(dy, slot.y, self.activation, out=dy)
        if slot.dx is not None:
            ops.conv_backward_data(
                dy,
                w,
                slot.x.shape,
                stride=self.stride,
                pad=self.pad,
                groups=self.groups,
                out=slot.dx,
            )
        slot.after_dx()
        ops.bias_backward(dy, out=slot.gradients["bias"])
        ops.conv_backward_weights(
            slot.x,
            dy,
            w.shape,
            stride=self.stride,
            pad=self.pad,
            groups=self.groups,
            workspace=slot.workspace,
            out=slot.gradients["weight"],
        )


@dataclass(frozen=True)
class Linear(Layer):
    """A fully connected layer of `features` outputs, then the activation.

    Maps are read as features in the order channel, row, column. `activation`, `bias` and `std` are
    as in `Conv`.
    """

    features: int
    activation: str = "relu"
    bias: float = 0.0
    std: float | None = None

    prefix: ClassVar[str] = "fc"

    def __post_init__(self) -> None:
        _check_sizes(self, "features")
        _check_weights(self)

    def output_shape(self, shape: Shape) -> Shape:
        return (self.features,)

    def parameters(self, shape: Shape) -> dict[str, Parameter]:
        return _weights_and_bias(self, (math.prod(shape), self.features))

    def macs(self, shape: Shape) -> int:
        return math.prod(shape) * self.features

    def workspace(self, at: Device, shape: Shape, images: int) -> int:
        return ops.linear_workspace(at, (math.prod(shape), images), (self.features, images))

    def forward(self, slot: Slot, run: Pass) -> None:
        w, b = slot.parameters["weight"], slot.parameters["bias"]
        ops.linear_forward(_flat(slot.x), w, b, activation=self.activation, out=slot.y)

    def backward(self, slot: Slot, run: Pass) -> None:
        dy = _dy(slot)
        if self.activation:
            ops.activation_backward(dy, slot.y, self.activation, out=dy)
        if slot.dx is not None:
            ops.linear_backward_data(dy, slot.parameters["weight"], out=_flat(slot.dx))
        slot.after_dx()
        ops.bias_backward(dy, out=slot.gradients["bias"])
        weights = slot.gradients["weight"]
        ops.linear_backward_weights(_flat(slot.x), dy, workspace=slot.workspace, out=weights)


@dataclass(frozen=True)
class LRN(Layer):
    """Local response normalisation over `size` neighbouring maps within each of `groups` groups.

    As in the paper, `alpha` is not divided by `size`.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    prefix: ClassVar[str] = "lrn"

    def __post_init__(self) -> None:
        _check_sizes(self, "size", "groups")
        _check(self, "size", self.size % 2 == 1, "odd")
        _check(self, "k", _is_number(self.k, 0) and self.k > 0, "a number above 0")
        _check(self, "alpha", _is_number(self.alpha, 0), "a number from 0")
        _check(self, "beta", _is_number(self.beta), "a number")

    def output_shape(self, shape: Shape) -> Shape:
        if _maps(self, shape)[0] % self.groups:
            raise NetError(f"LRN: {self.groups} groups do not divide {shape[0]} channels")
        return shape

    def forward(self, slot: Slot, run: Pass) -> None:
        ops.lrn_forward(slot.x, **dataclasses.asdict(self), out=slot.y)

    def backward(self, slot: Slot, run: Pass) -> None:
        if slot.dx is not None:
            ops.lrn_backward(_dy(slot), slot.x, **dataclasses.asdict(self), out=slot.dx)


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest value in windows of `size`×`size` pixels, `stride` apart; the paper's overlap.

    Windows are clipped at the border that `pad` and `ceil` (see `ops.output_size`) let them cross.
    """

    size: int = 3
    stride: int = 2
    pad: int = 0
    ceil: bool = False

    prefix: ClassVar[str] = "pool"

    def __post_init__(self) -> None:
        _check_sizes(self, "size", "stride", "pad")
        _check(self, "size", self.size <= _LARGEST_WINDOW, f"at most {_LARGEST_WINDOW}")
        _check(self, "pad", self.pad < self.size, f"below the size, {self.size}")
        _check(self, "ceil", isinstance(self.ceil, bool), "true or false")

    def output_shape(self, shape: Shape) -> Shape:
        rows, columns = _windows(self, _maps(self, shape))
        for count, size in zip((rows, columns), shape[1:], strict=True):
            if (count - 1) * self.stride - self.pad >= size:
                raise NetError(f"MaxPool: its last window lies outside the input of {size} pixels")
        return (shape[0], rows, columns)

    def kept(self, shape: Shape) -> Shape | None:
        return self.output_shape(shape)

    def forward(self, slot: Slot, run: Pass) -> None:
        ops.maxpool_forward(
            slot.x,
            size=self.size,
            stride=self.stride,
            pad=self.pad,
            out=slot.y,
            argmax=slot.kept,
        )

    def backward(self, slot: Slot, run: Pass) -> None:
        assert slot.kept is not None
        if slot.dx is not None:
            ops.maxpool_backward(
                _dy(slot),
                slot.kept,
                slot.x.shape,
                size=self.size,
                stride=self.stride,
                pad=self.pad,
                out=slot.dx,
            )


@dataclass(frozen=True)
class _Activation(Layer):
    """A layer of its own for an activation; `Conv` and `Linear` have theirs built in."""

    def forward(self, slot: Slot, run: Pass) -> None:
        ops.activation_forward(slot.x, self.prefix, out=slot.y)

    def backward(self, slot: Slot, run: Pass) -> None:
        if slot.dx is not None:
            ops.activation_backward(_dy(slot), slot.y, self.prefix, out=slot.dx)


@dataclass(frozen=True)
class ReLU(_Activation):
    """max(x, 0)."""

    prefix: ClassVar[str] = "relu"


@dataclass(frozen=True)
class Tanh(_Activation):
    """tanh(x)."""

    prefix: ClassVar[str] = "tanh"


@dataclass(frozen=True)
class Dropout(Layer):
    """Drops values with probability `p` while training.

    As in the paper, values are multiplied by 1 - p in a test; `inverted`, those kept in training
    are divided by 1 - p instead.
    """

    p: float = 0.5
    inverted: bool = False

    prefix: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        _check(self, "p", _is_number(self.p, 0) and self.p < 1, "a number from 0, below 1")
        _check(self, "inverted", isinstance(self.inverted, bool), "true or false")

    def forward(self, slot: Slot, run: Pass) -> None:
        self._apply(slot.x, slot.y, slot, run)

    def backward(self, slot: Slot, run: Pass) -> None:
        if slot.dx is not None:
            self._apply(_dy(slot), slot.dx, slot, run)

    def _apply(self, values: Array, out: Array, slot: Slot, run: Pass) -> None:
        keep = 1 - self.p
        if run.training:
            p, scale = self.p, 1 / keep if self.inverted else 1.0
        else:
            p, scale = 0.0, 1.0 if self.inverted else keep
        ops.dropout(
            values,
            p=p,
            scale=scale,
            seed=run.seed,
            layer=slot.dropout,
            step=run.step,
            first_feature=slot.tower * math.prod(values.shape[:-1]),
            first_image=run.first_image,
            out=out,
        )


@dataclass(frozen=True)
class Exchange(Layer):
    """Where the two towers of a split net meet (paper, figure 2): each gets the other's maps too.

    Backward, each gets the other's part of its maps' gradient and adds its own. Both happen by
    fetching from the other tower what it has computed, so nothing else moves between devices.

    Attributes
    ----------
    gives, takes : whether the other tower gets this one's maps, and this one the other's. The
        output has twice the input's channels or features, tower 0's first, where it takes
    """

    gives: bool = True
    takes: bool = True

    prefix: ClassVar[str] = "exchange"

    def output_shape(self, shape: Shape) -> Shape:
        return (2 * shape[0], *shape[1:]) if self.takes else shape

    def part(self, whole: Array, tower: int) -> Array:
        """A tower's part of what it takes; all of what it does not take."""
        return _half(whole, tower) if self.takes else whole

    def forward(self, slot: Slot, run: Pass) -> None:
        # x is its own part of y.
        assert slot.peer is not None
        if self.takes:
            out = self.part(slot.y, 1 - slot.tower)
            slot.device.fetch(out, slot.peer.x, slot.peer.device)
            slot.moved += out.nbytes

    def backward(self, slot: Slot, run: Pass) -> None:
        assert slot.peer is not None
        if slot.dx is None:
            return
        own = self.part(_dy(slot), slot.tower) if self.takes else None
        if self.gives:
            # The other tower's part of y in which x is has its gradient in the other tower's dy.
            theirs = _half(_dy(slot.peer), slot.tower)
            received = slot.dx if own is None else slot.received
            assert received is not None
            after = (slot.dy_ready, slot.peer.dy_ready)
            slot.device.fetch(received, theirs, slot.peer.device, after=after)
            slot.moved += received.nbytes
            if own is not None:
                ops.add(own, received, out=slot.dx)
        elif own is not None:
            slot.device.fetch(slot.dx, own, slot.device)


#: Every kind of layer, by the name it has in a net's JSON file. An exchange is of `nets.towers`.
KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (Conv, LRN, MaxPool, ReLU, Tanh, Linear, Dropout)
}


def _dy(slot: Slot) -> Array:
    assert slot.dy is not None
    return slot.dy


def _half(whole: Array, tower: int) -> Array:
    """The first or the second half of the channels or features: a view."""
    size = whole.shape[0] // 2
    return whole[tower * size : (tower + 1) * size]


def _flat(array: Array) -> Array:
    """(C, H, W, N) as (F, N): the same memory."""
    return array.reshape((-1, array.shape[-1]))
