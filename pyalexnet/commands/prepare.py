"""The command pyalexnet-prepare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyalexnet.commands.arguments import Parser, one_of, whole
from pyalexnet.commands.common import run
from pyalexnet.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    return run(parser(), _prepare, arguments)


def parser() -> Parser:
    """The command's parser."""
    parser = Parser(
        "pyalexnet-prepare",
        "--output DIR [OPTION ...]",
        """\
Prepares ImageNet (ILSVRC2012) for training: converts its archives or folders to
shards of 256×256 images, and computes the mean image and colour statistics.
Labels are the ranks of the sorted WNIDs, not ILSVRC2012_ID. Repeating an
interrupted command continues it.""",
        {
            "--output imagenet --train PATH --val PATH --devkit PATH": "",
            "--output imagenet --verify": "",
        },
    )
    add = parser.add_argument_group("input and output").add_argument
    add("--output", type=Path, metavar="DIR", required=True, help="folder to write to")
    add(
        "--train",
        type=Path,
        metavar="PATH",
        help="ILSVRC2012_img_train.tar, or a folder of class archives or class folders",
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
        help="ILSVRC2012_devkit_t12.tar.gz, or its folder: class names, and labels of validation "
        "images that are not in class folders",
    )
    add = parser.add_argument_group("images").add_argument
    add(
        "--format",
        type=one_of("jpeg", "raw"),
        default="jpeg",
        help="jpeg (default): small, decoded during training; raw: 196,608 bytes per image, fast",
    )
    add("--size", type=whole, default=256, metavar="PIXELS", help="rows and columns (default: 256)")
    add("--quality", type=whole, default=90, metavar="N", help="of JPEGs, 1 to 100 (default: 90)")
    add(
        "--shard-images",
        type=whole,
        default=4096,
        metavar="N",
        help="images per shard (default: 4096)",
    )
    add = parser.add_argument_group("run").add_argument
    add("-j", "--workers", type=whole, metavar="N", help="processes (default: all cores)")
    add(
        "--strict",
        action="store_true",
        help="stop at an unreadable image instead of skipping and reporting it",
    )
    add(
        "--verify",
        action="store_true",
        help="compare the checksums in the output folder and decode all its images; alone, or "
        "after preparing",
    )
    parser.add_others(quiet="show no progress")
    return parser


def _prepare(options: dict[str, Any]) -> int:
    from pyalexnet.data.imagenet import prepare
    from pyalexnet.data.sources.shards import Encoding

    sources = {name: options.pop(name) for name in ("train", "val", "devkit")}
    format, size, quality = (options.pop(name) for name in ("format", "size", "quality"))
    check = options.pop("verify")
    options["progress"] = not options.pop("quiet")
    if any(sources.values()) or not check:
        missing = [f"--{name}" for name in ("train", "val") if sources[name] is None]
        if missing:
            raise UserError(f"{' and '.join(missing)} missing; expected both, or only --verify")
        prepare.prepare(**sources, **options, encoding=Encoding(format, size, quality))
    if check:
        kept = {name: options[name] for name in ("output", "workers", "progress")}
        prepare.verify(**kept)
    return 0
