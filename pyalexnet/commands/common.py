"""What the commands share: exit statuses, error reporting, and common options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyalexnet.errors import UserError
from pyalexnet.evaluation.views import KINDS, STRIDE

if TYPE_CHECKING:  # prepare's processes import this module, too, and need no model
    from pyalexnet.model import Metrics

ERROR, INTERRUPTED = 2, 130  # exit statuses


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[dict[str, Any]], int],
    options: dict[str, Any],
) -> int:
    """Runs a command and returns its exit status; a UserError is one line, not a traceback."""
    try:
        return command(options)
    except UserError as error:
        parser._print_message(f"{parser.prog}: error: {error}\n", sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


def add_device(group: argparse._ActionsContainer) -> None:
    """Adds --devices and --threads."""
    add = group.add_argument
    add(
        "--devices",
        help="host, cuda:0, …, or auto: a GPU if one is usable (default: auto); two, as in "
        "cuda:0,cuda:1 or host,host, split the net into the paper's two towers; under mpirun, "
        "those of a machine's first process: each further process takes the next ones",
    )
    add(
        "--threads",
        type=int,
        help="threads of the CPU kernels (default: all cores, divided among processes)",
    )


def add_reading(group: argparse._ActionsContainer) -> None:
    """Adds --workers and --skip-bad-images."""
    add = group.add_argument
    add(
        "--workers",
        type=int,
        help="processes that load images ahead (threads for images in memory); 0: load in the "
        "main process (default: one per core)",
    )
    add(
        "--skip-bad-images",
        action="store_true",
        help="skip and count unreadable images instead of stopping",
    )


def add_views(parser: argparse.ArgumentParser) -> None:
    """Adds --views and --dense-stride."""
    add = parser.add_argument
    add(
        "--views",
        choices=KINDS,
        default="centre",
        help="crops of an image whose probabilities are averaged: the centre; ten: the paper's "
        "corners and centre, and their mirror images; dense: a grid and its mirror image "
        "(default: centre)",
    )
    add(
        "--dense-stride",
        type=int,
        metavar="PIXELS",
        help=f"largest distance between positions of the dense grid (default: {STRIDE})",
    )


def views(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `evaluation.evaluate` and `evaluation.predict` that choose views."""
    kind, stride = options["views"], options["dense_stride"]
    if stride is not None and kind != "dense":
        raise UserError(f"dense-stride is {stride}, but views is {kind}; expected --views dense")
    return {"kind": kind, "stride": STRIDE if stride is None else stride}


def in_words(metrics: Metrics, by: str = "", skipped: int = 0) -> str:
    """A line of results: "loss 1.2345, top-1 error 12.34 %, … on 12 images by 10 views"."""
    return (
        f"loss {metrics.loss:.4f}, top-1 error {100 * metrics.top1_error:.2f} %, "
        f"top-5 error {100 * metrics.top5_error:.2f} % on {metrics.images:,} images"
        + f" by {by}" * bool(by)
        + f", {skipped:,} skipped" * bool(skipped)
    )
