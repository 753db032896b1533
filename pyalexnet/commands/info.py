"""``python -m pyalexnet info``: the build, and the devices usable here."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pyalexnet import device as devices
from pyalexnet.commands import common
from pyalexnet.commands.arguments import Parser
from pyalexnet.errors import DeviceError

#: CuPy's distributions.
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = Parser(
        "python -m pyalexnet info",
        "[OPTION ...]",
        "Prints versions, how each target was built, and which devices are usable, or\nwhy not.",
        {"": "as lines", "--json": "as one JSON value"},
    )
    parser.add_argument_group("output").add_argument(
        "--json", action="store_true", help="print one JSON value"
    )
    parser.add_others(quiet="print nothing")
    return common.run(parser, _info, arguments)


def _info(options: dict[str, Any]) -> int:
    if options["json"]:
        common.print_json(values())
    elif not options["quiet"]:
        print(report())
    return 0


def values() -> dict[str, Any]:
    """Versions, how each target was built, and which devices are usable, or why not."""
    return {
        "pyalexnet": _version("pyalexnet"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": _version("numpy"),
        "cupy": next(filter(None, map(_version, CUPY)), None),
        "host": _host(),
        "cuda": _cuda(),
        "default_device": devices.default_name(),
    }


def report() -> str:
    """`values` as lines."""
    found = values()
    host, cuda = found["host"], found["cuda"]
    lines = [
        f"pyalexnet {found['pyalexnet'] or '(not installed)'}",
        f"  python         {found['python']} on {found['platform']}",
        f"  numpy          {found['numpy'] or 'not installed'}",
        f"  cupy           {found['cupy'] or 'not installed'}",
        f"host: {_usable(host)}",
        *_build(host),
        "cuda: " + (f"built, {cuda['gpus']} usable GPUs" if "gpus" in cuda else _usable(cuda)),
        *_build(cuda),
        *(f"  {name:14} {_usable(gpu)}" for name, gpu in cuda["devices"].items()),
        f"default device: {found['default_device']}",
    ]
    return "\n".join(lines)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _usable(found: dict[str, Any]) -> str:
    return f"not usable: {found['problem']}" if found["problem"] else "usable"


def _build(found: dict[str, Any]) -> list[str]:
    return [f"  {key:14} {value}" for key, value in found["build"].items()]


def _host() -> dict[str, Any]:
    try:
        lib = devices.get("host").lib
    except DeviceError as error:
        return {"problem": str(error), "build": {}}
    return {"problem": None, "build": _of(lib) | {"threads": lib.threads()}}


def _cuda() -> dict[str, Any]:
    try:
        lib = importlib.import_module("pyalexnet._cuda")
    except ImportError:
        return {"problem": devices.cuda_problem(), "build": {}, "devices": {}}
    problems = {
        f"cuda:{index}": devices.cuda_problem(index) or None
        for index in range(max(1, lib.device_count()))
    }
    return {
        "problem": devices.cuda_problem() or None,
        "build": _of(lib),
        "gpus": lib.device_count(),
        "devices": {name: {"problem": problem} for name, problem in problems.items()},
    }


def _of(lib: ModuleType) -> dict[str, Any]:
    return dict(sorted(lib.build_info().items()))
