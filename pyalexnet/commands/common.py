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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyalexnet.commands.arguments import ERROR, Parser, one_of, whole
from pyalexnet.errors import UserError
from pyalexnet.evaluation.views import KINDS, STRIDE

if TYPE_CHECKING:  # prepare's processes import this module, too, and need no model
    from pyalexnet.model import Metrics

__all__ = ["ERROR", "INTERRUPTED"]

INTERRUPTED, PIPE_CLOSED = 130, 141  # exit statuses: as a shell's for SIGINT and SIGPIPE


def run(
    parser: Parser,
    command: Callable[[dict[str, Any]], int],
    arguments: Sequence[str] | None,
) -> int:
    """Parses the arguments, runs a command and returns its exit status.

    A UserError is one line, not a traceback. If the reader of standard output has gone, as in
    ``pyalexnet-predict … | head``, the command ends without a word.
    """
    try:
        status = command(parser.options(arguments))
        sys.stdout.flush()
        return status
    except UserError as error:
        parser._print_message(f"{parser.prog}: error: {error}\n", sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if not _is_of_output(error):
            raise
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        message = f"standard output cannot be written: {error.strerror}"
        parser._print_message(f"{parser.prog}: error: {message}\n", sys.stderr)
        return ERROR


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


def _discard_output() -> None:
    """Has the interpreter's last flush succeed."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


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
