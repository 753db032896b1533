"""The paper's split: a net as two towers that exchange activations (section 3.5, figure 2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyalexnet.device import Array
from pyalexnet.errors import NetError
from pyalexnet.nn.layers import LRN, Conv, Dropout, Layer, Linear, MaxPool
from pyalexnet.nn.layers.activation import Activation
from pyalexnet.nn.net import Net
from pyalexnet.parallel.exchange import Exchange


@dataclass(frozen=True)
class TowerNet(Net):
    """One of the two towers of a net. Tower 0 has the logits."""

    @property
    def has_loss(self) -> bool:
        return isinstance(self.layers[-1], Linear)

    def _check_last(self) -> None:
        pass


@dataclass(frozen=True)
class TowerDropout(Dropout):
    """A tower's half of a dropout layer: it drops what the whole layer would drop there."""

    tower: int = 0

    def first_feature(self, values: Array) -> int:
        return self.tower * math.prod(values.shape[:-1])


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
        The net is no chain of layers, or a layer cannot be halved; the message names the layer.
    """
    for i, (name, layer) in enumerate(zip(net.names, net.layers, strict=True)):
        if net.sources[i] != (i,):
            raise NetError(
                f"net {net.name} cannot be split, layer {name}: it reads "
                f"{' and '.join(layer.inputs)}; expected a chain, each layer reading the one before"
            )
    last = len(net.layers) - 1
    if last == 0:
        raise NetError(
            f"net {net.name} cannot be split, layer {net.names[0]}: it is the only one; expected "
            "more"
        )
    return _tower(net, 0), _tower(net, 1)


def _tower(net: Net, tower: int) -> TowerNet:
    name, layers = f"{net.name}, tower {tower}", _layers(net, tower)
    return TowerNet(name, net.input, layers, net.normalization, net.loss)


def _layers(net: Net, tower: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    # A layer that names the one before it as its input is to read the exchange between them.
    *others, last = (dataclasses.replace(layer, inputs=()) for layer in net.layers)
    for i, (name, layer) in enumerate(zip(net.names[:-1], others, strict=True)):
        try:
            layers += _halved(layer, tower, at_input=i == 0)
        except NetError as error:
            raise NetError(f"net {net.name} cannot be split, layer {name}: {error}") from None
    if tower == 0:
        return (*layers, Exchange(0, gives=False), last)
    return (*layers, Exchange(1, takes=False))


def _halved(layer: Layer, tower: int, *, at_input: bool) -> Sequence[Layer]:
    """A tower's half of a layer, after an exchange where it reads all channels."""
    exchange = () if at_input else (Exchange(tower),)  # both towers have the image
    if isinstance(layer, Linear):
        features = _half(layer.features, "features")
        return (*exchange, dataclasses.replace(layer, features=features))
    if isinstance(layer, Conv):
        filters = _half(layer.filters, "filters")
        if layer.groups == 1:
            return (*exchange, dataclasses.replace(layer, filters=filters))
        if at_input:
            raise NetError("its groups see parts of the image; expected one group")
        groups = _half(layer.groups, "groups")
        return (dataclasses.replace(layer, filters=filters, groups=groups),)
    if isinstance(layer, LRN):
        if layer.groups == 1:
            raise NetError("it normalises across both towers; expected groups of 2")
        return (dataclasses.replace(layer, groups=_half(layer.groups, "groups")),)
    if at_input:
        raise NetError("it reads the image; expected a layer with weights that can be halved")
    if isinstance(layer, Dropout):
        return (TowerDropout(layer.p, layer.inverted, tower, name=layer.name),)
    if not isinstance(layer, MaxPool | Activation):
        raise NetError(f"it is {type(layer).__name__}; expected a layer that can be halved")
    return (layer,)


def _half(count: int, what: str) -> int:
    if count % 2:
        raise NetError(f"it has {count} {what}; expected an even number")
    return count // 2
