"""Where Linux keeps what a container, or a batch system, lets this process use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS, GROUP_OF = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def folders(controller: str) -> Iterator[Path]:
    """The folders of a controller, "cpu" or "memory", for this process's group and those above it.

    In version 2, all controllers share them. A container may see its own group as the root,
    whatever /proc says.
    """
    lines = ["0::/", f"1:{controller}:/"]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines += GROUP_OF.read_text().splitlines()
    found: set[Path] = set()
    for line in lines:
        _, names, group = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        inner = PurePosixPath(group.lstrip("/"))
        for root in {"", names, controller if names else ""}:
            found |= {GROUPS / root / part for part in (inner, *inner.parents)}
    yield from sorted(found)
