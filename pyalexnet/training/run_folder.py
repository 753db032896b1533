"""The folder of a run: what may be in it when a run begins, resumes or replaces another."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyalexnet import files
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training import metrics
from pyalexnet.training.checkpoint import Checkpoint
from pyalexnet.training.options import Options

LAST, BEST, RECIPE = "last.safetensors", "best.safetensors", "run.toml"
AUTO = "auto"  #: resume the run in the output folder, or begin one

#: Options that a resumed run does not take over.
_SHOWN = {"quiet", "verbose"}


class Start(NamedTuple):
    """How a run begins."""

    folder: Path  #: for what it writes
    options: Options
    path: Path  #: of the checkpoint
    checkpoint: Checkpoint | None  #: to go on from


def begin(given: dict[str, Any], resume: bool | str | Path, overwrite: bool) -> Start:
    """Where and how a run begins: with the options `given` and, to `resume`, those recorded.

    Nothing is left in the folder, nor the folder itself where it is new.

    Parameters
    ----------
    given : dict
        Fields of `Options`.
    resume, overwrite
        As in `trainer.train`.

    Raises
    ------
    UserError
        The folder cannot be written or holds another run, or there is nothing to resume; an
        option is unknown or out of range.
    """
    options = Options.of(given)
    path, checkpoint = checkpoint_path(given, resume), None
    folder = options.folder() if path is None or options.output is not None else path.parent
    if path is not None:
        checkpoint = checkpoints.load(path)
        options = _resumed_options(checkpoint, given, path)
        if not _same(path.parent, folder):  # whose best checkpoint is not here
            checkpoint.progress.best, checkpoint.progress.best_epoch = None, 0
    options.check()
    _check_writable(folder)
    if not (overwrite or (path is not None and _same(path.parent, folder))):
        _check_vacant(folder)
    return Start(folder, options, path or folder / LAST, checkpoint)


def checkpoint_path(given: dict[str, Any], resume: bool | str | Path) -> Path | None:
    """The checkpoint from which `resume` goes on, None to begin a run; errors as `begin`."""
    if not resume:
        return None
    if resume is True or resume == AUTO:
        path = Options.of(given).folder() / LAST
        if path.is_file():
            return path
        if resume == AUTO:
            return None
        raise CheckpointError(
            f"{path}: no such file; expected the checkpoint of a run, or --resume auto, which "
            "begins one where there is none"
        )
    path = Path(resume).expanduser()
    return path / LAST if path.is_dir() else path


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Makes the folder for the block, and takes away what a block that fails would leave of no use.

    That is run.toml without a checkpoint or a line of metrics, and the folders that were made here.

    Raises
    ------
    UserError
        It cannot be made.
    """
    made = _make(folder)
    try:
        yield
    except BaseException:
        if not any((folder / name).exists() for name in (LAST, BEST)):
            with contextlib.suppress(OSError):
                lines = folder / metrics.LINES
                if not (lines.exists() and lines.stat().st_size):
                    for name in (RECIPE, metrics.LINES, metrics.CURVE):
                        (folder / name).unlink(missing_ok=True)
        _remove_empty(made)
        raise


def write_recipe(folder: Path, text: str) -> None:
    """Writes run.toml; errors as `files.replacing`."""
    files.replace(folder / RECIPE, text.encode(errors="backslashreplace"))


def clear(folder: Path) -> None:
    """Removes what a run has left."""
    for name in (LAST, BEST, RECIPE, metrics.LINES, metrics.CURVE):
        (folder / name).unlink(missing_ok=True)


def _resumed_options(checkpoint: Checkpoint, given: dict[str, Any], path: Path) -> Options:
    known = {field.name for field in dataclasses.fields(Options)} - _SHOWN
    recorded = {name: value for name, value in checkpoint.options.items() if name in known}
    for name in ("batch_size", "seed"):  # a step would be another
        if given.get(name, recorded[name]) != recorded[name]:
            option, expected = name.replace("_", "-"), recorded[name]
            raise CheckpointError(
                f"{path}: {option} is {given[name]}; expected the run's {expected}"
            )
    return Options.of(recorded | given)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _make(folder: Path) -> list[Path]:
    """Makes a folder and those above it; returns the new ones, the outermost first."""
    made: list[Path] = []
    absolute = folder.absolute()
    try:
        for path in reversed((absolute, *absolute.parents)):
            if not path.exists():
                path.mkdir()
                made.append(path)
        if not absolute.is_dir():
            raise NotADirectoryError(None, "it is not a folder")
    except OSError as error:
        _remove_empty(made)
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror}") from error
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_writable(folder: Path) -> None:
    made = _make(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"output folder {folder}: cannot be written: {error.strerror}") from error
    finally:
        _remove_empty(made)


def _check_vacant(folder: Path) -> None:
    held = [n for n in (LAST, BEST, metrics.LINES) if (folder / n).exists()]
    if held:
        raise UserError(
            f"output folder {folder}: has {', '.join(held)} of a previous run; resume it by "
            "--resume, replace it by --overwrite, or choose another --output"
        )
