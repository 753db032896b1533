"""Times a training step against PyTorch, if it is installed: images/s, ratio and peak memory.

    python benchmarks/step.py                    # the paper's net on the CPU, batch 128
    python benchmarks/step.py --device cuda:0    # on a GPU, against cuDNN
    python benchmarks/step.py --net mine.json    # another net, without PyTorch

Both do the same work on the same batch: forward with dropout, loss, backward, SGD with momentum and
weight decay. On the host, ours starts from uint8 images, PyTorch's from floats; on a GPU, both
upload uint8 images from pinned memory, cuDNN chooses the fastest of its algorithms, and PyTorch
runs in fp32 and with TF32, and with --compile also compiled. They take turns in one process; then
each runs in a process of its own to measure its peak memory.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alternate
import numpy as np

from pyalexnet import device as devices
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import SGD


def step_flop(net: Net) -> float:
    """Counts the operations of a training step of one image.

    They are three times those of the forward pass, less the first layer's data gradient.
    """
    macs = [layer.macs(*net.input_shapes(i)) for i, layer in enumerate(net.layers)]
    return 2.0 * (3 * sum(macs) - next(filter(None, macs)))


def steps(model: Model, batch: int, optimizer: SGD | None = None) -> Callable[[], None]:
    """Returns a function that runs one training step of this package."""
    optimizer = optimizer or SGD(model)
    rng = np.random.default_rng(0)
    channels, rows, columns = model.net.input
    images = rng.integers(0, 256, (batch, rows, columns, channels), np.uint8)
    labels = rng.integers(0, model.net.classes, batch, np.int32)
    crops = np.zeros((batch, 3), np.int32)
    if model.parts[0].device.name != "host":
        model.parts[0].device.pin(images)
    step = 0

    def run() -> None:
        nonlocal step
        model.forward_backward(images, labels, crops, seed=0, step=step)
        optimizer.step()
        model.synchronize()
        step += 1

    return run


def torch_step(
    device: str, batch: int, channels_last: bool = False, tf32: bool = False, compiled: bool = False
) -> Callable[[], None]:
    """Returns a function that runs one training step of PyTorch."""
    import torch
    import torch_alexnet
    import torch_layers

    where = "cpu" if device == "host" else device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = torch_alexnet.alexnet().to(where, memory_format=layout)
    weights = [p for p in net.parameters() if p.ndim > 1]
    biases = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 5e-4}, {"params": biases, "lr": 0.02}],
        lr=0.01,
        momentum=0.9,
    )
    if where == "cpu":
        images = torch.randn(batch, 3, 224, 224).to(memory_format=layout)
    else:
        images = torch.randint(256, (batch, 224, 224, 3), dtype=torch.uint8).pin_memory()
    labels = torch.randint(1000, (batch,), device=where)
    forward = torch.compile(net) if compiled else net

    def pixels() -> Any:
        if where == "cpu":
            return images
        floats = images.to(where, non_blocking=True).permute(0, 3, 1, 2).float()
        return floats.sub_(118).contiguous(memory_format=layout)

    def run() -> None:
        torch_layers.use_tf32(tf32)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(pixels()), labels).backward()
        optimizer.step()
        if where != "cpu":
            torch.cuda.synchronize(where)

    return run


def peak_memory(way: str, args: argparse.Namespace) -> float:
    """Returns the peak memory, in GB, of a new process that runs two steps of one library."""
    command = [sys.executable, __file__, "--alone", way, "--device", args.device]
    command += ["--net", args.net, "--batch", str(args.batch)]
    command += ["--channels-last"] * args.channels_last
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_alone(args: argparse.Namespace) -> None:
    """Runs two steps of the library that --alone names and prints the peak memory in GB."""
    if args.alone == "ours":
        run = steps(Model(zoo.get(args.net), args.device, args.batch), args.batch)
    else:
        run = torch_step(args.device, args.batch, args.channels_last)
    for _ in range(2):
        run()
    if args.alone == "ours" or args.device == "host":
        print(devices.get(args.device).peak_memory() / 1e9)
    else:
        import torch

        print(torch.cuda.max_memory_reserved(args.device) / 1e9)


def torch_ways(args: argparse.Namespace, threads: int) -> dict[str, Callable[[], None]]:
    """PyTorch's ways of a step on the device, by name."""
    import torch

    if args.device == "host":
        torch.set_num_threads(threads)
        return {"PyTorch": torch_step(args.device, args.batch, args.channels_last)}
    torch.backends.cudnn.benchmark = True
    return {
        f"PyTorch{' compiled' * compiled}{' TF32' * tf32}": torch_step(
            args.device, args.batch, args.channels_last, tf32, compiled
        )
        for compiled in (False, True)[: 1 + args.compile]
        for tf32 in (False, True)
    }


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="host", help="host or cuda:0 (default: host)")
    parser.add_argument("--net", default="alexnet", help=f"{', '.join(zoo.NAMES)} or a .json file")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="timed turns (default: 5)")
    parser.add_argument("--no-peer", action="store_true", help="without PyTorch")
    parser.add_argument(
        "--channels-last", action="store_true", help="PyTorch in channels-last layout"
    )
    parser.add_argument("--compile", action="store_true", help="also PyTorch compiled, on a GPU")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--alone", choices=("ours", "torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        return run_alone(args)

    net = zoo.get(args.net)
    threads = devices.get("host").lib.threads()
    title = f"{alternate.machine(threads)}; {args.device}"
    ways = {"pyalexnet": steps(Model(net, args.device, args.batch), args.batch)}
    peer = args.net == "alexnet" and not args.no_peer  # torch_alexnet.py has no other net
    if peer and importlib.util.find_spec("torch") is not None:
        import torch

        title += f"; PyTorch {torch.__version__}"
        ways |= torch_ways(args, threads)
    warmups = 1 if args.device == "host" else 3  # cuDNN and allocators settle
    seconds, ratios = alternate.medians(list(ways.values()), args.runs, warmups)
    names = list(ways)
    ways.clear()
    print(title)
    print(f"{net.name}, batch {args.batch}, training step, medians of {args.runs} turns")
    table = [("library", "images_per_second", "gflops", "ratio", "peak_gb")]
    print(f"{'':<22}{'images/s':>10}{'GFLOP/s':>10}{'ratio':>8}{'peak GB':>9}")
    for name, time, ratio in zip(names, seconds, ratios, strict=True):
        speed, rate = args.batch / time, step_flop(net) * args.batch / time / 1e9
        alone = {"pyalexnet": "ours", "PyTorch": "torch"}.get(name)
        memory = f"{peak_memory(alone, args):.3f}" if alone else ""
        table.append((name, f"{speed:.2f}", f"{rate:.1f}", f"{ratio:.2f}", memory))
        print(f"{name:<22}{speed:>10.1f}{rate:>10.0f}{ratio:>8.2f}{memory:>9}")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(table)


if __name__ == "__main__":
    main()
