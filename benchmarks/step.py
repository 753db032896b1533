"""Times training steps or inference against other libraries, where they are installed.

    python benchmarks/step.py                                # the paper's net, training, batch 128
    python benchmarks/step.py --net torchvision --what infer --batch 16
    python benchmarks/step.py --net mine.json --no-peer      # alone
    python benchmarks/step.py --device cuda:0                # on a GPU, against cuDNN

The peers: PyTorch in both memory layouts; for inference on a CPU also ONNX Runtime and OpenVINO.
All have the same number of threads, fp32 and, at first, the same weights: what they compute of one
batch is compared before anything is timed. They take turns in one process. A turn gives a ratio for
each peer; the table has the medians, and their quartiles. The last line names the peer with the
lowest ratio. Each library then runs in a process of its own to measure its peak memory.

A training step is forward with dropout, loss, backward, SGD with momentum and weight decay.
Inference is the logits of a batch. On the host, ours starts from uint8 images, the others from
floats; on a GPU, both upload uint8 images from pinned memory, cuDNN chooses the fastest of its
algorithms, and PyTorch runs in fp32 and with TF32, which the last line leaves out. With --compile,
PyTorch also runs compiled.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import alternate
import nets
import numpy as np
import peers
from peers import Peer, Work

from pyalexnet import device as devices
from pyalexnet.device import Floats
from pyalexnet.model import Images, Model
from pyalexnet.nn.net import Net
from pyalexnet.nn.optim import SGD

OURS = "pyalexnet"
RATIO = ("ratio", "ratio_low", "ratio_high")  # median and quartiles
#: Logits may differ by so much, relative to their rms.
TOLERANCE = 1e-3
#: Seconds of a turn, at least: short work is called several times.
TURN = 0.1


def flop(net: Net, train: bool) -> float:
    """Counts the operations of one image.

    Those of a training step are three times those of the forward pass, less the first layer's data
    gradient.
    """
    macs = [layer.macs(*net.input_shapes(i)) for i, layer in enumerate(net.layers)]
    return 2.0 * (3 * sum(macs) - next(filter(None, macs)) if train else sum(macs))


def steps(model: Model, batch: int, optimizer: SGD | None = None) -> Callable[[], None]:
    """Returns a function that runs one training step of this package."""
    optimizer = optimizer or SGD(model)
    images = pixels(model, batch)
    labels = np.random.default_rng(1).integers(0, model.net.classes, batch, np.int32)
    crops = np.zeros((batch, 3), np.int32)
    step = 0

    def run() -> None:
        nonlocal step
        model.forward_backward(images, labels, crops, seed=0, step=step)
        optimizer.step()
        model.synchronize()
        step += 1

    return run


def random_images(model: Model, batch: int) -> Images:
    """A batch of random images."""
    channels, rows, columns = model.net.input
    return np.random.default_rng(0).integers(0, 256, (batch, rows, columns, channels), np.uint8)


def pixels(model: Model, batch: int) -> Images:
    """A batch of random images, pinned for a GPU until the process ends."""
    images = random_images(model, batch)
    if model.parts[0].device.name != "host":
        model.parts[0].device.pin(images)
    return images


def ours(work: Work, model: Model) -> Callable[[], object]:
    """This package's way of the work."""
    if work.train:
        return steps(model, work.batch)
    images = pixels(model, work.batch)
    return lambda: model.logits(images)


def check(name: str, peer: Peer, x: Floats, logits: Floats) -> None:
    """Raises SystemExit unless a peer's logits of the input x are those given."""
    theirs = peer.logits(x)
    if theirs.shape != logits.shape:
        raise SystemExit(f"{name}: logits are {theirs.shape}; expected {logits.shape}")
    error = float(np.sqrt(np.mean((theirs - logits) ** 2) / np.mean(logits**2)))
    if not error <= TOLERANCE:
        raise SystemExit(
            f"{name}: logits differ from ours by {error:.1e} of their rms; "
            f"expected at most {TOLERANCE:.0e}"
        )


