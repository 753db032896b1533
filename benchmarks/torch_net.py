"""Nets in PyTorch, with the same arithmetic layer by layer, for the benchmarks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from nets import NoCounterpart, overhang
from torch import nn
from torch.nn import functional

from pyalexnet.device import Floats, Shape
from pyalexnet.nn.layers import LRN, Add, Concat, Conv, Dropout, Layer, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nn.net import Net


class TorchNet(nn.Module):
    """A net's layers up to the logits: (N, C, H, W) to (N, classes).

    Raises
    ------
    NoCounterpart
        PyTorch cannot compute a layer; the message names it.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self._names, self._sources = net.names, net.sources
        # A value is dropped once its last reader has run.
        self._last = {s: i for i, sources in enumerate(net.sources) for s in sources}
        self.parts = nn.ModuleList(
            module(layer, net.input_shapes(i)) for i, layer in enumerate(net.layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {0: x}
        for i, (sources, part) in enumerate(zip(self._sources, self.parts, strict=True)):
            values[i + 1] = part(*(values[source] for source in sources))
            for source in set(sources):
                if self._last[source] == i:
                    del values[source]
        return values[len(self.parts)]

    def load(self, state: Mapping[str, Floats]) -> None:
        """Copies weights that are named and shaped as those of `pyalexnet.Model.state`."""
        with torch.no_grad():
            for name, part in zip(self._names, self.parts, strict=True):
                for own in part.modules():
                    if isinstance(own, nn.Conv2d | nn.Linear):
                        weight = torch.from_numpy(state[f"{name}.weight"])
                        own.weight.copy_(weight.movedim(-1, 0))
                        own.bias.copy_(torch.from_numpy(state[f"{name}.bias"]))


class GroupedLRN(nn.Module):
    """Local response normalisation within each group of the channels."""

    def __init__(self, layer: LRN) -> None:
        super().__init__()
        self._layer = layer
        # PyTorch divides alpha by the window's size, the paper does not.
        self._alpha = layer.size * layer.alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own, (images, channels, *pixels) = self._layer, x.shape
        groups = x.reshape(images * own.groups, channels // own.groups, *pixels)
        y = functional.local_response_norm(groups, own.size, self._alpha, own.beta, own.k)
        return y.reshape(x.shape)


class PlainDropout(nn.Dropout):
    """Dropout whose training pass divides by 1 - p, and whose test pass is the paper's.

    It takes the time of the paper's, which multiplies by 1 - p in tests instead.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = super().forward(x)
        return y if self.training else y * (1 - self.p)


class Sum(nn.Module):
    """Sum of its inputs."""

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        total, *others = xs
        for x in others:
            total = total + x
        return total


class Join(nn.Module):
    """Its inputs one after the other along the channels."""

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        return torch.cat(xs, 1)


class Chain(nn.Sequential):
    """Modules one after the other, the first of which may have several inputs."""

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        first, *others = self
        y: torch.Tensor = first(*xs)
        for own in others:
            y = own(y)
        return y


_ACTIVATIONS: dict[str, Callable[[], list[nn.Module]]] = {
    "": list,
    "relu": lambda: [nn.ReLU(inplace=True)],
    "tanh": lambda: [nn.Tanh()],
}


def module(layer: Layer, shapes: tuple[Shape, ...]) -> nn.Module:
    """PyTorch's counterpart of a layer with inputs of these shapes."""
    kinds: dict[type[Layer], Callable[[Any, tuple[Shape, ...]], list[nn.Module]]] = {
        Conv: _conv,
        Linear: _linear,
        LRN: lambda own, _: [GroupedLRN(own)],
        MaxPool: _pool,
        ReLU: lambda own, _: [nn.ReLU()],
        Tanh: lambda own, _: [nn.Tanh()],
        Dropout: lambda own, _: [(nn.Dropout if own.inverted else PlainDropout)(own.p)],
        Add: lambda own, _: [Sum(), *_ACTIVATIONS[own.activation]()],
        Concat: lambda own, _: [Join()],
    }
    if type(layer) not in kinds:
        raise NoCounterpart(f"PyTorch has no counterpart of {layer}")
    return Chain(*kinds[type(layer)](layer, shapes))


def _conv(layer: Conv, shapes: tuple[Shape, ...]) -> list[nn.Module]:
    over, size, pad = overhang(layer, shapes[0]), layer.size, layer.pad
    # PyTorch needs an explicit border where the last window reaches over its own.
    border = [nn.ZeroPad2d((0, over[1], 0, over[0]))] if any(over) else []
    channels, groups = shapes[0][0], layer.groups
    conv = nn.Conv2d(channels, layer.filters, size, layer.stride, pad, groups=groups)
    return [*border, conv, *_ACTIVATIONS[layer.activation]()]


def _pool(layer: MaxPool, _: tuple[Shape, ...]) -> list[nn.Module]:
    if layer.pad > layer.size // 2:
        raise NoCounterpart(
            f"PyTorch has no counterpart of {layer}: its pad is at most half the size"
        )
    return [nn.MaxPool2d(layer.size, layer.stride, layer.pad, ceil_mode=layer.ceil_mode)]


def _linear(layer: Linear, shapes: tuple[Shape, ...]) -> list[nn.Module]:
    flat = [nn.Flatten()] if len(shapes[0]) > 1 else []
    linear = nn.Linear(math.prod(shapes[0]), layer.features)
    return [*flat, linear, *_ACTIVATIONS[layer.activation]()]
