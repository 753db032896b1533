"""PyTorch's counterparts of the kernels that `layers.py` times.

Each function returns calls that run a layer's kernels on random tensors of one memory layout, under
the names that `layers.py` uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gpu_graphs
import torch
import torch_net
from nets import overhang
from torch.nn import functional

from pyalexnet.nn.layers import LRN, Conv, Layer, Linear, MaxPool, ReLU, Tanh

Ways = dict[str, Callable[[], Any]]

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda y: y,
    "relu": torch.relu_,
    "tanh": torch.tanh_,
}


class Place(NamedTuple):
    """Where tensors lie: a device of PyTorch's, and the layout of maps there."""

    where: str
    layout: torch.memory_format = torch.contiguous_format

    def random(self, *shape: int) -> torch.Tensor:
        """Random numbers; maps (N, C, H, W) in the layout."""
        numbers = torch.randn(shape, device=self.where)
        return numbers.to(memory_format=self.layout) if len(shape) == 4 else numbers


def conv(layer: Conv, shape: tuple[int, ...], batch: int, at: Place) -> Ways:
    """Forward with bias and activation, and both gradients."""
    (c, h, w), (k, p, q) = shape, layer.output_shape(shape)
    # PyTorch needs an explicit border where the last window reaches over its own.
    over = overhang(layer, shape)
    x, stride, pad = at.random(batch, c, h + over[0], w + over[1]), layer.stride, layer.pad
    weight = at.random(k, c // layer.groups, layer.size, layer.size)
    bias, dy = at.random(k), at.random(batch, k, p, q)
    activate = _ACTIVATIONS[layer.activation]

    def gradient(data: bool) -> Any:
        return torch.ops.aten.convolution_backward(
            *(dy, x, weight, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0]),
            *(layer.groups, [data, not data, False]),
        )

    return {
        "forward": lambda: activate(
            functional.conv2d(x, weight, bias, stride, pad, groups=layer.groups)
        ),
        "data gradient": lambda: gradient(True),
        "weight gradient": lambda: gradient(False),
    }


def linear(layer: Linear, shape: tuple[int, ...], batch: int, at: Place) -> Ways:
    """Forward with bias and activation, and both gradients."""
    f, k = torch.Size(shape).numel(), layer.features
    x, weight = at.random(batch, f), at.random(k, f)
    bias, dy = at.random(k), at.random(batch, k)
    activate = _ACTIVATIONS[layer.activation]
    return {
        "forward": lambda: activate(functional.linear(x, weight, bias)),
        "data gradient": lambda: dy @ weight,
        "weight gradient": lambda: dy.T @ x,
    }


def lrn(layer: LRN, shape: tuple[int, ...], batch: int, at: Place) -> Ways:
    """Forward and backward."""
    return _with_autograd(torch_net.GroupedLRN(layer), shape, batch, at)


def pool(layer: MaxPool, shape: tuple[int, ...], batch: int, at: Place) -> Ways:
    """Forward and backward."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        size, stride = layer.size, layer.stride
        return functional.max_pool2d(x, size, stride, padding=layer.pad, ceil_mode=layer.ceil_mode)

    return _with_autograd(forward, shape, batch, at)


def activation(layer: ReLU | Tanh, shape: tuple[int, ...], batch: int, at: Place) -> Ways:
    """Forward and backward."""
    way = torch.relu if isinstance(layer, ReLU) else torch.tanh
    return _with_autograd(way, shape, batch, at)


def _with_autograd(
    forward: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    batch: int,
    at: Place,
) -> Ways:
    """Forward, and autograd's backward of a forward pass that is not timed."""
    x = at.random(batch, *shape).requires_grad_()
    y = forward(x)
    dy = torch.randn_like(y)
    return {
        "forward": lambda: forward(x),
        "backward": lambda: torch.autograd.grad(y, x, dy, retain_graph=True),
    }


_KINDS: dict[type[Layer], Callable[..., Ways]] = {
    Conv: conv,
    Linear: linear,
    LRN: lrn,
    MaxPool: pool,
    ReLU: activation,
    Tanh: activation,
}


_LAYOUTS = {"PyTorch": torch.contiguous_format, "channels last": torch.channels_last}


def names(device: str) -> tuple[str, ...]:
    """Names of PyTorch's ways on a device: layouts, on a GPU also with TF32."""
    if device == "host":
        return tuple(_LAYOUTS)
    return tuple(f"{layout}{tf32}" for layout in _LAYOUTS for tf32 in ("", " TF32"))


def ways(layer: Layer, shape: tuple[int, ...], batch: int, device: str) -> dict[str, Ways]:
    """PyTorch's kernels of a layer with an input of `shape`, on "host" or "cuda:<index>".

    By layout; where input and output are no maps, there is one.
    """
    where = "cpu" if device == "host" else device
    count = 1 if isinstance(layer, Linear) or len(shape) < 3 else 2
    return {
        name: _KINDS[type(layer)](layer, shape, batch, Place(where, layout))
        for name, layout in list(_LAYOUTS.items())[:count]
    }


def prepare(device: str, threads: int) -> None:
    """Sets PyTorch's threads on the host; on a GPU, its stream and that cuDNN tries algorithms."""
    if device == "host":
        torch.set_num_threads(threads)
    else:
        torch.backends.cudnn.benchmark = True
        torch.cuda.set_stream(torch.cuda.Stream(device))


def use_tf32(on: bool) -> None:
    """Lets cuDNN and cuBLAS round fp32 operands to TF32, or not."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on


def timed(ways: dict[str, Ways], what: str, device: str) -> dict[str, Callable[[], Any]]:
    """Functions that run the kernel `what` and wait for the device, by the names of `names`.

    On a GPU, each makes as many calls as `layers.py` does.
    """
    if device == "host":
        return {name: own[what] for name, own in ways.items()}
    functions: dict[str, Callable[[], Any]] = {}
    for name, own in ways.items():
        for tf32 in ("", " TF32"):
            use_tf32(bool(tf32))
            functions[name + tf32] = gpu_graphs.pytorchs(own[what])
    return functions
