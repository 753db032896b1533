"""Runs that something goes wrong with: what is kept, and what is said."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny import STEPS, records, run
from pyalexnet import files, streams
from pyalexnet.errors import MachineError, UserError
from pyalexnet.training import curve, run_folder, trainer
from pyalexnet.training.checkpoint import Checkpoint, load
from pyalexnet.training.display import Display
from pyalexnet.training.run_folder import BEST, LAST
from pyalexnet.training.trainer import Outcome

Captured = pytest.CaptureFixture[str]


class Killed(BaseException):
    """Stands for a kill: nothing that the run has catches it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(tmp_path_factory.mktemp("whole"))


def state(path: Path) -> dict[str, Any]:
    """All of a checkpoint but times."""
    found = load(path)
    found.progress.seconds = found.progress.data_seconds = 0.0
    tensors = {**found.model, **found.optimiser}
    return {name: array.tobytes() for name, array in tensors.items()} | {"at": found.progress}


def assert_same(folder: Path, whole: Outcome) -> None:
    for name in (LAST, BEST):
        assert state(folder / name) == state(whole.folder / name)
    assert records(folder) == records(whole.folder)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole.folder))


@pytest.mark.parametrize("left", ["old", "none"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_between_last_and_best(
    whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, left: str
) -> None:
    save = Checkpoint.save

    def dying(self: Checkpoint, path: Path) -> None:
        if self.progress.epoch == epoch and path.name == BEST:
            raise Killed
        save(self, path)
        if self.progress.epoch == epoch and self.progress.best_epoch != epoch:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", dying)
        with pytest.raises(Killed):
            run(tmp_path)
    if left == "none" and load(tmp_path / "run" / LAST).progress.best_epoch == epoch:
        (tmp_path / "run" / BEST).unlink(missing_ok=True)
    trainer.train(output=str(tmp_path / "run"), resume=True)
    assert_same(tmp_path / "run", whole)


def test_lost_best_checkpoint_is_not_promised(
    whole: Outcome, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    (tmp_path / "run" / BEST).unlink()
    kept = load(tmp_path / "run" / LAST)
    kept.progress.best_epoch = 1
    kept.save(tmp_path / "run" / LAST)
    outcome = trainer.train(output=str(tmp_path / "run"), resume=True, epochs=4)
    assert outcome.progress.best_epoch == 4
    assert load(tmp_path / "run" / BEST).progress.epoch == 4


def test_two_runs_in_a_folder(whole: Outcome, tmp_path: Path) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")
    before = state(tmp_path / "run" / LAST)
    with files.locked(tmp_path / "run"):
        for more in ({"resume": True}, {"resume": "auto"}, {"overwrite": True}):
            with pytest.raises(UserError, match="another process is writing to it"):
                run(tmp_path, **more)
    assert state(tmp_path / "run" / LAST) == before


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS + 1, 2 * STEPS + 2])
def test_killed_within_an_epoch(whole: Outcome, tmp_path: Path, step: int) -> None:
    def die(done: int) -> None:
        if done == step + 1:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_step=die, checkpoint_minutes=1e-9)
    assert load(tmp_path / "run" / LAST).progress.step == step
    trainer.train(output=str(tmp_path / "run"), resume=True)
    assert_same(tmp_path / "run", whole)


def test_no_checkpoint_within_an_epoch(tmp_path: Path) -> None:
    def die(done: int) -> None:
        if done == STEPS + 2:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, on_step=die, checkpoint_minutes=0)
    assert load(tmp_path / "run" / LAST).progress.step == STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_and_save(whole: Outcome, tmp_path: Path, number: int) -> None:
    stopped = run(
        tmp_path, on_step=lambda done: os.kill(os.getpid(), number) if done == 2 else None
    )
    assert stopped.interrupted and stopped.progress.step == 2
    trainer.train(output=str(tmp_path / "run"), resume=True)
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_closing_terminal_may_send_several_signals(tmp_path: Path, number: int) -> None:
    def close(done: int) -> None:
        for one in (signal.SIGHUP, signal.SIGHUP, number, signal.SIGHUP):
            os.kill(os.getpid(), one)

    stopped = run(tmp_path, on_step=close)
    assert stopped.interrupted and stopped.progress.step == 1
    assert load(tmp_path / "run" / LAST).progress.step == 1


def test_second_interrupt_is_as_without_a_run(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_step=interrupt)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored_signal_stays_ignored(tmp_path: Path, number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        outcome = run(tmp_path, on_step=lambda done: os.kill(os.getpid(), number))
    finally:
        signal.signal(number, before)
    assert not outcome.interrupted


def test_what_is_shown_comes_after_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, show in (("epoch", "epoch"), ("weight_stats", "weight_stats")):

        def fail(*_: Any) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Display, show, fail)
            with pytest.raises(Killed):
                run(tmp_path, name, weight_stats=True)
        assert load(tmp_path / name / LAST).progress.epoch == 1
        assert (tmp_path / name / BEST).exists()


