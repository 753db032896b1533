"""What the commands share: exit statuses, error reporting, and common options."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import math
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyalexnet.commands.arguments import ERROR, Parser, one_of, whole
from pyalexnet.errors import UNFORESEEN, MachineError, UserError, described
from pyalexnet.evaluation.views import KINDS, STRIDE
from pyalexnet.streams import discard, open_standard
from pyalexnet.text import printable

if TYPE_CHECKING:  # prepare's processes import this module, too, and need no model
    from pyalexnet.model import Metrics

__all__ = ["ERROR", "INTERRUPTED"]

FAULT, INTERRUPTED, PIPE_CLOSED = 1, 130, 141  # exit statuses; as a shell's for SIGINT, SIGPIPE
TRACEBACK = "PYALEXNET_TRACEBACK"  #: environment variable: print tracebacks of errors, too


def run(
    parser: Parser,
    command: Callable[[dict[str, Any]], int],
    arguments: Sequence[str] | None,
) -> int:
    """Parses the arguments, runs a command and returns its exit status.

    An error is one line, not a traceback, unless the environment's PYALEXNET_TRACEBACK is 1: status
    2 for a user's mistake, 1 for a fault of the machine. If the reader of standard output has gone,
    as in ``pyalexnet-predict … | head``, the command ends without a word.
    """
    open_standard()
    try:
        status = command(parser.options(arguments))
        sys.stdout.flush()
        return status
    except UserError as error:
        return _fail(parser, str(error), FAULT if isinstance(error, MachineError) else ERROR)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except UNFORESEEN as error:
        if not (isinstance(error, OSError) and _is_of_output(error)):
            return _fail(parser, f"{described(error)}; {TRACEBACK}=1 shows where", FAULT)
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        return _fail(parser, f"standard output cannot be written: {error.strerror}", FAULT)


def _fail(parser: Parser, message: str, status: int) -> int:
    """Prints the error that is being handled; returns the exit status."""
    if os.environ.get(TRACEBACK) == "1":
        traceback.print_exc()
    with contextlib.suppress(OSError):
        parser._print_message(f"{_error_line(parser.prog, message)}\n", sys.stderr)
    return status


def complain(program: str, error: UserError) -> None:
    """Prints an error after which a command goes on, as `run` prints one that ends it."""
    with contextlib.suppress(OSError):
        print(_error_line(program, str(error)), file=sys.stderr, flush=True)


def _error_line(program: str, message: str) -> str:
    lines = message.split("\n  ")  # of our own; a line break in a name is escaped
    return f"{program}: error: " + "\n  ".join(map(printable, lines))


def _is_of_output(error: OSError) -> bool:
    """Whether standard output, and no other file or pipe, has raised this."""
    if error.filename is not None:
        return False
    if error.errno == errno.ENOSPC:  # files of ours name themselves, see files.naming
        return True
    try:
        sys.stdout.flush()  # what could not be written is still there
    except OSError:
        return True
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(sys.stdout, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def print_json(value: Any) -> None:
    """Prints one JSON value; a number that is not finite is null."""
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def add_device(group: argparse._ActionsContainer) -> None:
    """Adds --device and --threads."""
    add = group.add_argument
    add(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, …, or auto: a GPU if one is usable (default); two, as in "
        "cuda:0,cuda:1 or cpu,cpu: the paper's two towers",
    )
    add(
        "--threads",
        type=whole,
        metavar="N",
        help="threads of the CPU's kernels (default: all cores)",
    )


def add_reading(group: argparse._ActionsContainer) -> None:
    """Adds --workers and --skip-bad-images."""
    add = group.add_argument
    add(
        "-j",
        "--workers",
        type=whole,
        metavar="N",
        help="processes that read ahead (default: one a core)",
    )
    add(
        "--skip-bad-images",
        action="store_true",
        help="leave out and count unreadable images",
    )


def add_views(group: argparse._ActionsContainer) -> None:
    """Adds --views and --dense-stride."""
    add = group.add_argument
    add(
        "--views",
        metavar="KIND",
        type=one_of(*KINDS),
        default="centre",
        help="average over crops: centre (default); ten: corners and centre, also mirrored; "
        "dense: a grid, also mirrored",
    )
    add(
        "--dense-stride",
        type=whole,
        metavar="PIXELS",
        help=f"largest distance in the dense grid (default: {STRIDE})",
    )


def views(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `evaluation.evaluate` and `evaluation.predict` that choose views."""
    kind, stride = options["views"], options["dense_stride"]
    if stride is not None and kind != "dense":
        raise UserError(f"dense-stride is {stride}, but views is {kind}; expected --views dense")
    return {"views": kind, "dense_stride": STRIDE if stride is None else stride}


def in_words(metrics: Metrics, classes: int, by: str = "", skipped: int = 0) -> str:
    """A line of results: "loss 1.2345, top-1 error 12.34 %, … on 12 images by 10 views"."""
    found = values(metrics, classes)
    top5 = f", top-5 error {100 * found['top5_error']:.2f} %" if "top5_error" in found else ""
    return (
        f"loss {metrics.loss:.4f}, top-1 error {100 * metrics.top1_error:.2f} %{top5} "
        f"on {metrics.images:,} images"
        + f" by {by}" * bool(by)
        + f", {skipped:,} skipped" * bool(skipped)
    )


def values(metrics: Metrics, classes: int) -> dict[str, Any]:
    """Results as JSON values, without a top-5 error where it says nothing."""
    from pyalexnet.nn.layers.loss import has_top5

    found = metrics._asdict()
    if not has_top5(classes):
        del found["top5_error"]
    return found
