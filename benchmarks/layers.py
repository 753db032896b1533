"""Times every kernel of a net, layer by layer, against PyTorch if it is installed.

    python benchmarks/layers.py                       # the paper's net on the CPU, batch 128
    python benchmarks/layers.py --net torchvision --only conv
    python benchmarks/layers.py --device cuda:0       # on a GPU, against cuDNN
    python benchmarks/layers.py --net mine.json --no-peer

A row is one kernel at one layer's sizes; ours and PyTorch's, in both memory layouts, take turns in
one process. Each turn gives a ratio to each of PyTorch's ways; the last columns have the lowest
ratio's median and quartiles, and "<" where the median of a layer with weights is below --target.
The last line counts these. GFLOP/s count a multiplication and an addition as two operations. GB/s
count each input read once and each output written once. On a GPU, a turn is a CUDA graph of 20
calls, cuDNN chooses the fastest of its algorithms, and PyTorch is also timed with TF32, which is
not a candidate for the lowest ratio. Calls of a turn find in L2 what the call before left there.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import alternate
import gpu_graphs
import nets
import numpy as np

from pyalexnet import device as devices
from pyalexnet import ops
from pyalexnet.nn.layers import LRN, Conv, Layer, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nn.net import Net


class Row(NamedTuple):
    """A kernel of a layer: its name, a call that runs it, and its cost."""

    what: str
    run: Callable[[], Any]
    flop: float
    bytes: float


class Bench:
    """Runs the kernels of layers on arrays of random numbers, on one device."""

    def __init__(self, device: str, batch: int) -> None:
        self.device = devices.get(device)
        self.batch = batch
        self._rng = np.random.default_rng(0)

    def _array(self, *shape: int) -> Any:
        images = self.device.pad_images(self.batch)
        whole = (*shape[:-1], images) if shape[-1] == self.batch else shape
        return self.device.upload(self._rng.standard_normal(whole, np.float32))

    def conv(self, layer: Conv, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward with bias and activation, and both gradients."""
        n = self.batch
        (c, h, w), (k, p, q) = shape, layer.output_shape(shape)
        x, dy, y = self._array(c, h, w, n), self._array(k, p, q, n), self._array(k, p, q, n)
        weight = self.device.upload(
            self._rng.standard_normal((c // layer.groups, layer.size, layer.size, k), np.float32)
        )
        bias, dx, dw = self.device.zeros((k,)), self._array(c, h, w, n), self._like(weight)
        how: dict[str, Any] = {"stride": layer.stride, "pad": layer.pad, "groups": layer.groups}
        floats = ops.conv_workspace(self.device, x.shape, weight.shape, dy.shape, **how)
        workspace = self.device.empty((max(1, floats),))
        flop = 2.0 * n * layer.macs(shape)
        size = 4.0 * (x.size + weight.size + y.size)
        activation = layer.activation
        yield Row(
            "forward",
            lambda: ops.conv_forward(
                x, weight, bias, activation=activation, workspace=workspace, out=y, **how
            ),
            flop,
            size,
        )
        yield Row(
            "data gradient",
            lambda: ops.conv_backward_data(dy, weight, x.shape, workspace=workspace, out=dx, **how),
            flop,
            size,
        )
        yield Row(
            "weight gradient",
            lambda: ops.conv_backward_weights(
                x, dy, weight.shape, workspace=workspace, out=dw, **how
            ),
            flop,
            size,
        )

    def linear(self, layer: Linear, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward with bias and activation, and both gradients."""
        n, k, f = self.batch, layer.features, int(np.prod(shape))
        x, y, dy, dx = (self._array(size, n) for size in (f, k, k, f))
        w = self.device.upload(self._rng.standard_normal((f, k), np.float32))
        b, dw = self.device.zeros((k,)), self._like(w)
        floats = ops.linear_workspace(self.device, x.shape, dy.shape)
        workspace = self.device.empty((max(1, floats),))
        flop, size = 2.0 * n * f * k, 4.0 * (x.size + w.size + y.size)
        activation = layer.activation
        yield Row(
            "forward",
            lambda: ops.linear_forward(x, w, b, activation=activation, workspace=workspace, out=y),
            flop,
            size,
        )
        yield Row(
            "data gradient",
            lambda: ops.linear_backward_data(dy, w, workspace=workspace, out=dx),
            flop,
            size,
        )
        yield Row(
            "weight gradient",
            lambda: ops.linear_backward_weights(x, dy, workspace=workspace, out=dw),
            flop,
            size,
        )

    def lrn(self, layer: LRN, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward and backward."""
        x, dy, y, dx = (self._array(*shape, self.batch) for _ in range(4))
        names = ("size", "k", "alpha", "beta", "groups")
        how: dict[str, Any] = {name: getattr(layer, name) for name in names}
        yield Row("forward", lambda: ops.lrn_forward(x, out=y, **how), 0.0, 8.0 * x.size)
        yield Row("backward", lambda: ops.lrn_backward(dy, x, out=dx, **how), 0.0, 12.0 * x.size)

    def pool(self, layer: MaxPool, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward and backward."""
        x, dx = self._array(*shape, self.batch), self._array(*shape, self.batch)
        how: dict[str, Any] = {"size": layer.size, "stride": layer.stride, "pad": layer.pad}
        y, argmax = ops.maxpool_forward(x, ceil_mode=layer.ceil_mode, **how)
        size = 4.0 * x.size + 6.0 * y.size
        dy = self._like(y)
        yield Row("forward", lambda: ops.maxpool_forward(x, out=y, argmax=argmax, **how), 0.0, size)
        yield Row(
            "backward",
            lambda: ops.maxpool_backward(dy, argmax, x.shape, out=dx, **how),
            0.0,
            size,
        )

    def activation(self, layer: ReLU | Tanh, shape: tuple[int, ...]) -> Iterator[Row]:
        """Forward and backward."""
        x, y, dy = (self._array(*shape, self.batch) for _ in range(3))
        kind = layer.prefix
        yield Row("forward", lambda: ops.activation_forward(x, kind, out=y), 0.0, 8.0 * x.size)
        yield Row(
            "backward", lambda: ops.activation_backward(dy, y, kind, out=x), 0.0, 12.0 * x.size
        )

    def _like(self, array: Any) -> Any:
        return self.device.zeros(array.shape)

    def rows(self, layer: Layer, shape: tuple[int, ...]) -> Iterator[Row]:
        """Yields the kernels of a layer with an input of `shape`; none for other layers."""
        kinds: dict[type, Callable[..., Iterator[Row]]] = {
            Conv: self.conv,
            Linear: self.linear,
            LRN: self.lrn,
            MaxPool: self.pool,
            ReLU: self.activation,
            Tanh: self.activation,
        }
        if type(layer) in kinds:
            yield from kinds[type(layer)](layer, shape)

    @property
    def calls(self) -> int:
        """Calls of a kernel in a turn."""
        return gpu_graphs.CALLS if gpu_graphs.can_capture(self.device) else 1

    def timed(self, run: Callable[[], Any]) -> Callable[[], None]:
        """Returns a function that calls `run` `calls` times and then waits for the device."""
        if self.calls > 1:
            return gpu_graphs.ours(self.device, run)

        def timed() -> None:
            run()
            self.device.synchronize()

        return timed


class Result(NamedTuple):
    """A measured row."""

    layer: str
    kernel: str
    ms: float
    gflops: float  #: 0 for a kernel without multiplications
    gbps: float
    peers_ms: dict[str, float]
    ratio: alternate.Spread | None  #: to the fastest peer; None without one
    weighty: bool  #: whether the layer has weights

    def misses(self, target: float) -> bool:
        """Whether the layer has weights and its ratio is below the target."""
        return self.weighty and self.ratio is not None and self.ratio.median < target


def measure(bench: Bench, net: Net, only: str, runs: int, peers: Any) -> Iterator[Result]:
    """Times the layers with names that start with `only`; `peers` is `torch_layers` or None."""
    first = next(name for name, parameters in net.layer_parameters() if parameters)
    for i, (name, layer) in enumerate(zip(net.names, net.layers, strict=True)):
        shape = net.input_shapes(i)[0]
        if not name.startswith(only):
            continue
        theirs: dict[str, Any] = {}
        for row in bench.rows(layer, shape):
            if (name, row.what) == (first, "data gradient"):
                continue  # training needs no gradient of the images
            ways = {"": bench.timed(row.run)}
            if peers:
                theirs = theirs or peers.ways(layer, shape, bench.batch, bench.device.name)
                ways |= peers.timed(theirs, row.what, bench.device.name)
            turns = dict(zip(ways, alternate.turns(list(ways.values()), runs), strict=True))
            ms = {way: statistics.median(s) / bench.calls * 1e3 for way, s in turns.items()}
            ratios = [
                alternate.ratios(turns[""], seconds)
                for way, seconds in turns.items()
                if way and "TF32" not in way
            ]
            own = ms.pop("")
            yield Result(
                name,
                row.what,
                own,
                row.flop / own / 1e6,
                row.bytes / own / 1e6,
                ms,
                min(ratios) if ratios else None,
                bool(layer.parameters(shape)),
            )


def write_csv(path: Path, names: Sequence[str], results: Sequence[Result], target: float) -> None:
    """Writes the rows; a value that does not apply is empty."""
    head = ["layer", "kernel", "ms", "gflops", "gbps", *(f"{name} ms" for name in names)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "ratio", "ratio_low", "ratio_high", "below_target"])
        for own in results:
            peers = [f"{own.peers_ms[name]:.3f}" if name in own.peers_ms else "" for name in names]
            ratio = [f"{value:.3f}" for value in own.ratio] if own.ratio else [""] * 3
            gflops = f"{own.gflops:.1f}" if own.gflops else ""
            numbers = [f"{own.ms:.3f}", gflops, f"{own.gbps:.1f}", *peers, *ratio]
            below = "yes" if own.misses(target) else ""
            writer.writerow([own.layer, own.kernel, *numbers, below])


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="host", help="host or cuda:0 (default: host)")
    parser.add_argument("--net", default="paper", help=nets.HELP)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="timed turns (default: 5)")
    parser.add_argument("--only", default="", help="layers with names that start so: conv, fc6")
    parser.add_argument("--target", type=float, default=1.2, help="ratio to reach (default: 1.2)")
    parser.add_argument("--no-peer", action="store_true", help="without PyTorch")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the rows to FILE")
    args = parser.parse_args()

    bench, net = Bench(args.device, args.batch), nets.get(args.net)
    threads = devices.get("host").lib.threads()
    title = f"{alternate.machine(threads)}; {args.device}"
    peers: Any = None
    names: tuple[str, ...] = ()
    if not args.no_peer and importlib.util.find_spec("torch") is not None:
        import torch
        import torch_layers

        peers = torch_layers
        peers.prepare(args.device, threads)
        names = peers.names(args.device)
        title += f"; PyTorch {torch.__version__}: {', '.join(names)}"
    print(title)
    print(f"{net.name}, batch {args.batch}, medians of {args.runs} turns of {bench.calls} calls")
    widths = [max(9, len(name) + 4) for name in names]
    theirs = "".join(f"{name + ' ms':>{w}}" for name, w in zip(names, widths, strict=True))
    print(f"{'layer':<8}{'kernel':<16}{'ms':>9}{'GFLOP/s':>9}{'GB/s':>7}{theirs}  ratio")
    results = []
    for own in measure(bench, net, args.only, args.runs, peers):
        gflops = f"{own.gflops:.0f}" if own.gflops else ""
        line = f"{own.layer:<8}{own.kernel:<16}{own.ms:>9.3f}{gflops:>9}{own.gbps:>7.1f}"
        for name, width in zip(names, widths, strict=True):
            line += f"{own.peers_ms[name]:>{width}.3f}" if name in own.peers_ms else " " * width
        if own.ratio:
            line += f"  {own.ratio}{'  <' * own.misses(args.target)}"
        print(line.rstrip(), flush=True)
        results.append(own)
    weighty = [own for own in results if own.weighty and own.ratio]
    if weighty:
        reached = sum(not own.misses(args.target) for own in weighty)
        print(f"{reached} of {len(weighty)} kernels with weights reach {args.target:g}")
    if args.csv:
        write_csv(args.csv, names, results, args.target)


if __name__ == "__main__":
    main()
