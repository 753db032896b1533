"""The command pyalexnet-train."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from pyalexnet import data
from pyalexnet.commands import common
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.errors import UserError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.nn import zoo
from pyalexnet.parallel.communicator import join, launched
from pyalexnet.training import recipes, trainer
from pyalexnet.training.options import Options
from pyalexnet.training.run_folder import BEST, LAST


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    command = parser()
    options = vars(command.parse_args(arguments))
    evaluate_only = options.pop("evaluate_only", False)
    if options.pop("summary", False):
        return common.run(command, _summary, options)
    return common.run(command, _evaluate if evaluate_only else _train, options)


def parser() -> argparse.ArgumentParser:
    """The command's parser; options that are not given are absent from its result.

    Those then have the recipe's, the checkpoint's or the default value.
    """
    parser = _Parser(
        "pyalexnet-train",
        description="Trains an AlexNet; without arguments, a small one on generated shapes. "
        "mpirun -n R pyalexnet-train … trains with R processes or GPUs.",
        argument_default=argparse.SUPPRESS,
    )
    switch = argparse.BooleanOptionalAction

    add = parser.add_argument_group("net and data").add_argument
    add(
        "--recipe",
        metavar="NAME",
        help=f"start from a recipe: {', '.join(recipes.names())} "
        "(see pyalexnet/training/recipes.toml), or FILE.toml[:NAME]; command-line options "
        "override it",
    )
    add(
        "--net",
        help=f"{', '.join(zoo.NAMES)} or a .json file (default: alexnet for ImageNet, else small)",
    )
    add("--data", help=f"{data.describe_sources()} (default: shapes)")
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="rows and columns to which images are resized (default for a folder: 64 for the small "
        "net, else 256; for others: their own)",
    )
    add(
        "--val-share",
        type=float,
        metavar="SHARE",
        help="share of each class held out for validation, by file name, where a folder has no "
        "val/ (default: 0.1)",
    )
    add("--seed", type=int, help="random seed (default: 0)")

    add = parser.add_argument_group("training").add_argument
    add("--batch-size", type=int, help="images per step (default: 128)")
    add("--epochs", type=int, help="number of epochs (default: 7 for the small net, else 90)")
    add(
        "--lr",
        type=float,
        help="learning rate of the weights (default: 0.02 for the small net, else 0.01)",
    )
    add("--bias-lr", type=float, help="learning rate of the biases (default: twice --lr)")
    add("--momentum", type=float, help="momentum of SGD (default: 0.9)")
    add("--weight-decay", type=float, help="weight decay (default: 0.0005)")
    add(
        "--schedule",
        help="constant; plateau:N: lr ÷10 after N epochs without a lower validation error; "
        "epochs:A,B,…: lr ÷10 after these epochs (default: epochs:6 for the small net, else "
        "plateau:5)",
    )
    add(
        "--dropout",
        type=float,
        metavar="P",
        help="probability of all dropout layers (default: the net's)",
    )
    add(
        "--crop-pad",
        type=int,
        metavar="PIXELS",
        help="zero padding before cropping (default: 1/16 of the input if images have the input's "
        "size, else 0)",
    )
    add("--mirror", action=switch, help="mirror half of the images (default: all but digits)")
    add(
        "--shared-crop",
        type=int,
        metavar="N",
        help="N consecutive images of a batch share one crop and mirroring (default: 1, as in the "
        "paper)",
    )
    add(
        "--colour-noise",
        type=float,
        metavar="STD",
        help="shift each image's colours along the training set's principal components by normal "
        "numbers with this standard deviation (paper: 0.1; default: 0)",
    )
    add(
        "--colour-variant",
        choices=COLOUR_VARIANTS,
        help="colour noise is scaled by eigenvalues of pixels in 0..1 (paper) or by their square "
        "roots (code: about twice as much on ImageNet) (default: paper)",
    )

    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--output", metavar="DIR", help="folder to write to (default: runs/<data>-<net>)")
    previous = run.add_mutually_exclusive_group()
    previous.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in the output folder; other options default to that run's",
    )
    previous.add_argument(
        "--overwrite", action="store_true", help="replace the run in the output folder"
    )
    add(
        "--evaluate-only",
        action="store_true",
        help="evaluate the checkpoints in the output folder; do not train",
    )
    add(
        "--summary",
        action="store_true",
        help="print the layers' shapes, parameters, cost and memory on each device; do not train",
    )
    common.add_device(run)
    common.add_reading(run)
    add("--progress", action=switch, help="show progress within epochs (default: yes)")
    add(
        "--weight-stats",
        action=switch,
        help="print mean |w| and |Δw| after each epoch (default: yes)",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """Prints messages in the first process only."""

    def _print_message(self, message: str, file: Any = None) -> None:
        place = launched()
        if place is None or place.rank == 0:
            super()._print_message(message, file)


def _train(options: dict[str, Any]) -> int:
    outcome = trainer.train(**_with_recipe(options))
    return common.INTERRUPTED if outcome.interrupted else 0


def _summary(options: dict[str, Any]) -> int:
    print(trainer.summary(**_of_net(_with_recipe(options))))
    return 0


def _evaluate(options: dict[str, Any]) -> int:
    with join() as job:
        if job.size > 1:
            job.fail(UserError(f"evaluate-only is given to {job.size} processes; expected 1"))
    options = _of_net(_with_recipe(options))
    given = Options(**options)
    given.check()
    folder = given.folder()
    found = [path for path in (folder / LAST, folder / BEST) if path.exists()]
    if not found:
        raise UserError(f"output folder {folder}: no checkpoint; expected {LAST} or {BEST}")
    for path in found:
        result = evaluate(
            [path],
            options.get("data"),
            device=given.devices,
            batch_size=given.batch_size,
            workers=given.workers,
            threads=given.threads,
            skip_bad=given.skip_bad_images,
            progress=given.progress,
        )
        print(f"{path}: {common.in_words(result.metrics, skipped=result.skipped)}")
    return 0


def _with_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options given and, for those that are not, the recipe's, if any."""
    if "recipe" not in options:
        return options
    given = {name: value for name, value in options.items() if name != "recipe"}
    return recipes.load(options["recipe"]) | given


def _of_net(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those of the run's folder only."""
    return {k: v for k, v in options.items() if k not in ("resume", "overwrite")}
