"""``python -m pyalexnet info``: the build, and the devices usable here."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import platform
from collections.abc import Sequence
from types import ModuleType

from pyalexnet import device as devices
from pyalexnet.errors import DeviceError

#: CuPy's distributions.
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    argparse.ArgumentParser(
        "python -m pyalexnet info",
        description="Prints versions, how each target was built, and which devices are usable, "
        "or why not.",
    ).parse_args(arguments)
    print(report())
    return 0


def report() -> str:
    """Versions, how each target was built, and which devices are usable, or why not."""
    lines = [
        f"pyalexnet {_version('pyalexnet') or '(not installed)'}",
        f"  python         {platform.python_version()} on {platform.platform()}",
        f"  numpy          {_version('numpy') or 'not installed'}",
        f"  cupy           {next(filter(None, map(_version, CUPY)), 'not installed')}",
        *_host(),
        *_cuda(),
        f"default device: {devices.default_name()}",
    ]
    return "\n".join(lines)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _build(lib: ModuleType) -> list[str]:
    return [f"  {key:14} {value}" for key, value in sorted(lib.build_info().items())]


def _host() -> list[str]:
    try:
        lib = devices.get("host").lib
    except DeviceError as error:
        return [f"host: not usable: {error}"]
    return ["host: usable", *_build(lib), f"  {'threads':14} {lib.threads()}"]


def _cuda() -> list[str]:
    try:
        lib = importlib.import_module("pyalexnet._cuda")
    except ImportError:
        return [f"cuda: not usable: {devices.cuda_problem()}"]
    lines = [f"cuda: built, {lib.device_count()} usable GPUs", *_build(lib)]
    for index in range(max(1, lib.device_count())):
        problem = devices.cuda_problem(index)
        lines.append(f"  {f'cuda:{index}':14} {f'not usable: {problem}' if problem else 'usable'}")
    return lines
