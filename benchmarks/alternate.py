"""Times ways of doing the same in turns, so that a machine whose speed drifts slows all of them.

What the other benchmarks share: alternating runs and their ratios, and lines that say which machine
and which versions a table was measured with.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Spread(NamedTuple):
    """The median and the quartiles of some numbers."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one number."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def turns(
    ways: Sequence[Callable[[], object]], runs: int, warmups: int = 1
) -> tuple[tuple[float, ...], ...]:
    """Seconds of each way in each of `runs` turns, after `warmups` uncounted ones.

    A way returns when its work is done. Each turn begins with another way, as one may slow its
    successor.
    """
    count = len(ways)
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(warmups + runs):
        for i in range(count):
            now = (turn + i) % count
            start = time.perf_counter()
            ways[now]()
            if turn >= warmups:
                seconds[now].append(time.perf_counter() - start)
    return tuple(map(tuple, seconds))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times as fast as theirs ours is, by the turns' seconds: a turn gives one ratio."""
    return spread([b / a for a, b in zip(ours, theirs, strict=True)])


def medians(
    ways: Sequence[Callable[[], object]], runs: int, warmups: int = 1
) -> tuple[list[float], list[float]]:
    """Median seconds of each way, and the median of each one's `ratios` to the first."""
    seconds = turns(ways, runs, warmups)
    medians = [statistics.median(values) for values in seconds]
    return medians, [ratios(seconds[0], values).median for values in seconds]


def often(way: Callable[[], object], calls: int) -> Callable[[], None]:
    """A function that calls `way` so many times."""

    def run() -> None:
        for _ in range(calls):
            way()

    return run


def calls_for(way: Callable[[], object], seconds: float) -> int:
    """How many calls of `way`, by the second of two, take so long."""
    way()
    start = time.perf_counter()
    way()
    return max(1, round(seconds / (time.perf_counter() - start)))


def machine(threads: int) -> str:
    """The processor and how many of its cores are used."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {threads} threads"
