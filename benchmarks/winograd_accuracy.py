"""Trains the small net with direct and with Winograd's convolutions: the validation error of each.

    python benchmarks/winograd_accuracy.py                     # a tenth of it: some minutes
    python benchmarks/winograd_accuracy.py --set fashion       # all of Fashion-MNIST

The seeds' runs alternate. Winograd's rounding errors are larger (docs/winograd.md); they do not
matter if its mean lies within the spread of direct's seeds, which the last line says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import alternate
import defaults

ALGORITHMS = ("direct", "winograd")


def row(name: str, errors: Sequence[float]) -> str:
    """A line of the table, of errors from 0 to 1."""
    percents = [100 * error for error in errors]
    each = ", ".join(f"{value:.2f}" for value in percents)
    mean, deviation = statistics.fmean(percents), statistics.stdev(percents)
    return f"| {name} | {mean:.2f} % | {deviation:.2f} | {each} |"


def verdict(direct: Sequence[float], winograd: Sequence[float]) -> str:
    """Whether Winograd's mean error lies between direct's lowest and highest."""
    inside = min(direct) <= statistics.fmean(winograd) <= max(direct)
    return f"Winograd's mean lies {'within' if inside else 'outside'} the spread of direct's seeds."


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--set", choices=defaults.SETS, default="tenth")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    if len(args.seeds) < 2:
        parser.error(f"--seeds is {args.seeds}; expected at least two")
    chosen = defaults.SETS[args.set]
    errors: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.place(Path(folder))
        more = ["--device=cpu", f"--epochs={args.epochs}"]
        for seed in args.seeds:
            for name, found in errors.items():
                os.environ["PYALEXNET_CONV"] = name
                found.append(defaults.train(data, chosen.classes, seed, more).last)
    print(f"{alternate.machine(os.cpu_count() or 1)}; {chosen.name}, {args.epochs} epochs\n")
    print("| Convolutions | Validation error, mean | Standard deviation | Seeds |")
    print("|---|---|---|---|")
    for name, found in errors.items():
        print(row(name, found))
    print(f"\n{verdict(*errors.values())}")


if __name__ == "__main__":
    main()
