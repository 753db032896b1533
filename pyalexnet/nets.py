"""The architectures, as data.

A net is a name, the size of its input and a tuple of layers::

    from pyalexnet.layers import Conv, Linear, MaxPool
    from pyalexnet.nets import Net

    net = Net("mine", input=(3, 32, 32), scale=1 / 64, layers=(
        Conv(32, 5, pad=2), MaxPool(), Conv(64, 3, pad=1), MaxPool(),
        Linear(128), Linear(10, activation=""),
    ))
    open("mine.json", "w").write(net.to_json())

Weight layers are called conv1, conv2, …, fc6, …, by their rank among the weight layers; the others
after the weight layer before them: lrn1, pool1. The loss, softmax and cross-entropy, is not listed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyalexnet.device import Shape
from pyalexnet.errors import NetError
from pyalexnet.layers import (
    KINDS,
    LRN,
    Conv,
    Dropout,
    Exchange,
    Layer,
    Linear,
    MaxPool,
    Parameter,
    ReLU,
)


@dataclass(frozen=True)
class Net:
    """A net as data; equal nets compare equal.

    Attributes
    ----------
    name : for people
    input : channels, rows and columns of what the first layer reads
    layers : the last one must be Linear without activation; it gives the logits
    scale : by what pixels 0..255 are multiplied once their mean is subtracted, one number or one
        for each channel

    Raises
    ------
    NetError
        A layer cannot have the input that it gets; the message names the layer.
    """

    name: str
    input: tuple[int, int, int]
    layers: tuple[Layer, ...]
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        ok = len(self.input) == 3 and all(type(n) is int and n > 0 for n in self.input)
        if not ok:
            raise NetError(
                f"net {self.name}: input is {self.input}, not channels, rows and columns from 1"
            )
        scales = self.scales
        if len(scales) != self.input[0] or not all(map(math.isfinite, scales)):
            raise NetError(
                f"net {self.name}: scale is {self.scale}, "
                f"not one number, nor one for each of {self.input[0]} channels"
            )
        if not self.layers:
            raise NetError(f"net {self.name}: it has no layers")
        self.shapes()
        last = self.layers[-1]
        if last == Exchange(takes=False):
            return  # a tower, see `towers`: the other one has the logits
        if not isinstance(last, Linear) or last.activation:
            raise NetError(
                f"net {self.name}, layer {self.names[-1]}: the last layer gives the logits, "
                f"so it must be Linear with activation ''; it is {last}"
            )

    @property
    def classes(self) -> int:
        """How many classes the net tells apart."""
        return math.prod(self.shapes()[-1])

    @property
    def scales(self) -> tuple[float, ...]:
        """`scale`, one for each channel."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,) * self.input[0]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The layers' names: conv1, lrn1, pool1, …"""
        names, rank = [], 0
        for layer in self.layers:
            rank += isinstance(layer, Conv | Linear)
            names.append(f"{layer.prefix}{rank}")
        return tuple(names)

    def shapes(self) -> tuple[Shape, ...]:
        """The input's shape, then every layer's output's, without the images."""
        shapes: list[Shape] = [self.input]
        for name, layer in zip(self.names, self.layers, strict=True):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except NetError as error:
                raise NetError(f"net {self.name}, layer {name}: {error}") from None
        return tuple(shapes)

    def layer_parameters(self) -> Iterator[tuple[str, dict[str, Parameter]]]:
        """Each layer's name and its parameters by "weight" and "bias", where it has any."""
        for name, layer, shape in zip(self.names, self.layers, self.shapes(), strict=False):
            yield name, layer.parameters(shape)

    def parameters(self) -> dict[str, Parameter]:
        """All parameters in the net's order: "conv1.weight", "conv1.bias", …"""
        return {
            f"{layer}.{kind}": parameter
            for layer, parameters in self.layer_parameters()
            for kind, parameter in parameters.items()
        }

    def to_json(self) -> str:
        """The net as JSON, every value written out; `from_json` reads it."""
        layers = [
            {"layer": type(layer).__name__} | dataclasses.asdict(layer) for layer in self.layers
        ]
        head = {"name": self.name, "input": self.input, "scale": self.scale}
        lines = ",\n".join(f"    {json.dumps(layer)}" for layer in layers)
        return f'{json.dumps(head)[:-1]}, "layers": [\n{lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> Net:
        """The net that `text` describes; values left out have their defaults.

        Raises
        ------
        NetError
            `text` is not JSON, or no possible net; the message says where.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise NetError(f"not a net in JSON: {error}") from None
        fields = {"name", "input", "layers", "scale"}
        if not isinstance(data, dict) or not {"input", "layers"} <= data.keys() <= fields:
            raise NetError(f"not a net in JSON: expected an object of {sorted(fields)}")
        inputs, layers, scale = data["input"], data["layers"], data.get("scale", 1.0)
        if not isinstance(inputs, list) or not isinstance(layers, list):
            raise NetError("not a net in JSON: expected lists for input and layers")
        scales = scale if isinstance(scale, list) else [scale]
        if not all(type(value) in (int, float) for value in scales):
            raise NetError(f"not a net in JSON: scale is {scale!r}, not a number or a list of them")
        return Net(
            name=str(data.get("name", "unnamed")),
            input=tuple(inputs),
            layers=tuple(_layer_from(number, entry) for number, entry in enumerate(layers, 1)),
            scale=tuple(scale) if isinstance(scale, list) else scale,
        )


def _layer_from(number: int, entry: Any) -> Layer:
    if not isinstance(entry, dict) or str(entry.get("layer")) not in KINDS:
        raise NetError(
            f'layer {number}: expected an object whose "layer" is one of {", ".join(KINDS)}, '
            f"got {entry!r}"
        )
    kind = KINDS[entry["layer"]]
    arguments = {key: value for key, value in entry.items() if key != "layer"}
    try:
        return kind(**arguments)
    except TypeError as error:  # missing and unknown names
        raise NetError(f"layer {number}, {kind.__name__}: {error}") from None
    except NetError as error:
        raise NetError(f"layer {number}, {error}") from None


def alexnet(classes: int = 1000) -> Net:
    """The paper's net, both towers on one device as groups; 60,965,224 parameters for 1000 classes.

    The input is 224×224; conv1's last windows hang 3 pixels over the border, as in the paper's
    code, which makes its output 55×55. All weights begin as N(0, 0.01), the biases of conv2, conv4,
    conv5, fc6 and fc7 as 1.
    """
    std = 0.01
    return Net(
        "alexnet",
        input=(3, 224, 224),
        layers=(
            Conv(96, 11, stride=4, ceil=True, std=std),
            LRN(groups=2),
            MaxPool(3, 2),
            Conv(256, 5, pad=2, groups=2, bias=1.0, std=std),
            LRN(groups=2),
            MaxPool(3, 2),
            Conv(384, 3, pad=1, std=std),
            Conv(384, 3, pad=1, groups=2, bias=1.0, std=std),
            Conv(256, 3, pad=1, groups=2, bias=1.0, std=std),
            MaxPool(3, 2),
            Linear(4096, bias=1.0, std=std),
            Dropout(),
            Linear(4096, bias=1.0, std=std),
            Dropout(),
            Linear(classes, activation="", std=std),
        ),
    )


def alexnet_code(classes: int = 1000) -> Net:
    """The net as the authors' code trained it; 60,965,224 parameters for 1000 classes.

    It differs from the paper's in the order of layers (conv1: LRN, pooling, ReLU; conv5: pooling,
    ReLU, which gives the same), in LRN's alpha, which the code divides by the size of the window,
    5, and in the filters of conv3, conv4 and conv5, which begin as N(0, 0.03).

    Not here: between LRN and pooling of conv2, the code also normalised each map by its own
    neighbouring pixels (5×5, scale 0.001), for which there is no kernel yet.
    """
    std, middle = 0.01, 0.03
    norm = LRN(alpha=1e-4 / 5, groups=2)
    return Net(
        "alexnet-code",
        input=(3, 224, 224),
        layers=(
            Conv(96, 11, stride=4, ceil=True, activation="", std=std),
            norm,
            MaxPool(3, 2),
            ReLU(),
            Conv(256, 5, pad=2, groups=2, bias=1.0, std=std),
            norm,
            MaxPool(3, 2),
            Conv(384, 3, pad=1, std=middle),
            Conv(384, 3, pad=1, groups=2, bias=1.0, std=middle),
            Conv(256, 3, pad=1, groups=2, activation="", bias=1.0, std=middle),
            MaxPool(3, 2),
            ReLU(),
            Linear(4096, bias=1.0, std=std),
            Dropout(),
            Linear(4096, bias=1.0, std=std),
            Dropout(),
            Linear(classes, activation="", std=std),
        ),
    )


def alexnet_caffe(classes: int = 1000) -> Net:
    """Caffe's bvlc_alexnet; 60,965,224 parameters for 1000 classes.

    The input is 227×227 without a border. LRN has k = 1, alpha divided by the size of the window,
    and reaches across the boundary of the groups; biases begin as 0.1 where the paper has 1, the
    weights of fc6 and fc7 as N(0, 0.005); dropout is inverted.
    """
    std, full, bias = 0.01, 0.005, 0.1
    norm = LRN(k=1.0, alpha=1e-4 / 5)
    return Net(
        "alexnet-caffe",
        input=(3, 227, 227),
        layers=(
            Conv(96, 11, stride=4, std=std),
            norm,
            MaxPool(3, 2),
            Conv(256, 5, pad=2, groups=2, bias=bias, std=std),
            norm,
            MaxPool(3, 2),
            Conv(384, 3, pad=1, std=std),
            Conv(384, 3, pad=1, groups=2, bias=bias, std=std),
            Conv(256, 3, pad=1, groups=2, bias=bias, std=std),
            MaxPool(3, 2),
            Linear(4096, bias=bias, std=full),
            Dropout(inverted=True),
            Linear(4096, bias=bias, std=full),
            Dropout(inverted=True),
            Linear(classes, activation="", std=std),
        ),
    )


def alexnet_he(classes: int = 1000) -> Net:
    """The paper's net with another beginning, from which the loss falls at once.

    Weights begin with a variance of 2 / fan-in (He et al. 2015) and biases as 0, so that signals
    and gradients keep their size from layer to layer; pixels are divided by 64, about their
    standard deviation, and LRN has k = 1, which leaves small values as they are. docs/recipes.md
    says why the paper's beginning may stall.
    """
    paper = alexnet(classes)
    layers = (
        dataclasses.replace(layer, bias=0.0, std=None)
        if isinstance(layer, Conv | Linear)
        else dataclasses.replace(layer, k=1.0)
        if isinstance(layer, LRN)
        else layer
        for layer in paper.layers
    )
    return Net("alexnet-he", paper.input, tuple(layers), scale=1 / 64)


def alexnet_one_tower(classes: int = 1000) -> Net:
    """The one-tower net of "One weird trick" (Krizhevsky 2014) as torchvision has it.

    61,100,840 parameters for 1000 classes. No LRN; inverted dropout before fc6 and fc7; pixels
    divided by torchvision's standard deviations.
    """
    return Net(
        "alexnet-one-tower",
        input=(3, 224, 224),
        scale=tuple(1 / (255 * std) for std in (0.229, 0.224, 0.225)),
        layers=(
            Conv(64, 11, stride=4, pad=2),
            MaxPool(3, 2),
            Conv(192, 5, pad=2),
            MaxPool(3, 2),
            Conv(384, 3, pad=1),
            Conv(256, 3, pad=1),
            Conv(256, 3, pad=1),
            MaxPool(3, 2),
            Dropout(inverted=True),
            Linear(4096),
            Dropout(inverted=True),
            Linear(4096),
            Linear(classes, activation=""),
        ),
    )


def towers(net: Net) -> tuple[Net, Net]:
    """The two towers of a net whose layers have two groups (or 4, …): the paper's figure 2.

    A tower has half of the filters of every convolution, half of the features of every fully
    connected layer, and LRN among its own maps. The towers meet in an `Exchange` before each layer
    that reads all channels: of `alexnet`, before conv3, fc6, fc7 and fc8::

        conv1  48 ─ LRN ─ pool ─ conv2 128 ─ LRN ─ pool ─┬─ conv3 192 ─ conv4 192 ─ conv5 128 ─ …
        conv1  48 ─ LRN ─ pool ─ conv2 128 ─ LRN ─ pool ─┴─ conv3 192 ─ conv4 192 ─ conv5 128 ─ …

        … ─ pool ─┬─ fc6 2048 ─ dropout ─┬─ fc7 2048 ─ dropout ─┬─ fc8 1000
        … ─ pool ─┴─ fc6 2048 ─ dropout ─┴─ fc7 2048 ─ dropout ─┘

    The last layer, the logits, is tower 0's alone, as in the paper: halves of it would have to meet
    once more before the softmax.

    Raises
    ------
    NetError
        A layer cannot be halved; the message names it.
    """
    first: list[Layer] = []
    second: list[Layer] = []
    last = len(net.layers) - 1
    if last == 0:
        raise NetError(f"net {net.name} cannot be split, layer {net.names[0]}: it is the only one")
    for i, (name, layer) in enumerate(zip(net.names, net.layers, strict=True)):
        if i == last:
            first += [Exchange(gives=False), layer]
            second.append(Exchange(takes=False))
            break
        try:
            halves = _halved(layer, at_input=i == 0)
        except NetError as error:
            raise NetError(f"net {net.name} cannot be split, layer {name}: {error}") from None
        first += halves
        second += halves
    return tuple(  # type: ignore[return-value]
        dataclasses.replace(net, name=f"{net.name}, tower {tower}", layers=tuple(layers))
        for tower, layers in enumerate((first, second))
    )


def _halved(layer: Layer, *, at_input: bool) -> list[Layer]:
    """What a tower has of a layer: half of it, behind an exchange where it reads all channels."""
    if isinstance(layer, Linear):
        features = _half(layer.features, "features")
        return _behind_exchange(dataclasses.replace(layer, features=features), at_input)
    if isinstance(layer, Conv):
        filters = _half(layer.filters, "filters")
        if layer.groups == 1:
            return _behind_exchange(dataclasses.replace(layer, filters=filters), at_input)
        if at_input:
            raise NetError("its groups see parts of the image; expected one group")
        groups = _half(layer.groups, "groups")
        return [dataclasses.replace(layer, filters=filters, groups=groups)]
    if isinstance(layer, LRN):
        if layer.groups == 1:
            raise NetError("it normalises across both towers; expected groups of 2")
        return [dataclasses.replace(layer, groups=_half(layer.groups, "groups"))]
    if at_input:
        raise NetError("it reads the image; expected a layer with weights that can be halved")
    return [layer]


def _behind_exchange(layer: Layer, at_input: bool) -> list[Layer]:
    return [layer] if at_input else [Exchange(), layer]  # both towers have the image


def _half(count: int, what: str) -> int:
    if count % 2:
        raise NetError(f"it has {count} {what}; expected an even number")
    return count // 2


def small(input: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> Net:
    """An AlexNet for images of 28 to 64 pixels; 12.7 MFLOP forward for 3×32×32.

    LRN is within each of two towers, which meet before every layer with weights but conv1.

    Made to learn in minutes on a CPU: its initial weights, and an LRN that leaves small values as
    they are (k = 1), keep signals and gradients at about one size from the first step on.
    """
    return Net(
        "small",
        input=input,
        scale=1 / 64,
        layers=(
            Conv(24, 5, pad=2),
            LRN(k=1.0, groups=2),
            MaxPool(3, 2),
            Conv(48, 3, pad=1),
            LRN(k=1.0, groups=2),
            MaxPool(3, 2),
            Conv(64, 3, pad=1),
            Linear(256),
            Dropout(0.3),
            Linear(classes, activation=""),
        ),
    )


_BY_NAME: dict[str, Callable[[], Net]] = {
    "alexnet": alexnet,
    "alexnet-code": alexnet_code,
    "alexnet-caffe": alexnet_caffe,
    "alexnet-he": alexnet_he,
    "alexnet-one-tower": alexnet_one_tower,
    "small": small,
}
NAMES = tuple(_BY_NAME)


def get(
    name: str | Path, input: tuple[int, int, int] | None = None, classes: int | None = None
) -> Net:
    """A net by its name (one of `NAMES`) or from a JSON file.

    `input` and `classes`, where given, replace the net's own.

    Raises
    ------
    NetError
        No such name, an unreadable file, or a net that is impossible with that input.
    """
    if str(name) in _BY_NAME:
        net = _BY_NAME[str(name)]()
    elif str(name).endswith(".json"):
        net = _read(Path(name))
    else:
        raise NetError(f"net {str(name)!r}: expected {', '.join(NAMES)} or a .json file")
    layers = net.layers
    if classes is not None:
        last: Any = layers[-1]  # Linear, as Net has checked
        layers = (*layers[:-1], dataclasses.replace(last, features=classes))
    return dataclasses.replace(net, input=input or net.input, layers=layers)


def _read(path: Path) -> Net:
    try:
        return Net.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NetError(f"net {path}: {error}") from None
    except NetError as error:
        raise NetError(f"{path}: {error}") from None
