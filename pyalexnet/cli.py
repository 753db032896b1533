"""The commands' arguments: pyalexnet-train, pyalexnet-eval, pyalexnet-predict."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pyalexnet import nets
from pyalexnet.errors import UserError
from pyalexnet.model import Totals

_ERROR, _INTERRUPTED = 2, 130  # exit statuses
_DATA = "shapes (drawn), mnist:DIR, fashion-mnist:DIR, cifar10:DIR or folder:DIR"


def train(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-train."""
    parser = _train_parser()
    options = vars(parser.parse_args(arguments))
    evaluate_only = options.pop("evaluate_only", False)
    return _run(parser, _evaluate_run if evaluate_only else _train, options)


def evaluate(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-eval."""
    parser = argparse.ArgumentParser(
        "pyalexnet-eval",
        description="Measures a trained net: loss, top-1 and top-5 error on validation images.",
    )
    parser.add_argument("checkpoint", type=Path, help="a *.safetensors file of pyalexnet-train's")
    parser.add_argument("--data", help=f"{_DATA}; default: what the net was trained on")
    parser.add_argument("--batch", type=int, default=128, help="images at once (default: 128)")
    _add_reading(parser)
    _add_device(parser)
    parser.set_defaults(skip_bad_images=False, workers=2, devices="auto", threads=None)
    return _run(parser, _evaluate, vars(parser.parse_args(arguments)))


def predict(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-predict."""
    parser = argparse.ArgumentParser(
        "pyalexnet-predict",
        description="Names what images show: the five likeliest classes, with probabilities.",
    )
    parser.add_argument("checkpoint", type=Path, help="a *.safetensors file of pyalexnet-train's")
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help="JPEG or PNG file")
    _add_device(parser)
    parser.set_defaults(devices="auto", threads=None)
    return _run(parser, _predict, vars(parser.parse_args(arguments)))


def _run(
    parser: argparse.ArgumentParser,
    command: Callable[[dict[str, Any]], int],
    options: dict[str, Any],
) -> int:
    """Runs a command; what a user can get wrong ends it with one line instead of a traceback."""
    try:
        return command(options)
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _train(options: dict[str, Any]) -> int:
    from pyalexnet.train import train as run

    return _INTERRUPTED if run(**options).interrupted else 0


def _evaluate_run(options: dict[str, Any]) -> int:
    from pyalexnet.evaluate import evaluate as run
    from pyalexnet.options import Options
    from pyalexnet.train import BEST, LAST

    options = {k: v for k, v in options.items() if k not in ("resume", "overwrite")}
    asked = Options(**options)
    asked.check()
    found = [path for path in (asked.folder() / LAST, asked.folder() / BEST) if path.exists()]
    if not found:
        raise UserError(f"output folder {asked.folder()}: has no checkpoint to evaluate")
    for path in found:
        totals = run(
            path,
            options.get("data"),
            device=asked.devices,
            batch=asked.batch,
            workers=asked.workers,
            threads=asked.threads,
            skip_bad=asked.skip_bad_images,
        )
        print(f"{path}: {_in_words(totals)}")
    return 0


def _evaluate(options: dict[str, Any]) -> int:
    from pyalexnet.evaluate import evaluate as run

    if options["batch"] < 1:
        raise UserError(f"batch is {options['batch']}; expected at least 1")
    totals = run(
        options["checkpoint"],
        options["data"],
        device=options["devices"],
        batch=options["batch"],
        workers=options["workers"],
        threads=options["threads"],
        skip_bad=options["skip_bad_images"],
    )
    print(_in_words(totals))
    return 0


def _predict(options: dict[str, Any]) -> int:
    from pyalexnet.predict import predict as run

    for path, classes in run(
        options["checkpoint"],
        options["images"],
        device=options["devices"],
        threads=options["threads"],
    ):
        print(path)
        for name, probability in classes:
            print(f"  {100 * probability:5.1f} %  {name}")
    return 0


def _in_words(totals: Totals) -> str:
    return (
        f"loss {totals.loss:.4f}, top-1 error {100 * totals.top1:.2f} %, "
        f"top-5 error {100 * totals.top5:.2f} % on {totals.images:,} images"
    )


def _train_parser() -> argparse.ArgumentParser:
    # Options that are not given stay out of the result, so that a checkpoint's can hold.
    parser = argparse.ArgumentParser(
        "pyalexnet-train",
        description="Trains an AlexNet; without arguments, a small one on drawn shapes.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument_group("what").add_argument
    add("--net", help=f"{', '.join(nets.NAMES)} or a .json file (default: small)")
    add("--data", help=f"{_DATA} (default: shapes)")
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="rows and columns that a folder's images are brought to (default: 64 for the small "
        "net, else 256)",
    )
    add("--seed", type=int, help="of all that is random (default: 0)")

    add = parser.add_argument_group("how").add_argument
    add("--batch", type=int, help="images a step (default: 128)")
    add("--epochs", type=int, help="(default: 7 for the small net, else 90)")
    add("--rate", type=float, help="of the weights (default: 0.02 for the small net, else 0.01)")
    add("--bias-rate", type=float, help="that of the biases (default: twice the weights')")
    add("--momentum", type=float, help="(default: 0.9)")
    add("--decay", type=float, help="weight decay (default: 0.0005)")
    add(
        "--schedule",
        help="constant; stall:N, rate ÷10 when N epochs have not lowered the validation error; "
        "epochs:A,B,…, rate ÷10 after these (default: epochs:6 for the small net, else stall:5)",
    )
    add("--dropout", type=float, metavar="P", help="of all dropout layers (default: the net's)")
    add(
        "--crop-pad",
        type=int,
        metavar="PIXELS",
        help="how far crops reach over the border (default: 1/16 of a net's input as large as the "
        "images, else 0)",
    )
    switch = argparse.BooleanOptionalAction
    add("--mirror", action=switch, help="mirror half of the images (default: not digits)")

    run = parser.add_argument_group("run")
    add = run.add_argument
    add("--output", metavar="DIR", help="folder to write to (default: runs/<data>-<net>)")
    former = run.add_mutually_exclusive_group()
    former.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the output folder; other options default to that run's",
    )
    former.add_argument(
        "--overwrite", action="store_true", help="replace the run in the output folder"
    )
    add(
        "--evaluate-only",
        action="store_true",
        help="measure the checkpoints in the output folder; train nothing",
    )
    _add_device(run)
    _add_reading(run)
    add("--progress", action=switch, help="show how an epoch goes on (default: yes)")
    add("--magnitudes", action=switch, help="print mean |w| and |Δw| each epoch (default: yes)")
    return parser


def _add_device(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--devices", help="host, cuda:0, … or auto: a GPU if one can be used (default: auto)")
    add("--threads", type=int, help="threads of the host's kernels (default: all cores)")


def _add_reading(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add("--workers", type=int, help="threads that read images (default: 2)")
    add(
        "--skip-bad-images",
        action="store_true",
        help="leave out images that cannot be read, and count them, instead of stopping",
    )