def prepared(
    work: Work, model: Model, makers: Mapping[str, peers.Make]
) -> dict[str, Callable[[], object]]:
    """The ways of all that can do the work, by name, after their logits have been compared."""
    channels_first = (3, 0, 1, 2)
    part, state = model.parts[0], model.state()
    logits = model.logits(random_images(model, work.batch))
    x = np.ascontiguousarray(
        part.device.download(part.input.out)[..., : work.batch].transpose(channels_first)
    )
    ways = {OURS: ours(work, model)}
    for name, make in makers.items():
        try:
            peer = make(work, state)
        except nets.NoCounterpart as error:
            print(f"without {name}: {error}")
            continue
        check(name, peer, x, logits)
        ways[name] = peer.run
    return ways


def peak_memory(name: str, args: argparse.Namespace, work: Work) -> str:
    """The peak memory, in GB, of a new process in which one library does the work twice."""
    command = [sys.executable, __file__, "--alone", name, "--device", args.device]
    command += ["--net", args.net, "--what", args.what, "--batch", str(args.batch)]
    command += ["--onnx", str(work.onnx)] + ["--compile"] * args.compile
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return f"{float(done.stdout.split()[-1]):.3f}"


def run_alone(name: str, work: Work, makers: Mapping[str, peers.Make]) -> None:
    """Does the work twice in the library that --alone names and prints the peak memory in GB."""
    if name == OURS:
        run = ours(work, Model(work.net, work.device, work.batch))
    else:
        run = makers[name](work, None).run
    for _ in range(2):
        run()
    if name == OURS or work.device == "host":
        print(devices.get(work.device).peak_memory() / 1e9)
    else:
        import torch

        print(torch.cuda.max_memory_reserved(work.device) / 1e9)


def report(args: argparse.Namespace, work: Work, makers: Mapping[str, peers.Make]) -> None:
    """Times all and prints the table."""
    model = Model(work.net, work.device, work.batch)
    ways = prepared(work, model, makers)
    calls = alternate.calls_for(ways[OURS], TURN)
    warmups = 1 if work.device == "host" else 3  # cuDNN and allocators settle
    timed = [alternate.often(way, calls) for way in ways.values()]
    seconds = dict(zip(ways, alternate.turns(timed, args.runs, warmups), strict=True))
    ways.clear()
    del model, timed
    what = "training step" if work.train else "inference"
    print(f"{alternate.machine(work.threads)}; {args.device}{peers.versions(list(seconds))}")
    print(
        f"{work.net.name}, batch {args.batch}, {what}, "
        f"medians of {args.runs} turns of {calls} call{'s' * (calls > 1)}"
    )
    print(f"{'':<24}{'images/s':>9}{'GFLOP/s':>9}  {'ratio (quartiles)':<21}{'peak GB':>8}")
    table = [["library", "images_per_second", "gflops", *RATIO, "peak_gb"]]
    for name, times in seconds.items():
        rate = args.batch * calls / statistics.median(times)
        ratio = alternate.ratios(seconds[OURS], times)
        memory = peak_memory(name, args, work)
        gflops = flop(work.net, work.train) * rate / 1e9
        numbers = [f"{rate:.2f}", f"{gflops:.1f}", *(f"{value:.3f}" for value in ratio), memory]
        table.append([name, *numbers])
        words = "" if name == OURS else str(ratio)
        print(f"{name:<24}{rate:>9.1f}{gflops:>9.0f}  {words:<21}{memory:>8}", flush=True)
    if args.csv:
        with args.csv.open("w", newline="") as file:
            csv.writer(file).writerows(table)
    all_ratios = {
        name: alternate.ratios(seconds[OURS], times)
        for name, times in seconds.items()
        if name != OURS and "TF32" not in name
    }
    if all_ratios:
        fastest = min(all_ratios, key=lambda name: all_ratios[name].median)
        print(f"ratio to the fastest peer ({fastest}): {all_ratios[fastest]}")


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="host", help="host or cuda:0 (default: host)")
    parser.add_argument("--net", default="paper", help=nets.HELP)
    parser.add_argument("--what", default="train", choices=("train", "infer"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="timed turns (default: 5)")
    parser.add_argument("--no-peer", action="store_true", help="without other libraries")
    parser.add_argument("--compile", action="store_true", help="also PyTorch compiled")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--onnx", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            nets.get(args.net),
            args.what == "train",
            args.device,
            args.batch,
            devices.get("host").lib.threads(),
            args.onnx or Path(folder) / "net.onnx",
        )
        makers = {} if args.no_peer else peers.makers(work, args.compile)
        if args.alone:
            run_alone(args.alone, work, makers)
        else:
            report(args, work, makers)


if __name__ == "__main__":
    main()
