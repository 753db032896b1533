"""How many processor cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> set[int]:
    """The cores that this process may run on: those that taskset or a batch system leaves it."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def count_cores() -> int:
    """How many cores this process may run on."""
    return len(usable_cores())
