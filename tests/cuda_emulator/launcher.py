"""Runs a command with emulated CUDA devices.

    tests/cuda_emulator/run -- python -m pyalexnet info
    tests/cuda_emulator/run --arch 80 --seed 1 -- pytest --device cuda:0
    tests/cuda_emulator/run --stats - -- pyalexnet-train --device cuda:0,cuda:1 ...

tests/cuda_emulator/README.md describes the options and the environment variables.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from building import BuildError, Environment, capability, default_cache, say

CHECKS = ("init", "race", "streams", "sync")


def checks(text: str) -> str:
    """Validate the value of --check."""
    unknown = set(text.split(",")) - {"all", "none", *CHECKS}
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))!r}; expected all, none, or some of {','.join(CHECKS)}"
        )
    return text


def numbers(text: str) -> str:
    """Validate the value of --dump-at."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers, as in 1,5")
    return text


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options; exit with a message if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="run",
        usage="run [option ...] -- command ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", default="90", help="PTX and compute capability: 75, 80, 90, ... (default: 90)")
    add("--check", type=checks, default="all", help=f"all, none, or some of {','.join(CHECKS)}")
    add("--keep-going", action="store_true", help="continue after errors and list them at the end")
    add("--seed", type=int, default=0, help="seed for the order of blocks, warps and lanes")
    add("--schedule", choices=("random", "roundrobin", "whole"), default="random")
    add("--streams", choices=("late", "eager"), default="late", help="when queued work runs")
    add("--stats", metavar="FILE", help="write counters: a table, or JSON (*.json); -: stderr")
    add("--devices", type=int, default=2, help="number of devices, 0 to 16 (default: 2)")
    add("--no-peer-access", action="store_true", help="devices cannot access each other's memory")
    add("--no-host-register", action="store_true", help="cudaHostRegister fails, as under WSL")
    add("--perturb", action="store_true", help="approximate functions err by up to their bound")
    add("--dump-launches", metavar="DIR", help="write launches, with memory before and after")
    add(
        "--dump-kernel",
        metavar="REGEX",
        default="",
        help="dump only kernels whose mangled name matches",
    )
    add(
        "--dump-at", metavar="N,...", type=numbers, help="dump only these matching launches, from 1"
    )
    add("--dump-most", metavar="BYTES", type=int, help="omit the contents of larger allocations")
    add("--no-execute", action="store_true", help="kernels do nothing")
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.command[:1] == ["--"]:
        del args.command[0]
    if not 0 <= args.devices <= 16:
        parser.error(f"argument --devices: {args.devices}; expected 0 to 16")
    if args.stats not in (None, "-") and not Path(args.stats).absolute().parent.is_dir():
        parser.error(f"argument --stats: {args.stats}; expected a file in an existing folder")
    return args


def variables(args: argparse.Namespace) -> dict[str, str]:
    """Return the options as environment variables."""

    def absolute(path: str | None) -> str:
        return str(Path(path).absolute()) if path and path != "-" else path or ""

    return {
        "EMU_ARCH": capability(args.arch),
        "EMU_CHECK": args.check,
        "EMU_ON_ERROR": "continue" if args.keep_going else "stop",
        "EMU_SEED": str(args.seed),
        "EMU_SCHEDULE": args.schedule,
        "EMU_STREAMS": args.streams,
        "EMU_STATS": absolute(args.stats),
        "EMU_DEVICES": str(args.devices),
        "EMU_PEER_ACCESS": str(int(not args.no_peer_access)),
        "EMU_HOST_REGISTER": str(int(not args.no_host_register)),
        "EMU_PERTURB": str(int(args.perturb)),
        "EMU_DUMP": absolute(args.dump_launches),
        "EMU_DUMP_KERNEL": args.dump_kernel,
        "EMU_DUMP_AT": args.dump_at or "",
        "EMU_DUMP_MOST": "" if args.dump_most is None else str(args.dump_most),
        "EMU_EXECUTE": str(int(not args.no_execute)),
    }


def inherited_stderr() -> str:
    """Duplicate standard error for the command; return "number:device:inode", or "" if closed.

    The emulator reports errors there: pytest redirects standard error during a test, and an error
    ends the process. Device and inode detect that the number has been reused for another file.
    """
    try:
        copy = os.dup(2)
    except OSError:
        return ""
    os.set_inheritable(copy, True)
    status = os.fstat(copy)
    return f"{copy}:{status.st_dev}:{status.st_ino}"


def prepended(name: str, *folders: Path) -> dict[str, str]:
    """Return a PATH-like variable with folders prepended."""
    return {name: os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get(name)])])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, then replace this process with the command."""
    args = parse(arguments)
    try:
        built = Environment(default_cache(), args.arch)
    except (BuildError, OSError) as error:
        sys.exit(f"cuda-emulator: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if not args.command:
        say("built; give a command after --")
        return
    os.environ.update(variables(args))
    os.environ.update(prepended("PATH", built.commands))
    os.environ.update(prepended("PYTHONPATH", built.package))
    os.environ.update(prepended("LD_LIBRARY_PATH", built.library.parent))
    os.environ["EMU_LIBRARY"] = os.environ["NVTX_INJECTION64_PATH"] = str(built.library)
    os.environ["EMU_STDERR"] = inherited_stderr()
    os.environ["PYTHONPYCACHEPREFIX"] = str(built.package.parent / "pycache")
    if any(re.match("python", Path(a).name) and b == "-m" for a, b in pairwise(args.command)):
        os.environ["PYTHONSAFEPATH"] = "1"  # else `python -m` imports from the current folder
    try:
        os.execvp(args.command[0], args.command)
    except OSError as error:
        say(f"{args.command[0]}: {error.strerror}")
        sys.exit(127)
