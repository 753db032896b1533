"""The built-in architectures, and nets from JSON files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyalexnet.errors import NetError
from pyalexnet.files import expanded, read_json
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear, MaxPool, ReLU
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization


def alexnet(classes: int = 1000) -> Net:
    """The paper's net, with its two towers as groups; 60,965,224 parameters for 1000 classes.

    The input is 224×224. conv1's last windows reach 3 pixels over the border, as in the paper's
    code, so that its output is 55×55. Initial weights are N(0, 0.01); initial biases are 1 in
    conv2, conv4, conv5, fc6 and fc7.
    """
    std = 0.01
    return Net(
        "alexnet",
        input=(3, 224, 224),
        layers=(
            Conv(96, 11, stride=4, ceil_mode=True, std=std),
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
    ReLU, which is equivalent), in LRN's alpha, which the code divides by the window's size, 5, and
    in the initial filters of conv3, conv4 and conv5: N(0, 0.03).

    Left out: between LRN and pooling of conv2, the code also normalised each map by its own
    neighbouring pixels (5×5, scale 0.001). There is no kernel for it yet.
    """
    std, middle = 0.01, 0.03
    norm = LRN(alpha=1e-4 / 5, groups=2)
    return Net(
        "alexnet-code",
        input=(3, 224, 224),
        layers=(
            Conv(96, 11, stride=4, ceil_mode=True, activation="", std=std),
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
    """The paper's net with another initialisation, from which the loss falls at once.

    Initial weights have a variance of 2 / fan-in (He et al. 2015) and biases are 0, so that
    activations and gradients keep their scale from layer to layer. Pixels are divided by 64, about
    their standard deviation. LRN has k = 1, which leaves small values unchanged. docs/recipes.md
    explains why the paper's initialisation may stall.
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
    return Net("alexnet-he", paper.input, tuple(layers), Normalization(scale=1 / 64))


def alexnet_one_tower(classes: int = 1000) -> Net:
    """The one-tower net of "One weird trick" (Krizhevsky 2014) as torchvision has it.

    61,100,840 parameters for 1000 classes. No LRN; inverted dropout before fc6 and fc7; pixels
    divided by torchvision's standard deviations.
    """
    return Net(
        "alexnet-one-tower",
        input=(3, 224, 224),
        normalization=Normalization(tuple(1 / (255 * std) for std in (0.229, 0.224, 0.225))),
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


def small(input: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> Net:
    """An AlexNet for images of 28 to 64 pixels; 12.7 MFLOP forward for 3×32×32.

    LRN is within each of two towers, which meet before every layer with weights but conv1.

    Made to learn in minutes on a CPU: its initial weights, and an LRN that leaves small values as
    they are (k = 1), keep signals and gradients at about one size from the first step on.
    """
    return Net(
        "small",
        input=input,
        normalization=Normalization(scale=1 / 64),
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
        net = _read(expanded(name))
    else:
        raise NetError(f"net is {str(name)!r}; expected {', '.join(NAMES)} or a .json file")
    layers = net.layers
    if classes is not None:
        last: Any = layers[-1]  # Linear, as Net has checked
        layers = (*layers[:-1], dataclasses.replace(last, features=classes))
    return dataclasses.replace(net, input=input or net.input, layers=layers)


def _read(path: Path) -> Net:
    value = read_json(path, NetError)
    try:
        return Net.from_value(value)
    except NetError as error:
        raise NetError(f"{path}: {error}") from None
