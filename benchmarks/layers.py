"""Every kernel of the paper's net against PyTorch, layer by layer, taking turns in one process.

    python benchmarks/layers.py                  # on the CPU, batch 128
    python benchmarks/layers.py --device cuda:0  # on a GPU, where the peer is cuDNN

A row is one kernel at one layer's sizes. GFLOP/s count a multiplication and an addition as two;
GB/s count the bytes that must move: every input read once, every output written once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import alternate
import torch
import torch_alexnet
from torch.nn import functional

from pyalexnet import device as devices
from pyalexnet import nets, ops
from pyalexnet.layers import LRN, Conv, Dropout, Linear, MaxPool


class Row(NamedTuple):
    """One line of the table: ours and the peer's way to do it, and what it costs."""

    layer: str
    what: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    flop: float
    bytes: float


class Bench:
    """Arrays of both libraries with equal sizes on one device."""

    def __init__(self, device: str, batch: int) -> None:
        self.device = devices.get(device)
        self.batch = batch
        self.where = "cpu" if device == "host" else device

    def ours(self, *shape: int) -> Any:
        """An array of ours, filled with noise."""
        return self.device.upload(torch.randn(*shape).numpy())

    def peers(self, *shape: int) -> torch.Tensor:
        """A tensor of PyTorch's, filled with noise."""
        return torch.randn(*shape, device=self.where)

    def timed(self, way: Callable[[], Any]) -> Callable[[], None]:
        """`way`, then waiting until the device has done it."""

        def run() -> None:
            way()
            self.device.synchronize()
            if self.where != "cpu":
                torch.cuda.synchronize(self.where)

        return run

    def conv(self, name: str, layer: Conv, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward with bias and ReLU, and both gradients."""
        n = self.batch
        (c, h, w), (k, p, q) = shape, layer.output_shape(shape)
        x, dy, y = self.ours(c, h, w, n), self.ours(k, p, q, n), self.ours(k, p, q, n)
        weight = self.ours(c // layer.groups, layer.size, layer.size, k)
        bias, dx, dw = self.ours(k), self.ours(c, h, w, n), self.device.empty(weight.shape)
        options: dict[str, Any] = {
            "stride": layer.stride,
            "pad": layer.pad,
            "groups": layer.groups,
        }
        floats = ops.conv_workspace(self.device, x.shape, weight.shape, dy.shape, **options)
        workspace = self.device.empty((max(1, floats),))
        border = 3 if layer.ceil else 0  # the paper's implicit border, which PyTorch must be given
        tx = functional.pad(self.peers(n, c, h, w), (0, border, 0, border))
        tw, tb = self.peers(k, c // layer.groups, layer.size, layer.size), self.peers(k)
        tdy = self.peers(n, k, p, q)

        def gradient(data: bool) -> Any:
            return torch.ops.aten.convolution_backward(
                *(tdy, tx, tw, None, [layer.stride] * 2, [layer.pad] * 2, [1, 1], False, [0, 0]),
                *(layer.groups, [data, not data, False]),
            )

        def peer() -> Any:
            return functional.conv2d(
                tx, tw, tb, layer.stride, layer.pad, groups=layer.groups
            ).relu_()

        flop = 2.0 * n * layer.macs(shape)
        size = 4.0 * (x.size + weight.size + y.size)
        yield Row(
            name,
            "forward",
            lambda: ops.conv_forward(x, weight, bias, activation="relu", out=y, **options),
            peer,
            flop,
            size,
        )
        if name != "conv1":
            yield Row(
                name,
                "data gradient",
                lambda: ops.conv_backward_data(dy, weight, x.shape, out=dx, **options),
                lambda: gradient(True),
                flop,
                size,
            )
        yield Row(
            name,
            "weight gradient",
            lambda: ops.conv_backward_weights(
                x, dy, weight.shape, workspace=workspace, out=dw, **options
            ),
            lambda: gradient(False),
            flop,
            size,
        )

    def linear(self, name: str, layer: Linear, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward with bias and ReLU, and both gradients."""
        n, k = self.batch, layer.features
        f = torch.Size(shape).numel()
        x, w, b, dy = self.ours(f, n), self.ours(f, k), self.ours(k), self.ours(k, n)
        y, dx, dw = self.ours(k, n), self.ours(f, n), self.ours(f, k)
        tx, tw, tb, tdy = self.peers(n, f), self.peers(k, f), self.peers(k), self.peers(n, k)
        flop, size = 2.0 * n * f * k, 4.0 * (f * n + f * k + k * n)
        yield Row(
            name,
            "forward",
            lambda: ops.linear_forward(x, w, b, activation="relu", out=y),
            lambda: functional.linear(tx, tw, tb).relu_(),
            flop,
            size,
        )
        yield Row(
            name,
            "data gradient",
            lambda: ops.linear_backward_data(dy, w, out=dx),
            lambda: tdy @ tw,
            flop,
            size,
        )
        yield Row(
            name,
            "weight gradient",
            lambda: ops.linear_backward_weights(x, dy, out=dw),
            lambda: tdy.T @ tx,
            flop,
            size,
        )

    def lrn(self, name: str, layer: LRN, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward and backward; the peer's backward is autograd's, its forward not counted."""
        x, dy, y, dx = (self.ours(*shape, self.batch) for _ in range(4))
        peer, tx = torch_alexnet.TowerLRN(), self.peers(self.batch, *shape).requires_grad_()
        yield from self._elementwise(
            name,
            lambda: ops.lrn_forward(x, groups=layer.groups, out=y),
            lambda: ops.lrn_backward(dy, x, groups=layer.groups, out=dx),
            lambda: peer(tx),
            tx,
            (8.0 * x.size, 12.0 * x.size),
        )

    def pool(self, name: str, layer: MaxPool, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward and backward, as `lrn`."""
        out = layer.output_shape(shape)
        x, dx = self.ours(*shape, self.batch), self.ours(*shape, self.batch)
        options: dict[str, Any] = {"size": layer.size, "stride": layer.stride}
        y, argmax = ops.maxpool_forward(x, **options)
        dy = self.ours(*out, self.batch)
        tx = self.peers(self.batch, *shape).requires_grad_()
        yield from self._elementwise(
            name,
            lambda: ops.maxpool_forward(x, out=y, argmax=argmax, **options),
            lambda: ops.maxpool_backward(dy, argmax, x.shape, out=dx, **options),
            lambda: functional.max_pool2d(tx, layer.size, layer.stride),
            tx,
            (4.0 * x.size + 6.0 * y.size, 4.0 * x.size + 6.0 * y.size),
        )

    def _elementwise(
        self,
        name: str,
        forward: Callable[[], Any],
        backward: Callable[[], Any],
        peer: Callable[[], torch.Tensor],
        tx: torch.Tensor,
        sizes: tuple[float, float],
    ) -> Iterator[Row]:
        ty = peer()
        tdy = torch.randn_like(ty)
        yield Row(name, "forward", forward, peer, 0.0, sizes[0])
        yield Row(
            name,
            "backward",
            backward,
            lambda: torch.autograd.grad(ty, tx, tdy, retain_graph=True),
            0.0,
            sizes[1],
        )

    def rows(self, only: str) -> Iterator[Row]:
        """All rows whose layer's name begins with `only`."""
        net = nets.alexnet()
        kinds: dict[type, Callable[..., Iterator[Row]]] = {
            Conv: self.conv,
            Linear: self.linear,
            LRN: self.lrn,
            MaxPool: self.pool,
        }
        for name, layer, shape in zip(net.names, net.layers, net.shapes(), strict=False):
            if name.startswith(only) and not isinstance(layer, Dropout):
                yield from kinds[type(layer)](name, layer, shape)


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="host", help="host or cuda:0 (default: host)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="counted turns (default: 5)")
    parser.add_argument("--only", default="", help="layers whose name begins so, as conv or fc6")
    args = parser.parse_args()

    bench = Bench(args.device, args.batch)
    if args.device == "host":
        torch.set_num_threads(bench.device.lib.threads())
    machine = alternate.machine(torch.get_num_threads())
    print(f"{machine}; {args.device}; PyTorch {torch.__version__}")
    print(f"AlexNet (paper), batch {args.batch}, medians of {args.runs} turns")
    columns = f"{'ms':>8}{'GFLOP/s':>9}{'GB/s':>7}{'PyTorch ms':>12}{'ratio':>7}"
    print(f"{'layer':<7}{'kernel':<17}{columns}")
    for row in bench.rows(args.only):
        (ours, peer), ratio = alternate.medians(
            [bench.timed(row.ours), bench.timed(row.peer)], args.runs
        )
        rate = f"{row.flop / ours / 1e9:.0f}" if row.flop else ""
        print(
            f"{row.layer:<7}{row.what:<17}{ours * 1e3:8.1f}{rate:>9}{row.bytes / ours / 1e9:7.1f}"
            f"{peer * 1e3:12.1f}{ratio:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
