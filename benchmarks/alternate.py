"""Times two ways of doing the same in turns, so that a machine whose speed drifts slows both.

What the other benchmarks share: medians of alternating runs, and lines that say which machine and
which versions a table was measured with.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def medians(
    ways: Sequence[Callable[[], object]], runs: int, warmups: int = 1
) -> tuple[list[float], list[float]]:
    """Median seconds of each way, called in turns `runs` times after `warmups` uncounted turns.

    Also returns, for each way, the median over the turns of its seconds / the first way's: how many
    times as fast as that way the first is. A way returns when its work is done.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(warmups + runs):
        for way, measured in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            if turn >= warmups:
                measured.append(time.perf_counter() - start)
    ratios = [
        statistics.median(theirs / first for first, theirs in zip(seconds[0], way, strict=True))
        for way in seconds
    ]
    return [statistics.median(values) for values in seconds], ratios


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
