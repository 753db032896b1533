"""The folder of a run: what may be in it when a run begins, resumes or replaces another."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import os
import re
import shutil
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

_WRITTEN = (LAST, BEST, RECIPE, metrics.LINES, metrics.CURVE)
HEADER = "# The options of a run, as decided by pyalexnet"  #: with which a run's run.toml begins

#: Temporary files of earlier versions: of safetensors, and of their `files.replacing`.
_FOREIGN = re.compile(rf"\.tmp[A-Za-z0-9]{{6}}|\.({'|'.join(map(re.escape, _WRITTEN))})\.tmp")

#: Options that a resumed run does not take over.
_SHOWN = {"quiet", "verbose"}


class Start(NamedTuple):
    """How a run begins."""

    folder: Path  #: for what it writes
    options: Options
    path: Path  #: of the checkpoint
    checkpoint: Checkpoint | None  #: to go on from


@contextlib.contextmanager
def begin(given: dict[str, Any], resume: bool | str | Path, overwrite: bool) -> Iterator[Start]:
    """Where and how a run begins: with the options `given` and, to `resume`, those recorded.

    Within the block, the folder is locked. What a block that fails would leave of no use is
    removed: run.toml without a checkpoint or a line of metrics, and the folders made here.

    Parameters
    ----------
    given : dict
        Fields of `Options`.
    resume, overwrite
        As in `trainer.train`.

    Raises
    ------
    UserError
        The folder cannot be written, holds another run or is written to by another process; there
        is nothing to resume; an option is unknown or out of range.
    """
    options = Options.of(given)
    options.check()
    folder = _folder(options, resume)
    made = _make(folder)
    try:
        with files.locked(folder):
            files.remove_leftovers(folder)
            _remove_foreign_leftovers(folder)
            try:
                yield _start(options, given, folder, resume, overwrite)
            except BaseException:
                _remove_useless(folder)
                raise
    except BaseException:
        _remove_empty(made)
        raise


def _folder(options: Options, resume: bool | str | Path) -> Path:
    """The folder to write to: that of a checkpoint which is named, unless another is given."""
    if options.output is None and resume not in (False, True, AUTO):
        path = files.expanded(str(resume))
        return path if path.is_dir() else path.parent
    return options.folder()


def _start(
    options: Options,
    given: dict[str, Any],
    folder: Path,
    resume: bool | str | Path,
    overwrite: bool,
) -> Start:
    path, checkpoint = checkpoint_path(given, resume), None
    if path is not None:
        checkpoint = checkpoints.load_run(path)
        options = _resumed_options(checkpoint, given, path)
        options.check()
        if files.same(path.parent, folder):
            _restore_best(folder, path, checkpoint)
        else:  # whose best checkpoint is not here
            checkpoint.progress.best, checkpoint.progress.best_epoch = None, 0
    if path is None or not files.same(path.parent, folder):
        _check_own(folder)
        if resume == AUTO and _ended_before_saving(folder):
            (folder / metrics.LINES).unlink(missing_ok=True)
        if not overwrite:
            _check_vacant(folder)
    return Start(folder, options, path or folder / LAST, checkpoint)


def _restore_best(folder: Path, path: Path, checkpoint: Checkpoint) -> None:
    """Makes the best checkpoint from the last one, if a run was stopped between saving both.

    Where an older one is missing, there is no best epoch before the next.
    """
    best, progress = folder / BEST, checkpoint.progress
    if progress.position == 0 and 0 < progress.best_epoch == progress.epoch:
        if not (best.is_file() and filecmp.cmp(path, best, shallow=False)):
            with files.replacing(best) as file, files.naming(best), path.open("rb") as source:
                shutil.copyfileobj(source, file)
    elif not best.is_file():
        progress.best, progress.best_epoch = None, 0


def checkpoint_path(given: dict[str, Any], resume: bool | str | Path) -> Path | None:
    """The checkpoint from which `resume` goes on, None to begin a run; errors as `begin`."""
    if resume is False:
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
    path = files.expanded(resume)
    return path / LAST if path.is_dir() else path


def write_recipe(folder: Path, text: str) -> None:
    """Writes run.toml; errors as `files.replacing`."""
    files.replace(folder / RECIPE, text.encode(errors="backslashreplace"))


def clear(folder: Path) -> None:
    """Removes what a run has left.

    Raises
    ------
    UserError
        A file cannot be removed.
    """
    for name in _WRITTEN:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise files.failure(error, f"{folder / name}: cannot be removed") from error


def _ended_before_saving(folder: Path) -> bool:
    """Whether a run ended with a line of metrics at most, and without a checkpoint."""
    if any((folder / name).exists() for name in (LAST, BEST)):
        return False
    with contextlib.suppress(OSError, UserError):
        return len(metrics.read(folder)) <= 1
    return False


def _remove_useless(folder: Path) -> None:
    if not any((folder / name).exists() for name in (LAST, BEST)):
        with contextlib.suppress(OSError):
            lines = folder / metrics.LINES
            if not (lines.exists() and lines.stat().st_size) and _is_of_a_run(folder / RECIPE):
                for name in (RECIPE, metrics.LINES, metrics.CURVE):
                    (folder / name).unlink(missing_ok=True)


def _remove_foreign_leftovers(folder: Path) -> None:
    """Removes what killed processes of earlier versions left."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if _FOREIGN.fullmatch(name) and not os.path.islink(folder / name):
                os.unlink(folder / name)


def _is_of_a_run(path: Path) -> bool:
    """Whether a run has written this run.toml."""
    with contextlib.suppress(OSError), files.open_regular(path) as file:
        return file.read(len(HEADER)) == HEADER.encode()
    return False


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
        raise files.failure(error, f"output folder {folder}: cannot be written") from error
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_own(folder: Path) -> None:
    """Checks that a run would replace no file that no run has written."""
    for name in _WRITTEN:
        path = folder / name
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be written: it exists and is not a regular file")
    if (folder / RECIPE).exists() and not _is_of_a_run(folder / RECIPE):
        raise UserError(
            f"output folder {folder}: has {RECIPE}, which no run has written; choose another "
            "--output"
        )


def _check_vacant(folder: Path) -> None:
    held = [n for n in (LAST, BEST, metrics.LINES, metrics.CURVE) if (folder / n).exists()]
    if held:
        raise UserError(
            f"output folder {folder}: has {', '.join(held)} of a previous run; resume it by "
            "--resume, replace it by --overwrite, or choose another --output"
        )
