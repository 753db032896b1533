"""The commands' arguments: pyalexnet-train, -eval, -predict and -prepare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pyalexnet import nets
from pyalexnet.data.augmentation import COLOUR_VARIANTS
from pyalexnet.errors import UserError
from pyalexnet.model import Totals
from pyalexnet.replicas import join, launched
from pyalexnet.views import KINDS as VIEWS
from pyalexnet.views import STRIDE

_ERROR, _INTERRUPTED = 2, 130  # exit statuses
_CHECKPOINT = ".safetensors"
_DATA = "shapes (drawn), mnist:DIR, fashion-mnist:DIR, cifar10:DIR, folder:DIR or imagenet:DIR"


def train(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-train."""
    parser = _train_parser()
    options = vars(parser.parse_args(arguments))
    evaluate_only = options.pop("evaluate_only", False)
    if options.pop("summary", False):
        return _run(parser, _summary, options)
    return _run(parser, _evaluate_run if evaluate_only else _train, options)


def _with_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the recipe asked for, if any, replaced by those given."""
    if "recipe" not in options:
        return options
    from pyalexnet import recipes

    given = {name: value for name, value in options.items() if name != "recipe"}
    return recipes.load(options["recipe"]) | given


def evaluate(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-eval."""
    parser = argparse.ArgumentParser(
        "pyalexnet-eval",
        description="Measures trained nets: loss, top-1 and top-5 error on validation images.",
    )
    add = parser.add_argument
    add(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="checkpoint",
        help="a *.safetensors file of pyalexnet-train's; probabilities of several are averaged",
    )
    add("--data", help=f"{_DATA}; default: what the net was trained on")
    _add_views(parser)
    add("--batch", type=int, default=128, help="images at once (default: 128)")
    add(
        "--per-class",
        action="store_true",
        help="print a table of the classes, the worst first, and what they are mistaken for",
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
        help="write ImageNet's predictions in ILSVRC's form: five class numbers an image",
    )
    _add_reading(parser)
    _add_device(parser)
    parser.set_defaults(skip_bad_images=False, workers=None, devices="auto", threads=None)
    return _run(parser, _evaluate, vars(parser.parse_intermixed_args(arguments)))


