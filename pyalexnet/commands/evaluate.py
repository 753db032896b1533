"""The command pyalexnet-eval."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyalexnet import data
from pyalexnet.commands import common
from pyalexnet.errors import UserError
from pyalexnet.evaluation import views
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.writers import class_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    command = parser()
    return common.run(command, _evaluate, vars(command.parse_intermixed_args(arguments)))


def parser() -> argparse.ArgumentParser:
    """The command's parser."""
    parser = argparse.ArgumentParser(
        "pyalexnet-eval",
        description="Evaluates trained nets: loss, top-1 and top-5 error on validation images.",
    )
    add = parser.add_argument
    add(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="checkpoint",
        help="a *.safetensors file written by pyalexnet-train; the probabilities of several are "
        "averaged",
    )
    add("--data", help=f"{data.describe_sources()} (default: the data that the net was trained on)")
    common.add_views(parser)
    add("--batch-size", type=int, default=128, help="images per forward pass (default: 128)")
    add(
        "--per-class",
        action="store_true",
        help="print a table of the classes, worst first, each with the class most often predicted "
        "instead",
    )
    add(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="write each image's five most probable classes, with probabilities",
    )
    add(
        "--submission",
        type=Path,
        metavar="FILE.txt",
        help="write ImageNet predictions in ILSVRC's format: five class numbers per image",
    )
    common.add_reading(parser)
    common.add_device(parser)
    parser.set_defaults(devices="auto")
    return parser


def _evaluate(options: dict[str, Any]) -> int:
    if options["batch_size"] < 1:
        raise UserError(f"batch-size is {options['batch_size']}; expected at least 1")
    result = evaluate(
        options["checkpoints"],
        options["data"],
        **common.views(options),
        predictions=options["predictions"],
        submission=options["submission"],
        device=options["devices"],
        batch_size=options["batch_size"],
        workers=options["workers"],
        threads=options["threads"],
        skip_bad=options["skip_bad_images"],
        progress=True,
    )
    if options["per_class"]:
        print(class_table(result.by_class, result.classes))
    several = len(result.members) > 1
    for path, crops, metrics in result.members:
        head = f"{path}: " if several else ""
        by = "" if options["views"] == "centre" else views.in_words(crops)
        print(f"{head}{common.in_words(metrics, by, result.skipped)}")
    if several:
        print(f"average of {len(result.members)}: {common.in_words(result.metrics)}")
    return 0
