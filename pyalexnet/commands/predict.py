"""The command pyalexnet-predict."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pyalexnet.commands.arguments import Parser, whole
from pyalexnet.commands.common import (
    FAULT,
    add_device,
    add_views,
    complain,
    print_json,
    run,
    views,
)
from pyalexnet.errors import DataError, UserError
from pyalexnet.evaluation import figure
from pyalexnet.evaluation.predict import Prediction, image_files, predict
from pyalexnet.files import check_targets, naming, replacing
from pyalexnet.nn.layers.loss import TOP
from pyalexnet.text import cell, printable

_CHECKPOINT = ".safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run(parser(), _predict, arguments)


def parser() -> Parser:
    """The command's parser."""
    parser = Parser(
        "pyalexnet-predict",
        "CHECKPOINT IMAGE ... [OPTION ...]",
        "Classifies images: prints a line for each.",
        {
            "runs/photos/best.safetensors boot.jpg": "one image",
            "runs/photos/best.safetensors photos/val --csv": "a folder",
        },
    )
    add = parser.add_argument_group("what").add_argument
    add("checkpoint", type=Path, metavar="CHECKPOINT", help="written by pyalexnet-train")
    add(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help=f"file, or folder of files in any depth; *{_CHECKPOINT} files are further "
        "checkpoints, and probabilities are averaged",
    )
    add_views(parser.add_argument_group("crops"))

    group = parser.add_argument_group("output")
    group.add_argument(
        "--topk",
        type=whole,
        metavar="N",
        help="the N most probable classes (default: 1; with --json or --csv: 5)",
    )
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON value")
    form.add_argument("--csv", action="store_true", help="print a table, with a line of names")
    group.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw the images, with their classes as bars, into a .png or .pdf file",
    )

    add_device(parser.add_argument_group("machine"))
    parser.add_others(quiet="print nothing: for --figure alone")
    parser.set_defaults(device="auto")
    return parser


def _predict(options: dict[str, Any]) -> int:
    files: list[Path] = options["images"]
    images = [path for path in files if path.suffix != _CHECKPOINT]
    checkpoints = [options["checkpoint"], *(path for path in files if path.suffix == _CHECKPOINT)]
    if not images:
        raise UserError(f"images is empty; expected image files beside *{_CHECKPOINT}")
    images = image_files(images)
    drawing: Path | None = options["figure"]
    count = options["topk"]
    if count is None:
        count = TOP if options["json"] or options["csv"] else 1
    if count < 1:
        raise UserError(f"topk is {count}; expected at least 1")
    check_targets({"figure": drawing}, [*checkpoints, *images])
    bad: list[DataError] = []

    def name_bad(error: DataError) -> None:
        bad.append(error)
        complain("pyalexnet-predict", error)

    with ExitStack() as stack:
        if drawing is not None:
            figure.check(drawing, len(images))
            file = stack.enter_context(replacing(drawing))
        drawn: list[Prediction] = []
        predictions = predict(
            checkpoints,
            images,
            topk=max(count, TOP) if drawing else count,
            **views(options),
            device=options["device"],
            threads=options["threads"],
            on_bad=name_bad,
        )
        if drawing is not None:
            predictions = _kept(predictions, drawn)
        _print(_cut(predictions, count), options)
        if len(bad) == len(images):
            raise DataError(f"images are {len(bad)}, none of which can be read; expected one")
        if drawing is not None:
            with naming(drawing):
                short = [one._replace(classes=one.classes[:TOP]) for one in drawn]
                figure.draw(file, drawing.suffix.lower(), short)
    return FAULT if bad else 0


def _kept(predictions: Iterable[Prediction], kept: list[Prediction]) -> Iterator[Prediction]:
    for prediction in predictions:
        kept.append(prediction)
        yield prediction


def _cut(predictions: Iterable[Prediction], count: int) -> Iterator[Prediction]:
    for prediction in predictions:
        yield prediction._replace(classes=prediction.classes[:count])


def _print(predictions: Iterator[Prediction], options: dict[str, Any]) -> None:
    if options["quiet"]:
        for _ in predictions:
            pass
    elif options["json"]:
        print_json([_values(prediction) for prediction in predictions])
    elif options["csv"]:
        _table(predictions)
    else:
        for prediction in predictions:
            print(_line(prediction))


def _line(prediction: Prediction) -> str:
    """ "boot.jpg: Ankle boot 93.2 %; Sneaker 4.1 %"."""
    classes = (f"{printable(name)} {100 * share:.1f} %" for name, share in prediction.classes)
    return f"{printable(str(prediction.path))}: {'; '.join(classes)}"


def _values(prediction: Prediction) -> dict[str, Any]:
    classes = [{"class": name, "probability": share} for name, share in prediction.classes]
    return {"image": str(prediction.path), "truth": prediction.truth, "classes": classes}


def _table(predictions: Iterable[Prediction]) -> None:
    """Prints CSV: image, truth, class1, probability1, …"""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, prediction in enumerate(predictions):
        if not number:
            ranks = range(1, len(prediction.classes) + 1)
            names = [f"{what}{i}" for i in ranks for what in ("class", "probability")]
            writer.writerow(["image", "truth", *names])
        row = [cell(str(prediction.path)), cell(prediction.truth or "")]
        for name, share in prediction.classes:
            row += [cell(name), f"{share:.6g}"]
        writer.writerow(row)
