"""How a training step of the paper's net gets quicker with more processes, and what it sends.

    python benchmarks/scaling.py                                  # here: 1 and 2 processes
    python benchmarks/scaling.py --device cuda:0 --processes 1,2,4,8      # one GPU each

The whole batch is the same for any number of processes. On the host each has `--threads` threads,
so that the ratio tells what dividing costs and not how many cores there are; one process with all
the threads of the largest job is measured too. Jobs take turns, as the machine's speed may drift.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import alternate
import numpy as np

from pyalexnet import device as devices
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.optim import SGD
from pyalexnet.parallel.communicator import join


class Way(NamedTuple):
    """A job to measure."""

    processes: int
    threads: int
    overlapped: bool  #: whether sums begin during backward

    def words(self, on_host: bool) -> str:
        """What the table calls it."""
        name = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        if on_host:
            name += f", {self.threads} thread{'s' if self.threads > 1 else ''} each"
        return name if self.overlapped else f"{name}, sums after backward"


def work(args: argparse.Namespace) -> None:
    """Is one process of a job; the first prints what it has measured."""
    with join() as job:
        names = args.device if job.size == 1 else job.local_devices(args.device)
        device = devices.get(names)
        if device.name == "host":
            device.lib.set_threads(args.threads)
        first, last = (r * args.batch // job.size for r in (job.rank, job.rank + 1))
        model = Model(zoo.alexnet(), device, last - first)
        sums, sgd = job.gradient_sum(model.parts), SGD(model)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (last - first, 224, 224, 3), np.uint8)
        labels = rng.integers(0, 1000, last - first, np.int32)
        crops = np.zeros((last - first, 3), np.int32)
        seconds, waits = [], []
        for step in range(1 + args.runs):
            device.synchronize()
            job.allreduce_max(0)  # all begin at once
            begin = time.perf_counter()
            model.forward_backward(
                images,
                labels,
                crops,
                seed=0,
                step=step,
                first_image=first,
                global_batch=args.batch,
                ready=None if args.after else sums.ready,
            )
            computed = time.perf_counter()
            sums.finish()
            summed = time.perf_counter()
            sgd.step()
            device.synchronize()
            job.allreduce_max(0)
            seconds.append(time.perf_counter() - begin)
            waits.append(summed - computed)
        if job.rank == 0:
            result = {
                "seconds": seconds[1:],
                "waits": waits[1:],
                "bytes": sums.bytes // len(seconds),
                "memory": device.peak_memory(),
            }
            print(json.dumps(result))


def measure(way: Way, args: argparse.Namespace) -> dict[str, Any]:
    """What the first process of a fresh job tells."""
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun") or "mpirun"
    launch = [mpirun, "-n", str(way.processes)] if way.processes > 1 else []
    command = [sys.executable, __file__, "--work", "--device", args.device]
    command += ["--batch", str(args.batch), "--runs", str(args.runs), "--threads", str(way.threads)]
    command += [] if way.overlapped else ["--after"]
    done = subprocess.run([*launch, *command], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Runs the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="host", help="the first's: host or cuda:0")
    parser.add_argument("--processes", default="1,2", help="numbers of processes (default: 1,2)")
    parser.add_argument("--threads", type=int, default=1, help="of a process on the host")
    parser.add_argument("--batch", type=int, default=128, help="images of all processes together")
    parser.add_argument("--runs", type=int, default=3, help="counted steps of a job (default: 3)")
    parser.add_argument("--turns", type=int, default=2, help="jobs of each kind (default: 2)")
    parser.add_argument("--after", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args)

    counts = [int(count) for count in args.processes.split(",")]
    on_host = args.device.startswith("host")
    ways = [Way(count, args.threads, True) for count in counts]
    ways += [Way(count, args.threads, False) for count in counts if count > 1]
    if on_host and max(counts) > 1:
        ways.append(Way(1, args.threads * max(counts), True))
    results: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(args.turns):
        for way in ways:
            results[way].append(measure(way, args))

    print(f"{alternate.machine(args.threads * max(counts))}; {args.device}")
    print(f"AlexNet (paper), {args.batch} images a step, medians of {args.turns}×{args.runs} steps")
    print("| job | a step | ratio | waiting for sums | gradients summed | peak memory each |")
    print("|---|---:|---:|---:|---:|---:|")
    base = 0.0
    for way, turns in results.items():
        step, wait = (
            statistics.median(s for turn in turns for s in turn[key])
            for key in ("seconds", "waits")
        )
        base = base or step
        memory = max(turn["memory"] for turn in turns) / 1e9
        print(
            f"| {way.words(on_host)} | {1e3 * step:,.0f} ms | {base / step:.2f} "
            f"| {1e3 * wait:,.0f} ms | {turns[0]['bytes'] / 1e6:,.1f} MB | {memory:.2f} GB |"
        )


if __name__ == "__main__":
    main()
