"""The command pyalexnet-eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyalexnet import data
from pyalexnet.commands import common
from pyalexnet.commands.arguments import Parser, whole
from pyalexnet.errors import UserError
from pyalexnet.evaluation import views
from pyalexnet.evaluation.evaluate import Evaluation, evaluate
from pyalexnet.evaluation.writers import class_table
from pyalexnet.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return common.run(parser(), _evaluate, arguments)


def parser() -> Parser:
    """The command's parser."""
    parser = Parser(
        "pyalexnet-eval",
        "CHECKPOINT ... [OPTION ...]",
        "Evaluates trained nets: loss, top-1 and top-5 error on validation images.",
        {
            "runs/photos/best.safetensors --per-class": "one net, by class",
            "runs/*/best.safetensors --views ten": "several, averaged",
        },
    )
    add = parser.add_argument_group("what").add_argument
    add(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="written by pyalexnet-train; probabilities of several are averaged",
    )
    add("--data", help=f"{data.describe_sources()} (default: what the net was trained on)")
    common.add_views(parser.add_argument_group("crops"))

    add = parser.add_argument_group("output").add_argument
    add("--per-class", action="store_true", help="print a table of the classes, worst first")
    add("--json", action="store_true", help="print the results as one JSON value")
    add(
        "--predictions",
        type=Path,
        metavar="FILE.csv",
        help="write each image's five most probable classes",
    )
    add(
        "--submission",
        type=Path,
        metavar="FILE.txt",
        help="write ImageNet predictions in ILSVRC's format",
    )

    group = parser.add_argument_group("machine")
    group.add_argument(
        "-b",
        "--batch-size",
        type=whole,
        default=128,
        metavar="N",
        help="images per forward pass (default: 128)",
    )
    common.add_device(group)
    common.add_reading(group)
    parser.add_others(quiet="show no progress", verbose="print data, device and views as well")
    parser.set_defaults(device="auto")
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
        device=options["device"],
        batch_size=options["batch_size"],
        workers=options["workers"],
        threads=options["threads"],
        skip_bad_images=options["skip_bad_images"],
        progress=not options["quiet"],
    )
    if options["json"]:
        common.print_json(_values(result, per_class=options["per_class"]))
        return 0
    if options["verbose"]:
        print(f"data    {printable(result.data)}, {len(result.classes)} classes")
        print(f"device  {result.device}")
        for path, crops, _ in result.members:
            print(f"views   {views.in_words(crops)}: {printable(str(path))}")
    if options["per_class"]:
        print(class_table(result.by_class, result.classes))
    count, several = len(result.classes), len(result.members) > 1
    for path, crops, metrics in result.members:
        head = f"{printable(str(path))}: " if several else ""
        by = "" if options["views"] == "centre" else views.in_words(crops)
        print(f"{head}{common.in_words(metrics, count, by, result.skipped)}")
    if several:
        print(f"average of {len(result.members)}: {common.in_words(result.metrics, count)}")
    return 0


def _values(result: Evaluation, *, per_class: bool) -> dict[str, Any]:
    """The results as JSON values."""
    count = len(result.classes)
    found = {"data": result.data} | common.values(result.metrics, count)
    found |= {"skipped": result.skipped, "device": result.device}
    found["checkpoints"] = [
        {"path": str(path), "views": len(crops)} | common.values(metrics, count)
        for path, crops, metrics in result.members
    ]
    if per_class:
        found["classes"] = []
        for row in result.by_class:
            other = row.mistaken_for
            values = {"label": row.label, "class": result.classes[row.label]}
            values |= {"images": row.images, "top1_error": row.top1_error}
            if "top5_error" in found:
                values["top5_error"] = row.top5_error
            mistaken = None if other is None else result.classes[other]
            values |= {"mistaken_for": mistaken, "mistaken": row.mistaken}
            found["classes"].append(values)
    return found
