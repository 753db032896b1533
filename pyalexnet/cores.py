"""How many processor cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr  # bounded

from pyalexnet import control_groups
from pyalexnet.errors import UserError

MOST = 1024  #: threads or processes at most; the kernels' pool of threads has no more


def usable_cores() -> set[int]:
    """The cores that this process may run on: those that taskset or a batch system leaves it."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def count_cores() -> int:
    """How many cores' time this process may use.

    That is the number of `usable_cores` or, where it is smaller, the quota of a container (control
    groups, version 1 or 2), rounded up; at most `MOST`.
    """
    return max(1, math.ceil(min([MOST, len(usable_cores()), *_quotas()])))


def check_count(name: str, count: int | None, lowest: int = 1) -> None:
    """Raises UserError unless so many threads or processes can be asked for; None is no request."""
    if count is not None and not lowest <= count <= MOST:
        raise UserError(f"{name} is {repr(count)}; expected {lowest} to {MOST}")


def _quotas() -> Iterator[float]:
    """The cores that each control group of this process leaves it, where that is limited."""
    for folder in control_groups.folders("cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = _quota(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _quota(folder: Path) -> tuple[int, int]:
    """Microseconds of cores' time in a period, and the period's; ValueError without a limit."""
    with contextlib.suppress(FileNotFoundError):
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)  # "max" is no number
    quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
    return int(quota), int(period)
