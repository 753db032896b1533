"""Time and memory of the whole ImageNet pipeline, from archives to a ten-view error.

    python benchmarks/rehearsal.py                      # 10,000 and 100,000 images
    python benchmarks/rehearsal.py --images 20000       # 2,000 and 20,000

A synthetic ILSVRC2012 with 1000 classes and the exact file layout is processed with the user's
commands, each in its own process: first with a tenth of the images, then with all, to expose memory
that grows with the data set. The images are small, so that generating them does not dominate.

Then three rates are measured at ImageNet's image sizes: preparing, decoding the prepared images,
and the training step of the paper's net, each alone on the machine. The time for ImageNet is
extrapolated from these.

Memory is the sum over a command's processes with shared pages counted once (PSS), sampled five
times a second; Linux only. Needs SciPy, to write the devkit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import alternate
import loading
import PIL
import step

from pyalexnet import data
from pyalexnet.cores import count_cores
from pyalexnet.data.sources.shards import open_imagenet
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

CLASSES = 1000
SOURCE, STORED, CROP = (72, 96), 64, 56  # sides in pixels: source images, prepared images, crops
SHARD = 512  # images per shard: a tenth of all images fills several

IMAGENET, EPOCHS = 1_281_167, 90
H100_FLOOR = 15_100  # images/s training the paper's net, batch 128, fp32, by arithmetic (README)
REAL = 512  # number of photograph-like JPEGs
NAMES = 8  # hard links to each

NET = Net(
    "rehearsal",
    input=(3, CROP, CROP),
    normalization=Normalization(scale=1 / 64),
    layers=(
        Conv(24, 5, stride=2, pad=2),
        LRN(k=1.0, groups=2),
        MaxPool(3, 2),
        Conv(48, 3, pad=1, groups=2),
        MaxPool(3, 2),
        Linear(256),
        Linear(256),
        Dropout(0.3),
        Linear(CLASSES, activation=""),
    ),
)


class Stage(NamedTuple):
    """A finished command."""

    name: str
    images: int
    seconds: float
    memory: float  #: peak in bytes
    printed: str


def pss(session: int) -> int:
    """Returns the proportional set size of a session's processes, in bytes."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # Fields after the name: state, parent, group, session.
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:  # the process ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def run(name: str, images: int, command: Sequence[object], folder: Path) -> Stage:
    """Runs a command in its own session, sampling its memory; its output is logged to a file."""
    log, peak, start = folder / "log", 0, time.perf_counter()
    with log.open("w") as file:
        running = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while running.poll() is None:
                peak = max(peak, pss(running.pid))
                try:
                    running.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
    seconds = time.perf_counter() - start
    if running.returncode:
        sys.exit(f"{name} failed:\n{log.read_text()}")
    print(f"  {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return Stage(name, images, seconds, peak, log.read_text())


def command(name: str, *words: object) -> list[object]:
    """Returns the command line of one of the package's commands."""
    code = f"import sys; from pyalexnet.commands import {name}; sys.exit({name}.main())"
    return [sys.executable, "-c", code, *words]


def counts(images: int) -> tuple[int, int]:
    """Returns the numbers of training and validation images per class."""
    each = images // CLASSES
    val = max(1, each // 10)
    return each - val, val


def make(folder: Path, images: int) -> None:
    """Writes the archives."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from helpers.imagenet_files import write_imagenet  # type: ignore[import-not-found]

    train, val = counts(images)
    write_imagenet(folder, classes=CLASSES, train=train, val=val, size=SOURCE)


def rehearse(folder: Path, images: int, workers: int) -> list[Stage]:
    """Runs the whole pipeline with the given number of images."""
    folder.mkdir()
    print(f"{images:,} images", file=sys.stderr, flush=True)
    (folder / "net.json").write_text(NET.to_json())
    stages = []

    def stage(name: str, count: int, words: Sequence[object]) -> None:
        stages.append(run(name, count, words, folder))

    making = [sys.executable, Path(__file__).resolve(), "--make", "archives", "--images", images]
    stage("make the archives", images, making)
    train, val = (CLASSES * count for count in counts(images))
    sources = ["--train=archives/ILSVRC2012_img_train.tar", "--val=archives/ILSVRC2012_img_val.tar"]
    sources += ["--devkit=archives/ILSVRC2012_devkit_t12.tar.gz", f"--workers={workers}"]
    small = [f"--size={STORED}", f"--shard-images={SHARD}"]
    for form in ("jpeg", "raw"):
        where = [f"--output={form}", f"--format={form}"]
        stage(f"prepare, {form}", images, command("prepare", *sources, *small, *where))
    stage("verify, jpeg", images, command("prepare", "--output=jpeg", "--verify"))
    for form in ("jpeg", "raw"):
        what = ["--net=net.json", f"--data=imagenet:{form}", f"--output=run-{form}"]
        how = ["--epochs=1", "--lr=0.02", "--device=cpu", f"--workers={workers}"]
        stage(f"train one epoch, {form}", train, command("train", *what, *how))
    for views, of in (("centre", "one view"), ("ten", "ten views")):
        what = ["run-jpeg/last.safetensors", f"--views={views}", "--device=cpu"]
        files = ["--predictions=val.csv", "--submission=val.txt"]
        words = command("evaluate", *what, *files, f"--workers={workers}")
        stage(f"evaluate, {of}, jpeg", val, words)
    return stages


def report(tenth: list[Stage], whole: list[Stage]) -> None:
    """Prints the table of the stages."""
    print(
        "| Stage | images | time | images/s | peak memory "
        "| peak with a tenth of the images | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for small, large in zip(tenth, whole, strict=True):
        print(
            f"| {large.name} | {large.images:,} | {large.seconds:.1f} s | "
            f"{large.images / large.seconds:,.0f} | {large.memory / 1e6:,.0f} MB | "
            f"{small.memory / 1e6:,.0f} MB | {large.memory / small.memory:.2f} |"
        )
    for name, stage in (("training", whole[-3]), ("evaluation", whole[-1])):
        [*_, line] = [line for line in stage.printed.splitlines() if "loss" in line]
        print(f"{name}: {line}")


def real_rates(folder: Path, workers: int) -> tuple[float, float, float]:
    """Measures images/s of preparing, decoding and training at ImageNet's image sizes."""
    source, val = folder / "photographs", folder / "val"
    loading.write_jpegs(source, REAL)
    for path in sorted(source.glob("*/*.jpg")):
        for copy in range(1, NAMES):
            os.link(path, path.with_name(f"{path.stem}-{copy}.jpg"))
    for name in loading.CLASSES:
        (val / name).mkdir(parents=True)
        first = min((source / name).iterdir())
        os.link(first, val / name / first.name)
    words = [f"--train={source}", f"--val={val}", f"--workers={workers}", "--output=real"]
    count = REAL * NAMES
    prepared = run(
        "prepare, 500×375", count, command("prepare", *words, "--shard-images=512"), folder
    )
    split = open_imagenet(folder / "real").train
    with data.Loader(split, 128, seed=0, workers=workers) as loader:
        [decoding], _ = alternate.medians([loading.ours(loader)], 3)
    [training], _ = alternate.medians([step.steps(Model(zoo.alexnet(), "host", 128), 128)], 3)
    return count / prepared.seconds, count / decoding, 128 / training


def forecast(prepared: float, decoded: float, trained: float, cores: int) -> None:
    """Prints the extrapolated time for ImageNet."""
    images = IMAGENET * EPOCHS
    each = decoded / cores
    print(
        f"At ImageNet's sizes ({REAL} synthetic JPEGs of 500×375, each {NAMES} times): preparing "
        f"{prepared:,.0f} images/s; decoding prepared JPEGs of 256×256 {decoded:,.0f} images/s, "
        f"{each:,.0f} per core; training the paper's net {trained:.1f} images/s."
    )
    days = [images / rate / 86400 for rate in (trained, decoded)]
    print(
        f"{IMAGENET:,} images × {EPOCHS} epochs, without validation, at these rates: "
        f"{days[0]:.1f} days of steps and, on the same cores, {days[1]:.1f} days of decoding (none "
        f"with raw shards), {sum(days):.1f} days in total; the bottleneck is "
        f"{'the steps' if days[0] > days[1] else 'decoding'}. Preparing takes "
        f"{IMAGENET / prepared / 60:.0f} minutes."
    )
    print(
        f"By arithmetic; not run on a GPU: at an H100's fp32 limit, {H100_FLOOR:,} images/s, "
        f"{images / H100_FLOOR / 3600:.1f} hours; keeping it busy takes {H100_FLOOR / each:.0f} "
        f"such cores decoding JPEGs, or reading raw shards at "
        f"{H100_FLOOR * 256 * 256 * 3 / 1e9:.2f} GB/s."
    )


def check_space(folder: Path, images: int) -> None:
    """Exits unless images, archives and shards of both runs fit on the disk."""
    each = STORED * STORED * 3 + 3 * SOURCE[1] ** 2 // 2  # raw, and an upper bound of three JPEGs
    needed = 11 * images * each // 10 + REAL * 2**19
    free = shutil.disk_usage(folder).free
    if free < needed:
        sys.exit(
            f"{folder}: free space is {free / 1e9:.1f} GB; expected {needed / 1e9:.1f} GB "
            f"(see --folder)"
        )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="(default: 100,000)")
    parser.add_argument("--workers", type=int, default=count_cores(), help="(default: all cores)")
    parser.add_argument("--folder", help="for temporary files (default: the system's)")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        return make(args.make, args.images)
    if args.images % (10 * CLASSES) or args.images < 20 * CLASSES:
        parser.error(f"images is {args.images}; expected a multiple of 10,000, at least 20,000")
    print(f"{alternate.machine(args.workers)}; Pillow {PIL.__version__}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        check_space(folder, args.images)
        tenth = rehearse(folder / "tenth", args.images // 10, args.workers)
        whole = rehearse(folder / "whole", args.images, args.workers)
        report(tenth, whole)
        rates = real_rates(folder, args.workers)
    forecast(*rates, min(args.workers, count_cores()))


if __name__ == "__main__":
    main()
