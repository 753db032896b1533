"""The command pyalexnet-predict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pyalexnet.commands.common import add_device, add_views, run, views
from pyalexnet.errors import UserError
from pyalexnet.evaluation import figure
from pyalexnet.evaluation.predict import predict
from pyalexnet.files import naming, opened_for_replacing

_CHECKPOINT = ".safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    command = parser()
    return run(command, _predict, vars(command.parse_intermixed_args(arguments)))


def parser() -> argparse.ArgumentParser:
    """The command's parser."""
    parser = argparse.ArgumentParser(
        "pyalexnet-predict",
        description="Classifies images: prints the five most probable classes of each.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="a *.safetensors file written by pyalexnet-train")
    add(
        "images",
        type=Path,
        nargs="+",
        metavar="image",
        help=f"JPEG or PNG file; *{_CHECKPOINT} files among them are further checkpoints, and "
        "probabilities are averaged over all",
    )
    add_views(parser)
    add(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw the images with their classes as bars into a .png or .pdf file; the true class "
        "is marked if an image's folder is named after it",
    )
    add_device(parser)
    parser.set_defaults(devices="auto")
    return parser


def _predict(options: dict[str, Any]) -> int:
    files: list[Path] = options["images"]
    images = [path for path in files if path.suffix != _CHECKPOINT]
    checkpoints = [options["checkpoint"], *(path for path in files if path.suffix == _CHECKPOINT)]
    if not images:
        raise UserError(f"images is empty; expected JPEG or PNG files beside *{_CHECKPOINT}")
    drawing: Path | None = options["figure"]
    with ExitStack() as stack:
        if drawing is not None:
            figure.check(drawing, len(images))
            file = stack.enter_context(opened_for_replacing(drawing, binary=True))
        predictions = []
        for prediction in predict(
            checkpoints,
            images,
            **views(options),
            device=options["devices"],
            threads=options["threads"],
        ):
            print(prediction.path)
            for name, probability in prediction.classes:
                print(f"  {100 * probability:5.1f} %  {name}")
            if drawing is not None:
                predictions.append(prediction)
        if drawing is not None:
            with naming(drawing):
                figure.draw(file, drawing.suffix.lower(), predictions)
    return 0
