"""The command pyalexnet-train."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyalexnet import data
from pyalexnet.commands import common
from pyalexnet.commands.arguments import Parser, one_of, real, whole
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.errors import UserError
from pyalexnet.evaluation.evaluate import Evaluation, evaluate
from pyalexnet.files import expanded, same
from pyalexnet.nn import zoo
from pyalexnet.parallel.communicator import join, launched
from pyalexnet.text import printable
from pyalexnet.training import recipes, trainer
from pyalexnet.training.options import Options
from pyalexnet.training.run_folder import AUTO, BEST, LAST, RECIPE, checkpoint_path

#: The options that are not of a run itself, and what `_train` does without them.
_OWN = {"test_only": False, "summary": False, "json": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return common.run(parser(), _run, arguments)


def parser() -> Parser:
    """The command's parser; options that are not given are absent from its result.

    Those then have the recipe's, the checkpoint's or the default value.
    """
    parser = _Parser(
        "pyalexnet-train",
        "[OPTION ...]",
        "Trains an AlexNet. mpirun -n R pyalexnet-train ... trains with R processes.",
        {
            "": "a small AlexNet on drawn shapes",
            "--data photos": "your own images, a folder for each class",
        },
        argument_default=argparse.SUPPRESS,
    )
    switch = argparse.BooleanOptionalAction

    add = parser.add_argument_group("data and net").add_argument
    add("--data", help=f"{data.describe_sources()} (default: shapes)")
    add(
        "--image-size",
        type=whole,
        metavar="PIXELS",
        help="resize images to so many rows and columns",
    )
    add(
        "--val-share",
        type=real,
        metavar="SHARE",
        help="validate on it if there is no val/ (default: 0.1)",
    )
    add("--net", help=f"{', '.join(zoo.NAMES)}, or a .json file")
    add(
        "--recipe",
        metavar="NAME",
        help=f"options from a recipe: {', '.join(recipes.names())}, or FILE.toml[:NAME], such as a "
        "run's run.toml",
    )

    add = parser.add_argument_group("training").add_argument
    add(
        "--epochs",
        type=whole,
        metavar="N",
        help="passes over the images (default: by the set's size)",
    )
    add(
        "-b",
        "--batch-size",
        type=whole,
        metavar="N",
        help="images per step (default: 16 to 128, by the set's size)",
    )
    add(
        "--lr", type=real, metavar="LR", help="learning rate of the weights (default: by the batch)"
    )
    add("--bias-lr", type=real, metavar="LR", help="that of the biases (default: twice --lr)")
    add("--schedule", help="of --lr: constant, step, cosine, plateau:N or epochs:A,B,...")
    add("--warmup", type=real, metavar="EPOCHS", help="in which --lr rises from 0 (default: 0)")
    add("--momentum", type=real, metavar="M", help="momentum of SGD (default: 0.9)")
    add(
        "--wd",
        "--weight-decay",
        dest="weight_decay",
        type=real,
        metavar="WD",
        help="weight decay (default: 0.0005)",
    )
    add("--dropout", type=real, metavar="P", help="of all dropout layers (default: the net's)")
    add("--seed", type=whole, metavar="N", help="decides all random numbers (default: 0)")

    add = parser.add_argument_group("augmentation").add_argument
    add("--crop-pad", type=whole, metavar="PIXELS", help="zeros around an image before cropping")
    add("--mirror", action=switch, help="mirror half of the images (default: all but digits)")
    add(
        "--shared-crop",
        type=whole,
        metavar="N",
        help="N images in a row share a crop (default: 1)",
    )
    add(
        "--colour-noise",
        type=real,
        metavar="STD",
        help="shift colours (paper: 0.1; default: by the set)",
    )
    add(
        "--colour-variant",
        type=one_of(*COLOUR_VARIANTS),
        metavar="NAME",
        help=f"{' or '.join(COLOUR_VARIANTS)}: the shifts' scale (default: paper)",
    )

    add = parser.add_argument_group("run").add_argument
    add("--output", metavar="DIR", help="folder to write to (default: runs/<data>-<net>)")
    add(
        "--resume",
        nargs="?",
        const=True,
        metavar="PATH",
        help="go on with the run in --output, or from a checkpoint or run PATH; auto: begin one if "
        "there is none",
    )
    add(
        "--checkpoint-minutes",
        type=real,
        metavar="N",
        help="save this often, too (default: 30; 0: never)",
    )
    add("--overwrite", action="store_true", help="replace the run in the output folder")
    add(
        "--test-only",
        action="store_true",
        help="evaluate the run's checkpoints, or --resume PATH",
    )
    add("--summary", action="store_true", help="print shapes, parameters, cost and memory")
    add("--json", action="store_true", help="print --summary or --test-only as JSON")
    add("--weight-stats", action="store_true", help="print mean |w| and |Δw| after each epoch")

    group = parser.add_argument_group("machine")
    common.add_device(group)
    common.add_reading(group)

    parser.add_others(quiet="print errors only", verbose="print all options, as decided, too")
    return parser


class _Parser(Parser):
    """Prints messages in the first process only."""

    def _print_message(self, message: str, file: Any = None) -> None:
        place = launched()
        if place is None or place.rank == 0:
            super()._print_message(message, file)


def _run(options: dict[str, Any]) -> int:
    test_only, summary, as_json = (options.pop(name, no) for name, no in _OWN.items())
    if options.get("resume") and options.get("overwrite"):
        raise UserError("--resume and --overwrite are both given; expected one of them")
    if summary and test_only:
        raise UserError("--summary and --test-only are both given; expected one of them")
    if as_json and not (summary or test_only):
        raise UserError("--json is given alone; expected --summary or --test-only with it")
    options = _with_recipe(options)
    if summary:
        return _summary(options, as_json)
    if test_only:
        return _test(options, as_json)
    return common.INTERRUPTED if trainer.train(**options).interrupted else 0


def _summary(options: dict[str, Any], as_json: bool) -> int:
    model, optimiser = trainer.build(**_of_net(options))
    if as_json:
        common.print_json(model.summary_values(optimiser))
    else:
        print(model.summary(optimiser))
    return 0


def _test(options: dict[str, Any], as_json: bool) -> int:
    with join() as job:
        if job.size > 1:
            job.fail(UserError(f"test-only is given to {job.size} processes; expected 1"))
    resume, options = options.get("resume", False), _of_net(options)
    given = Options.of(options)
    given.check()
    results = []
    for path in _checkpoints(options, resume):
        result = evaluate(
            [path],
            options.get("data"),
            device=given.device,
            batch_size=given.batch_size or 128,
            workers=given.workers,
            threads=given.threads,
            skip_bad_images=given.skip_bad_images,
            progress=not given.quiet,
        )
        if not as_json:
            words = common.in_words(result.metrics, len(result.classes), skipped=result.skipped)
            print(f"{printable(str(path))}: {words}")
        results.append(_values(path, result))
    if as_json:
        common.print_json(results)
    return 0


def _checkpoints(options: dict[str, Any], resume: bool | str) -> list[Path]:
    """Those to evaluate: the one to resume, if it is named, else the last and the best."""
    if isinstance(resume, str) and resume != AUTO:
        path = checkpoint_path(options, resume)
        return [] if path is None else [path]
    folder = Options.of(options).folder()
    found = [path for path in (folder / LAST, folder / BEST) if path.exists()]
    if not found:
        raise UserError(f"output folder {folder}: no checkpoint; expected {LAST} or {BEST}")
    return found


def _values(path: Path, result: Evaluation) -> dict[str, Any]:
    metrics = common.values(result.metrics, len(result.classes))
    return {"checkpoint": str(path)} | metrics | {"skipped": result.skipped}


def _with_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options given and, for those that are not, the recipe's, if any."""
    if "recipe" not in options:
        return options
    where = options["recipe"]
    given = {name: value for name, value in options.items() if name != "recipe"}
    found = recipes.load(where) | given
    written = Options.of(_of_net(found)).folder() / RECIPE
    for path in (where, where.rpartition(":")[0]):  # as in run.toml:NAME
        if path and same(expanded(path), written):
            raise UserError(f"recipe {path}: is what this run would write; expected a copy of it")
    return found


def _of_net(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those of the run's folder only."""
    return {k: v for k, v in options.items() if k not in ("resume", "overwrite")}
