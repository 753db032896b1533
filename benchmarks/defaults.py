"""Trains with the defaults on sets of several sizes: the table of docs/defaults.md.

    python benchmarks/defaults.py                                  # all sets, three seeds: an hour
    python benchmarks/defaults.py --sets things fruit --seeds 1    # some of it

Every run is the command that the table shows, with no option but its data, seed and output. The
sets: the built-in shapes; three sets of photos, drawn by photos.py; Fashion-MNIST, and a tenth of
its training images with all of its validation images.

"Last" is the error after the last epoch, "best" the lowest of any epoch: of a small validation set,
the latter flatters. Seconds are those of the whole command. "At chance" is the longest time, in
epochs, for which the training loss was within 2 % of ln(classes).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import alternate
import photos

FASHION = Path("/usr/share/datasets/fashion-mnist")
TENTH = 6_000


class Set(NamedTuple):
    """A data set: how it is written or found, and what it is."""

    name: str
    classes: int
    place: Callable[[Path], str]  #: writes into a folder what is missing; returns --data's value


class Run(NamedTuple):
    """How a run ended."""

    last: float  #: error after the last epoch, 0..1
    best: float
    seconds: float
    at_chance: int  #: epochs in a row
    epochs: int


def drawn(name: str) -> Set:
    """A set of photos."""

    def place(folder: Path) -> str:
        at = folder / f"photos-{name}"
        if not at.exists():
            photos.write(at, name)
        return f"folder:{at}"

    return Set(f"photos-{name}", len(photos.SETS[name]), place)


def a_tenth(folder: Path) -> str:
    """Fashion-MNIST with its first 6,000 training images."""
    at = folder / "fashion-tenth"
    if not at.exists():
        at.mkdir(parents=True)
        for file in FASHION.glob("t10k-*"):
            shutil.copy(file, at)
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
            name = f"train-{kind}-ubyte.gz"
            content = gzip.decompress((FASHION / name).read_bytes())
            head = 4 + 4 * dimensions
            each = (len(content) - head) // 60_000
            counted = content[:4] + TENTH.to_bytes(4, "big") + content[8:head]
            (at / name).write_bytes(gzip.compress(counted + content[head : head + TENTH * each]))
    return f"fashion-mnist:{at}"


SETS: dict[str, Set] = {
    "shapes": Set("shapes", 10, lambda folder: "shapes"),
    **{name: drawn(name) for name in photos.SETS},
    "tenth": Set("fashion-tenth", 10, a_tenth),
    "fashion": Set("fashion-mnist", 10, lambda folder: f"fashion-mnist:{FASHION}"),
}


def train(data: str, classes: int, seed: int, more: Sequence[str]) -> Run:
    """Runs the command once."""
    with tempfile.TemporaryDirectory() as output:
        words = ["train", f"--data={data}", f"--seed={seed}", f"--output={output}/run", *more]
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pyalexnet", *words], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - begin
        lines = (Path(output) / "run" / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "val_loss" in record]
    errors = [float(record["val_top1_error"]) for record in records]
    return Run(errors[-1], min(errors), seconds, longest_at_chance(records, classes), len(errors))


def longest_at_chance(records: Sequence[dict[str, Any]], classes: int) -> int:
    """Epochs in a row whose training loss is within 2 % of ln(classes)."""
    longest = streak = 0
    for record in records:
        near = abs(record["train_loss"] / math.log(classes) - 1) <= 0.02
        streak = streak + 1 if near else 0
        longest = max(longest, streak)
    return longest


def row(name: str, runs: Sequence[Run], more: Sequence[str]) -> str:
    """A line of the table."""

    def percents(values: Sequence[float]) -> str:
        low, high = 100 * min(values), 100 * max(values)
        return f"{100 * statistics.median(values):.1f} % ({low:.1f} to {high:.1f})"

    command = " ".join(["pyalexnet-train", *(() if name == "shapes" else ("--data …",)), *more])
    return (
        f"| {name} | `{command}` | {runs[0].epochs} | {percents([run.last for run in runs])} | "
        f"{percents([run.best for run in runs])} | {max(run.at_chance for run in runs)} | "
        f"{statistics.median(run.seconds for run in runs):.0f} |"
    )


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, help="where to keep the drawn sets (default: none)")
    parser.add_argument("more", nargs="*", help="options for pyalexnet-train, after --")
    args = parser.parse_args()
    print(f"{alternate.machine(2)}; seeds {', '.join(map(str, args.seeds))}\n")
    print("| Set | Command | Epochs | Error, last | best | At chance | Seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.sets:
            chosen = SETS[name]
            data = chosen.place(args.folder or Path(temporary))
            runs = [train(data, chosen.classes, seed, args.more) for seed in args.seeds]
            print(row(chosen.name, runs, args.more), flush=True)


if __name__ == "__main__":
    main()