def test_callback_that_fails_loses_no_epoch(tmp_path: Path) -> None:
    def fail(record: dict[str, Any]) -> None:
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match="of the caller"):
        run(tmp_path, on_epoch=fail)
    assert load(tmp_path / "run" / LAST).progress.epoch == 1


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_printing_that_fails_stops_nothing(
    whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        patch.setattr(sys, "stderr", Full())
        run(tmp_path, weight_stats=True)
    assert_same(tmp_path / "run", whole)


def test_printing_in_a_narrow_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="iso8859-1"))
        run(tmp_path, epochs=1, weight_stats=True)
        sys.stdout.flush()
        assert b"mean |\\u0394w|" in printed.getvalue()


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            streams.say("x")


def test_drawing_that_fails_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fail(*_: Any) -> bytes:
        raise RuntimeError("no LaTeX\n\x1b")

    monkeypatch.setattr(curve, "png", fail)
    assert not run(tmp_path).interrupted
    assert load(tmp_path / "run" / LAST).progress.epoch == 3
    out = capsys.readouterr().out
    assert out.count("note    ") == 1
    assert r"curve.png: cannot be drawn: RuntimeError: no LaTeX\n\x1b" in out


def test_matplotlibrc_of_the_user_does_not_matter(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "figure.dpi": 3}):
        record = json.loads('{"epoch": 1, "val_top1_error": 0.5, "lr": 0.1, "bias_lr": 0.2}')
        record |= {"train_top1_error": 0.5, "train_loss": 1.0, "val_loss": 1.0}
        subject = curve.Subject("a$b^$_{", "tiny\u4e00", 3)
        assert curve.png([record], subject).startswith(b"\x89PNG")
        assert matplotlib.rcParams["text.usetex"] is True


@pytest.mark.parametrize("name", [LAST, BEST, "metrics.jsonl", "run.toml"])
def test_full_disk_keeps_what_there_was(
    whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run(tmp_path, epochs=1)
    replacing, opened = files.replacing, Path.open

    def full(path: Path, **more: Any) -> Any:
        if path.name == name != "metrics.jsonl":
            raise MachineError(f"{path}: cannot be written: No space left on device")
        return replacing(path, **more)

    def on_full_disk(self: Path, *given: Any, **more: Any) -> Any:
        if self.name == name and given == ("a",):
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replacing", full)
        patch.setattr(Path, "open", on_full_disk)
        with pytest.raises(MachineError, match=rf"{name}: cannot be written: No space"):
            trainer.train(output=str(tmp_path / "run"), resume=True, epochs=3)
    if name == "metrics.jsonl":  # what has no line has not been counted either
        kept = load(tmp_path / "run" / LAST).progress
        assert (kept.step, kept.epoch, kept.best_epoch) == (2 * STEPS, 1, 1)
    trainer.train(output=str(tmp_path / "run"), resume=True, epochs=3)
    for kept in (LAST, BEST):
        assert (
            load(tmp_path / "run" / kept).progress.step == load(whole.folder / kept).progress.step
        )
    assert [record["epoch"] for record in records(tmp_path / "run")] == [1, 2, 3]


def test_strangers_files_are_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "curve.png").write_bytes(b"a photo")
    with pytest.raises(UserError, match=r"has curve\.png of a previous run"):
        run(tmp_path)
    (folder / "curve.png").unlink()
    (folder / "run.toml").write_text("[mine]\nlr = 0.1\n")
    for more in ({}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"has run\.toml, which no run has written"):
            run(tmp_path, **more)
    assert os.listdir(folder) == ["run.toml"]


@pytest.mark.parametrize("name", ["curve.png", LAST, "metrics.jsonl"])
def test_overwrite_removes_nothing_where_it_cannot_remove_all(
    whole: Outcome, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    before = sorted(os.listdir(folder))
    with pytest.raises(
        UserError, match=rf"{name}: cannot be written: it exists and is not a regular"
    ):
        run(tmp_path, overwrite=True)
    assert sorted(os.listdir(folder)) == before


def test_file_that_cannot_be_removed(
    whole: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.folder, tmp_path / "run")

    def immutable(self: Path, **_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", immutable)
        with pytest.raises(UserError, match="cannot be removed: Operation not permitted"):
            run_folder.clear(tmp_path / "run")


def test_leftovers_of_killed_saves_are_removed(whole: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    for name in (".tmpAbC123", ".last.safetensors.tmp", ".pyalexnet-0123456789abcdef.tmp"):
        (folder / name).write_bytes(b"of a killed process")
    (folder / ".tmp-of-others").write_bytes(b"kept")
    trainer.train(output=str(folder), resume=True)
    assert sorted(os.listdir(folder)) == sorted([*os.listdir(whole.folder), ".tmp-of-others"])
