"""The folder of a run: what may be in it when a run begins, resumes or replaces another."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training import metrics
from pyalexnet.training.checkpoint import Checkpoint
from pyalexnet.training.options import Options

LAST, BEST = "last.safetensors", "best.safetensors"


def begin(
    folder: Path, given: dict[str, Any], resume: bool, overwrite: bool
) -> tuple[Options, Checkpoint | None]:
    """The options of a run, those `given` and, to `resume`, those recorded; and the checkpoint.

    Raises
    ------
    UserError
        The folder cannot be written or holds another run, or there is nothing to resume; an
        option is out of range.
    """
    options, checkpoint = Options(**given), None
    if resume:
        checkpoint = checkpoints.load(folder / LAST)
        options = _resumed_options(checkpoint, given, folder / LAST)
    options.check()
    _check_folder(folder, may_hold_run=resume or overwrite)
    return options, checkpoint


def clear(folder: Path) -> None:
    """Removes what a run has left."""
    for name in (LAST, BEST, metrics.LINES, metrics.CURVE):
        (folder / name).unlink(missing_ok=True)


def _resumed_options(checkpoint: Checkpoint, given: dict[str, Any], path: Path) -> Options:
    known = {field.name for field in dataclasses.fields(Options)}
    recorded = {name: value for name, value in checkpoint.options.items() if name in known}
    for name in ("batch_size", "seed"):  # a step would be another
        if given.get(name, recorded[name]) != recorded[name]:
            option, expected = name.replace("_", "-"), recorded[name]
            raise CheckpointError(
                f"{path}: {option} is {given[name]}; expected the run's {expected}"
            )
    return Options(**recorded | given)


def _check_folder(folder: Path, *, may_hold_run: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror}") from error
    held = [n for n in (LAST, BEST, metrics.LINES) if (folder / n).exists()]
    if held and not may_hold_run:
        raise UserError(
            f"output folder {folder}: has {', '.join(held)} of a previous run; resume it by "
            "--resume, replace it by --overwrite, or choose another --output"
        )
