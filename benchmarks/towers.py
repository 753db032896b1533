"""Compares the paper's split over two devices with one device: time, traffic and memory.

    python benchmarks/towers.py                                       # two towers on this CPU
    python benchmarks/towers.py --one cuda:0 --two cuda:0,cuda:1      # on two GPUs

Both take the same training steps (forward, backward and SGD) in turns. On one CPU the towers share
its cores, so the ratio shows the cost of the split; on two GPUs it shows the gain.
"""

from __future__ import annotations

import argparse

import alternate
from step import steps

from pyalexnet import device as devices
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.optim import SGD
from pyalexnet.parallel import exchange


def print_memory(model: Model, optimizer: SGD) -> None:
    """Prints the memory in use on each device."""
    for part in model.parts:
        parameters = part.parameter_bytes() + optimizer.state_bytes(part)
        activations = sum(part.activation_bytes())
        print(
            f"  {part.net.name} on {part.device.name}: weights, gradients and momenta "
            f"{parameters / 1e6:,.0f} MB, activations {activations / 1e6:,.0f} MB"
        )


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--one", default="host", help="one device (default: host)")
    parser.add_argument("--two", default="host,host", help="two (default: host,host)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="timed turns (default: 5)")
    args = parser.parse_args()
    whole, split = (Model(zoo.alexnet(), names, args.batch) for names in (args.one, args.two))
    threads = devices.get("host").lib.threads()
    print(f"{alternate.machine(threads)}; AlexNet (paper), training step, batch {args.batch}")
    optimizers = {model: SGD(model) for model in (split, whole)}
    ways = [steps(model, args.batch, optimizer) for model, optimizer in optimizers.items()]
    (two, one), (_, ratio) = alternate.medians(ways, args.runs)
    turns = args.runs + 1  # the first is a warm-up
    for model, seconds in ((whole, one), (split, two)):
        print(f"{model.device_name}: {1e3 * seconds:,.0f} ms, {args.batch / seconds:.1f} images/s")
        print_memory(model, optimizers[model])
    print(f"ratio {ratio:.2f} (above 1: the split is faster)")
    moved = exchange.pop_traffic(split.parts)
    traffic = {name: count / turns / 1e6 for name, count in moved.items()}
    for name, megabytes in traffic.items():
        print(f"  {name}: {megabytes:.1f} MB a step between the towers")
    print(f"  in all {sum(traffic.values()):.1f} MB")


if __name__ == "__main__":
    main()
