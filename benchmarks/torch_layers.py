"""PyTorch's counterparts of the kernels that `layers.py` times.

Each function returns calls that run a layer's kernels on random tensors, under the names that
`layers.py` uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpu_graphs
import torch
import torch_alexnet
from torch.nn import functional

from pyalexnet.nn.layers import LRN, Conv, Layer, Linear, MaxPool, ReLU, Tanh

Ways = dict[str, Callable[[], Any]]

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda y: y,
    "relu": torch.relu_,
    "tanh": torch.tanh_,
}


def conv(layer: Conv, shape: tuple[int, ...], batch: int, where: str) -> Ways:
    """Forward with bias and activation, and both gradients."""
    (c, h, w), (k, p, q) = shape, layer.output_shape(shape)
    x, stride, pad = torch.randn(batch, c, h, w, device=where), layer.stride, layer.pad
    # PyTorch needs an explicit border where the last window reaches over it.
    over = [(n - 1) * stride + layer.size - size - 2 * pad for n, size in ((q, w), (p, h))]
    x = functional.pad(x, (0, max(0, over[0]), 0, max(0, over[1])))
    weight = torch.randn(k, c // layer.groups, layer.size, layer.size, device=where)
    bias, dy = torch.randn(k, device=where), torch.randn(batch, k, p, q, device=where)
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


def linear(layer: Linear, shape: tuple[int, ...], batch: int, where: str) -> Ways:
    """Forward with bias and activation, and both gradients."""
    f, k = torch.Size(shape).numel(), layer.features
    x, weight = torch.randn(batch, f, device=where), torch.randn(k, f, device=where)
    bias, dy = torch.randn(k, device=where), torch.randn(batch, k, device=where)
    activate = _ACTIVATIONS[layer.activation]
    return {
        "forward": lambda: activate(functional.linear(x, weight, bias)),
        "data gradient": lambda: dy @ weight,
        "weight gradient": lambda: dy.T @ x,
    }


def lrn(layer: LRN, shape: tuple[int, ...], batch: int, where: str) -> Ways:
    """Forward and backward."""
    norm = torch_alexnet.TowerLRN(layer.groups, layer.size, layer.alpha, layer.beta, layer.k)
    return _with_autograd(norm, shape, batch, where)


def pool(layer: MaxPool, shape: tuple[int, ...], batch: int, where: str) -> Ways:
    """Forward and backward."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        size, stride = layer.size, layer.stride
        return functional.max_pool2d(x, size, stride, padding=layer.pad, ceil_mode=layer.ceil_mode)

    return _with_autograd(forward, shape, batch, where)


def activation(layer: ReLU | Tanh, shape: tuple[int, ...], batch: int, where: str) -> Ways:
    """Forward and backward."""
    way = torch.relu if isinstance(layer, ReLU) else torch.tanh
    return _with_autograd(way, shape, batch, where)


def _with_autograd(
    forward: Callable[[torch.Tensor], torch.Tensor],
    shape: tuple[int, ...],
    batch: int,
    where: str,
) -> Ways:
    """Forward, and autograd's backward of a forward pass that is not timed."""
    x = torch.randn(batch, *shape, device=where, requires_grad=True)
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


def ways(layer: Layer, shape: tuple[int, ...], batch: int, device: str) -> Ways:
    """PyTorch's kernels of a layer with an input of `shape`, on "host" or "cuda:<index>"."""
    return _KINDS[type(layer)](layer, shape, batch, "cpu" if device == "host" else device)


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


def timed(way: Callable[[], Any], device: str) -> list[Callable[[], None]]:
    """Returns functions that call `way` and wait for the device.

    On the host, one; on a GPU, two of as many calls as `layers.py` makes: in fp32 and with TF32.
    """
    if device == "host":
        return [way]
    functions = []
    for tf32 in (False, True):
        use_tf32(tf32)
        functions.append(gpu_graphs.pytorchs(way))
    return functions
