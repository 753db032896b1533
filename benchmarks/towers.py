"""The paper's split over two devices against the whole net on one: time, traffic and memory.

    python benchmarks/towers.py                                       # two towers on this CPU
    python benchmarks/towers.py --one cuda:0 --two cuda:0,cuda:1      # on two GPUs

Both take the same training steps, forward, backward and SGD, by turns. On one CPU the towers share
its cores, so that the ratio tells what the split costs; on two GPUs, what it gains.
"""

from __future__ import annotations

import argparse

import alternate
from step import steps

from pyalexnet import device as devices
from pyalexnet import nets
from pyalexnet.model import Model


def print_memory(model: Model) -> None:
    """Prints what each device holds."""
    for tower in model.towers:
        parameters, activations = tower.parameter_bytes(), sum(tower.activation_bytes())
        print(
            f"  {tower.net.name} on {tower.device.name}: weights, gradients and momenta "
            f"{parameters / 1e6:,.0f} MB, activations {activations / 1e6:,.0f} MB"
        )


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--one", default="host", help="one device (default: host)")
    parser.add_argument("--two", default="host,host", help="two (default: host,host)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5, help="counted turns (default: 5)")
    args = parser.parse_args()
    whole, split = (Model(nets.alexnet(), names, args.batch) for names in (args.one, args.two))
    threads = devices.get("host").lib.threads()
    print(f"{alternate.machine(threads)}; AlexNet (paper), training step, batch {args.batch}")
    ways = [steps(split, args.batch), steps(whole, args.batch)]
    (two, one), ratio = alternate.medians(ways, args.runs)
    turns = args.runs + 1  # the first is a warm-up
    for model, seconds in ((whole, one), (split, two)):
        print(f"{model.device_name}: {1e3 * seconds:,.0f} ms, {args.batch / seconds:.1f} images/s")
        print_memory(model)
    print(f"ratio {ratio:.2f} (above 1: the split is faster)")
    traffic = {name: moved / turns / 1e6 for name, moved in split.take_traffic().items()}
    for name, megabytes in traffic.items():
        print(f"  {name}: {megabytes:.1f} MB a step between the towers")
    print(f"  in all {sum(traffic.values()):.1f} MB")


if __name__ == "__main__":
    main()