def predict(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-predict."""
    parser = argparse.ArgumentParser(
        "pyalexnet-predict",
        description="Names what images show: the five likeliest classes, with probabilities.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="a *.safetensors file of pyalexnet-train's")
    add(
        "images",
        type=Path,
        nargs="+",
        metavar="image",
        help=f"JPEG or PNG file; other *{_CHECKPOINT} files are further checkpoints, whose "
        "probabilities are averaged",
    )
    _add_views(parser)
    add(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw the images with their classes as bars, into a .png or .pdf file; the true class "
        "is marked where an image's folder is named after it",
    )
    _add_device(parser)
    parser.set_defaults(devices="auto", threads=None)
    return _run(parser, _predict, vars(parser.parse_intermixed_args(arguments)))


def prepare(arguments: Sequence[str] | None = None) -> int:
    """The command pyalexnet-prepare."""
    parser = argparse.ArgumentParser(
        "pyalexnet-prepare",
        description="Makes ImageNet (ILSVRC2012) ready for training: from its archives or folders "
        "to shards of 256×256 images, with mean image and colour statistics. Labels are the ranks "
        "of the sorted WNIDs, not ILSVRC2012_ID. A command that was interrupted goes on when it is "
        "given again.",
    )
    group = parser.add_argument_group("what")
    add = group.add_argument
    add(
        "--train",
        type=Path,
        metavar="PATH",
        help="ILSVRC2012_img_train.tar, or a folder of class folders",
    )
    add(
        "--val",
        type=Path,
        metavar="PATH",
        help="ILSVRC2012_img_val.tar, or a folder of images or of class folders",
    )
    add(
        "--devkit",
        type=Path,
        metavar="PATH",
        help="ILSVRC2012_devkit_t12.tar.gz, or its folder: "
        "class names, and labels of validation images that lie in no class folders; needs SciPy",
    )
    add("--output", type=Path, metavar="DIR", required=True, help="folder to write to")
    group = parser.add_argument_group("how")
    add = group.add_argument
    add(
        "--format",
        choices=("jpeg", "raw"),
        default="jpeg",
        help="jpeg: small, decoded while "
        "training; raw: 196,608 bytes an image, fast (default: jpeg)",
    )
    add("--size", type=int, default=256, metavar="PIXELS", help="rows and columns (default: 256)")
    add("--quality", type=int, default=90, help="of the JPEGs, 1 to 100 (default: 90)")
    add(
        "--shard-images",
        type=int,
        default=4096,
        metavar="N",
        help="images in a shard (default: 4096)",
    )
    add("--workers", type=int, help="processes (default: all cores)")
    add(
        "--strict",
        action="store_true",
        help="stop at what cannot be read, instead of leaving it out and reporting it",
    )
    add(
        "--verify",
        action="store_true",
        help="compare the checksums in the output folder and "
        "decode all its images; alone, or after preparing",
    )
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show how it goes on (default: yes)",
    )
    return _run(parser, _prepare, vars(parser.parse_args(arguments)))


def _run(
    parser: argparse.ArgumentParser,
    command: Callable[[dict[str, Any]], int],
    options: dict[str, Any],
) -> int:
    """Runs a command; what a user can get wrong ends it with one line instead of a traceback."""
    try:
        return command(options)
    except UserError as error:
        parser._print_message(f"{parser.prog}: error: {error}\n", sys.stderr)
        return _ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _train(options: dict[str, Any]) -> int:
    from pyalexnet.train import train as run

    return _INTERRUPTED if run(**_with_recipe(options)).interrupted else 0


def _summary(options: dict[str, Any]) -> int:
    from pyalexnet.train import summary as run

    print(run(**{k: v for k, v in options.items() if k not in ("resume", "overwrite")}))
    return 0


def _evaluate_run(options: dict[str, Any]) -> int:
    from pyalexnet.evaluate import evaluate as run
    from pyalexnet.options import Options
    from pyalexnet.run_folder import BEST, LAST

    with join() as job:
        if job.size > 1:
            job.fail(UserError("evaluate-only is for one process; start it without a launcher"))
    options = _with_recipe(options)
    options = {k: v for k, v in options.items() if k not in ("resume", "overwrite")}
    asked = Options(**options)
    asked.check()
    found = [path for path in (asked.folder() / LAST, asked.folder() / BEST) if path.exists()]
    if not found:
        raise UserError(f"output folder {asked.folder()}: has no checkpoint to evaluate")
    for path in found:
        result = run(
            [path],
            options.get("data"),
            device=asked.devices,
            batch=asked.batch,
            workers=asked.workers,
            threads=asked.threads,
            skip_bad=asked.skip_bad_images,
            progress=asked.progress,
        )
        print(f"{path}: {_in_words(result.totals)}{_skipped(result.skipped)}")
    return 0


def _evaluate(options: dict[str, Any]) -> int:
    from pyalexnet.evaluate import evaluate as run
    from pyalexnet.predictions import class_table
    from pyalexnet.views import in_words

    if options["batch"] < 1:
        raise UserError(f"batch is {options['batch']}; expected at least 1")
    result = run(
        options["checkpoints"],
        options["data"],
        **_views(options),
        predictions=options["predictions"],
        submission=options["submission"],
        device=options["devices"],
        batch=options["batch"],
        workers=options["workers"],
        threads=options["threads"],
        skip_bad=options["skip_bad_images"],
        progress=True,
    )
    if options["per_class"]:
        print(class_table(result.by_class, result.classes))
    several = len(result.members) > 1
    for path, views, totals in result.members:
        by = "" if options["views"] == "centre" else f" by {in_words(views)}"
        head = f"{path}: " if several else ""
        print(f"{head}{_in_words(totals)}{by}{_skipped(result.skipped)}")
    if several:
        print(f"average of {len(result.members)}: {_in_words(result.totals)}")
    return 0


def _predict(options: dict[str, Any]) -> int:
    from pyalexnet import figure
    from pyalexnet.predict import predict as run
    from pyalexnet.predictions import naming, replacing

    files: list[Path] = options["images"]
    images = [path for path in files if path.suffix != _CHECKPOINT]
    paths = [options["checkpoint"], *(path for path in files if path.suffix == _CHECKPOINT)]
    if not images:
        raise UserError(f"no images among the files given; expected some beside *{_CHECKPOINT}")
    drawing: Path | None = options["figure"]
    with ExitStack() as stack:
        if drawing is not None:
            figure.check(drawing, len(images))
            file = stack.enter_context(replacing(drawing, binary=True))
        predictions = []
        for prediction in run(
            paths,
            images,
            **_views(options),
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


def _views(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `evaluate` and `predict` that choose views."""
    stride = options["dense_stride"]
    if stride is not None and options["views"] != "dense":
        raise UserError("dense-stride is given, but not --views dense")
    return {"kind": options["views"], "stride": STRIDE if stride is None else stride}


def _prepare(options: dict[str, Any]) -> int:
    from pyalexnet import prepare as preparing
    from pyalexnet.data.shards import Encoding

    sources = {name: options.pop(name) for name in ("train", "val", "devkit")}
    format, size, quality = (options.pop(name) for name in ("format", "size", "quality"))
    check = options.pop("verify")
    if any(sources.values()) or not check:
        missing = [f"--{name}" for name in ("train", "val") if sources[name] is None]
        if missing:
            raise UserError(f"{' and '.join(missing)} missing; expected both, or only --verify")
        preparing.prepare(**sources, **options, encoding=Encoding(format, size, quality))
    if check:
        kept = {name: options[name] for name in ("output", "workers", "progress")}
        preparing.verify(**kept)
    return 0


def _in_words(totals: Totals) -> str:
    return (
        f"loss {totals.loss:.4f}, top-1 error {100 * totals.top1:.2f} %, "
        f"top-5 error {100 * totals.top5:.2f} % on {totals.images:,} images"
    )


def _skipped(images: int) -> str:
    return f", {images:,} skipped" if images else ""


class _TrainParser(argparse.ArgumentParser):
    """Prints what it has to say once, not once for each replica."""

    def _print_message(self, message: str, file: Any = None) -> None:
        place = launched()
        if place is None or place.rank == 0:
            super()._print_message(message, file)


def _train_parser() -> argparse.ArgumentParser:
    # Options that are not given stay out of the result, so that a checkpoint's can hold.
    parser = _TrainParser(
        "pyalexnet-train",
        description="Trains an AlexNet; without arguments, a small one on drawn shapes. "
        "mpirun -n R pyalexnet-train … trains with R processes or GPUs.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument_group("what").add_argument
    add(
        "--recipe",
        metavar="NAME",
        help="take options from a recipe of pyalexnet's (paper, code, caffe, owt, he; the file is "
        "pyalexnet/recipes.toml) or from a table of your own file (FILE.toml:NAME, or FILE.toml "
        "that has one); options given here go before the recipe's",
    )
    add(
        "--net",
        help=f"{', '.join(nets.NAMES)} or a .json file (default: alexnet for ImageNet, else small)",
    )
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
    add(
        "--shared-crop",
        type=int,
        metavar="N",
        help="N consecutive images of a batch have one crop and mirror (default: 1, as the paper)",
    )
    add(
        "--colour-noise",
        type=float,
        metavar="STD",
        help="move each image's colours along the training set's principal components by normal "
        "numbers of this standard deviation; the paper: 0.1 (default: 0)",
    )
    add(
        "--colour-variant",
        choices=COLOUR_VARIANTS,
        help="these are multiplied by the components' eigenvalues, of pixels of 0..1 (paper), or "
        "their square roots (code: about twice as far on ImageNet) (default: paper)",
    )

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
    add(
        "--summary",
        action="store_true",
        help="print the layers' shapes, parameters, cost and memory on each device; train nothing",
    )
    _add_device(run)
    _add_reading(run)
    add("--progress", action=switch, help="show how an epoch goes on (default: yes)")
    add("--magnitudes", action=switch, help="print mean |w| and |Δw| each epoch (default: yes)")
    return parser


def _add_views(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--views",
        choices=VIEWS,
        default="centre",
        help="crops of an image whose probabilities are averaged: its centre; ten, the paper's "
        "corners and centre and their mirror images; dense, a grid and its mirror image (default: "
        "centre)",
    )
    parser.add_argument(
        "--dense-stride",
        type=int,
        metavar="PIXELS",
        help=f"between places of the dense grid, at most (default: {STRIDE})",
    )


def _add_device(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--devices",
        help="host, cuda:0, … or auto: a GPU if one can be used (default: auto); two, as in "
        "cuda:0,cuda:1 or host,host, to split the net in the paper's two towers; under mpirun, "
        "those of a machine's first replica, the others taking the next",
    )
    add(
        "--threads",
        type=int,
        help="threads of the host's kernels (default: all cores, divided among replicas)",
    )


def _add_reading(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    add(
        "--workers",
        type=int,
        help="processes, or threads where images lie in memory, that read ahead; 0: none "
        "(default: one for each core)",
    )
    add(
        "--skip-bad-images",
        action="store_true",
        help="leave out images that cannot be read, and count them, instead of stopping",
    )
