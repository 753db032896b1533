"""Runs of the trainer on tiny data: what they write, stop, resume, and refuse."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import os
import platform
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tqdm
from PIL import Image

from helpers import target, tiny
from helpers.splits import workers
from helpers.target import assign
from helpers.tiny import STEPS, records, run
from pyalexnet.data.augmentation import shuffled
from pyalexnet.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    MachineError,
    NetError,
    UserError,
)
from pyalexnet.model import Metrics, Model
from pyalexnet.nn.layers import Dropout, Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD
from pyalexnet.text import version
from pyalexnet.training import recipes, trainer
from pyalexnet.training.checkpoint import Checkpoint, load
from pyalexnet.training.display import Display
from pyalexnet.training.report import Diverged
from pyalexnet.training.trainer import Outcome


def at_step(step: int, act: Callable[[], object]) -> Callable[[int], None]:
    return lambda done: None if done != step else (act(), None)[1]


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def last(outcome: Outcome) -> Checkpoint:
    return load(outcome.folder / "last.safetensors")


def assert_same_end(one: Outcome, other: Outcome) -> None:
    """Same weights, momentum and progress to the last bit; same metrics."""
    for a, b in ((last(one), last(other)),):
        for part in ("model", "optimiser"):
            old, new = getattr(a, part), getattr(b, part)
            assert old.keys() == new.keys()
            for name in old:
                assert old[name].tobytes() == new[name].tobytes(), f"{part} {name}"
        assert a.progress == b.progress
    assert records(one.folder) == records(other.folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Three epochs of random crops, mirrors and dropout, with a falling rate."""
    return run(tmp_path_factory.mktemp("whole"))


def test_a_run_leaves_metrics_curve_and_checkpoints(uninterrupted: Outcome) -> None:
    assert not uninterrupted.interrupted
    folder = uninterrupted.folder
    files = {"last.safetensors", "best.safetensors", "metrics.jsonl", "curve.png", "run.toml"}
    assert set(os.listdir(folder)) == files

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [STEPS, 2 * STEPS, 3 * STEPS]
    for line in lines:
        for part in ("train", "val"):
            assert 0 < line[f"{part}_loss"] < 5
            assert 0 <= line[f"{part}_top1_error"] <= 1
            assert f"{part}_top5_error" not in line  # of three classes
        assert line["bias_lr"] == 2 * line["lr"]
        assert line["seconds"] * line["images_per_second"] == pytest.approx(tiny.TRAIN)
        assert (
            0 < line["data_seconds"] < line["seconds"]
        )  # a part, as the caller reads images itself
        assert line["data_share"] == line["data_seconds"] / line["seconds"]
    with Image.open(folder / "curve.png") as picture:
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").resize((60, 20)).tobytes())) > 2  # not blank

    lowest = min(lines, key=lambda line: line["val_top1_error"])
    best = load(folder / "best.safetensors")
    assert best.progress.epoch == lowest["epoch"]
    assert best.progress.best == lowest["val_top1_error"]
    assert load(folder / "last.safetensors").progress.epoch == 3


def test_training_learns(tmp_path: Path) -> None:
    outcome = run(tmp_path, epochs=20, schedule="constant", lr=0.03)
    assert records(outcome.folder)[-1]["val_top1_error"] <= 1 / 12


def test_same_seed_same_bits_another_seed_others(uninterrupted: Outcome, tmp_path: Path) -> None:
    assert_same_end(run(tmp_path, "same", threads=1), uninterrupted)
    other = last(run(tmp_path, "other", seed=6))
    assert other.model["conv1.weight"].tobytes() != (
        last(uninterrupted).model["conv1.weight"].tobytes()
    )


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 2, 3 * STEPS])
def test_interrupted_and_resumed_same_bits(
    uninterrupted: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    stopped = run(tmp_path, on_step=at_step(step, interrupt))
    assert stopped.interrupted
    assert stopped.progress.step == step
    output = str(tmp_path / "run")
    assert f"resume with: pyalexnet-train --resume {output}\n" in capsys.readouterr().out

    resumed = trainer.train(output=output, resume=True)  # the options are the checkpoint's
    assert not resumed.interrupted
    assert_same_end(resumed, uninterrupted)


def test_interrupted_at_every_step_same_bits(uninterrupted: Outcome, tmp_path: Path) -> None:
    outcome = run(tmp_path, on_step=lambda step: interrupt())
    for _ in range(3 * STEPS):
        outcome = trainer.train(
            output=str(tmp_path / "run"), resume=True, on_step=lambda step: interrupt()
        )
    assert not outcome.interrupted
    assert_same_end(outcome, uninterrupted)


def test_worker_processes_give_the_same_bits(uninterrupted: Outcome, tmp_path: Path) -> None:
    stopped = run(tmp_path, workers=2, on_step=at_step(STEPS + 2, interrupt))
    assert last(stopped).options["workers"] == 2
    assert_same_end(trainer.train(output=str(stopped.folder), resume=True), uninterrupted)


def test_death_of_a_worker_loses_nothing(uninterrupted: Outcome, tmp_path: Path) -> None:
    def kill_one() -> None:
        os.kill(min(workers()), signal.SIGKILL)

    message = r"killed by SIGKILL, as Linux does when memory runs out; saved .*--resume"
    with pytest.raises(DataError, match=message) as caught:
        run(tmp_path, workers=2, on_step=at_step(2, kill_one))
    assert "--skip-bad-images" not in str(caught.value)
    assert not workers()
    again = trainer.train(output=str(tmp_path / "run"), resume=True, workers=0)
    assert_same_end(again, uninterrupted)


def test_images_may_share_a_crop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward_backward, draws = Model.forward_backward, []

    def watched(self: Model, images: Any, labels: Any, crops: Any, **more: Any) -> None:
        draws.append(crops.copy())
        forward_backward(self, images, labels, crops, **more)

    monkeypatch.setattr(Model, "forward_backward", watched)
    run(tmp_path, epochs=1, shared_crop=4)
    assert len(draws) == STEPS
    for crops in draws:
        for first in range(0, len(crops), 4):
            assert len(np.unique(crops[first : first + 4], axis=0)) == 1
    assert len(np.unique(np.concatenate(draws), axis=0)) > 4


def test_interrupted_in_validation_same_bits(
    uninterrupted: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Model.evaluate

    def interrupted(self: Model, *args: Any) -> None:
        evaluate(self, *args)
        interrupt(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "evaluate", interrupted)
        stopped = run(tmp_path)
    assert stopped.interrupted
    assert (stopped.progress.epoch, stopped.progress.position) == (0, STEPS)
    assert records(stopped.folder) == []
    assert_same_end(trainer.train(output=str(stopped.folder), resume=True), uninterrupted)


def test_signals_are_as_before_after_a_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path, epochs=1)
    run(tmp_path, "stopped", on_step=at_step(1, interrupt))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_interrupt_acts_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_step=at_step(2, lambda: (interrupt(), interrupt())))


def test_a_crash_after_metrics_were_written_repeats_no_line(
    uninterrupted: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = Checkpoint.save, []

    def crashing(self: Checkpoint, path: Path) -> None:
        calls.append(path)
        if self.progress.epoch == 2:
            raise SystemError("power cut")
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", crashing)
        with pytest.raises(SystemError):
            run(tmp_path)
    lines = tmp_path / "run" / "metrics.jsonl"
    assert len(records(tmp_path / "run")) == 2
    lines.write_text(lines.read_text() + '{"epoch": 3, "st')
    assert_same_end(trainer.train(output=str(tmp_path / "run"), resume=True), uninterrupted)


def test_more_epochs_and_another_schedule_for_a_finished_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run(tmp_path, epochs=2, schedule="epochs:1")
    output = str(outcome.folder)
    before = last(outcome)
    again = trainer.train(output=output, resume=True)
    assert not again.interrupted
    assert last(again).progress == before.progress

    trainer.train(output=output, resume=True, epochs=3, schedule="plateau:9")
    trainer.train(
        output=output, resume=True, epochs=4, lr=0.002, on_step=at_step(3 * STEPS + 1, interrupt)
    )
    more = trainer.train(output=output, resume=True)
    rates = [line["lr"] for line in records(more.folder)]
    assert rates == pytest.approx([0.01, 0.001, 0.001, 0.0002])
    assert "resumed after step 13, epoch 3 of 4" in capsys.readouterr().out


def test_a_finished_run_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, epochs=2).folder
    before = (folder / "last.safetensors").read_bytes()
    capsys.readouterr()
    trainer.train(output=str(folder), resume=True)
    out = capsys.readouterr().out
    assert re.search(
        r"^nothing left: 2 of 2 epochs are done, lowest error [\d.]+ %; go on with: "
        rf"pyalexnet-train --resume {folder} --epochs 3$",
        out,
        re.M,
    )
    assert "resumed" not in out and "done:" not in out
    assert (folder / "last.safetensors").read_bytes() == before


def test_resume_auto_begins_or_goes_on(uninterrupted: Outcome, tmp_path: Path) -> None:
    outcome = run(tmp_path, resume="auto", on_step=at_step(STEPS + 1, interrupt))
    assert outcome.interrupted and outcome.progress.step == STEPS + 1
    assert_same_end(run(tmp_path, resume="auto"), uninterrupted)


def test_resume_takes_a_folder_or_a_checkpoint(uninterrupted: Outcome, tmp_path: Path) -> None:
    stopped = run(tmp_path, on_step=at_step(STEPS, interrupt))
    again = trainer.train(resume=stopped.folder, on_step=at_step(STEPS + 1, interrupt))
    assert (again.folder, again.progress.step) == (stopped.folder, STEPS + 1)
    other = trainer.train(
        resume=stopped.folder / "last.safetensors", output=str(tmp_path / "other")
    )
    assert other.folder == tmp_path / "other"
    for name, array in last(uninterrupted).model.items():
        assert last(other).model[name].tobytes() == array.tobytes(), name
    assert last(stopped).progress.step == STEPS + 1  # as it was
    assert (other.folder / "best.safetensors").exists()
    with pytest.raises(UserError, match=r"other: has last\.safetensors, .* of a previous run"):
        trainer.train(resume=stopped.folder, output=str(other.folder))


def test_run_toml_repeats_the_run(uninterrupted: Outcome, tmp_path: Path) -> None:
    recipe = uninterrupted.folder / "run.toml"
    options = recipes.load(str(recipe))
    assert {"output", "quiet", "verbose"}.isdisjoint(options)
    expected = {"device": target.NAME, "lr": 0.01, "bias_lr": 0.02, "crop_pad": 0, "mirror": True}
    assert expected.items() <= (options | {"seed": 5}).items()
    again = trainer.train(**options, output=str(tmp_path / "again"))
    assert_same_end(again, uninterrupted)
    comment = recipe.read_text().splitlines()[2]
    assert comment == f"# pyalexnet-train --recipe {recipe} --output DIR"


@pytest.mark.usefixtures("auto")
def test_run_toml_has_what_was_decided(tmp_path: Path) -> None:
    folder = run(tmp_path, device="auto", epochs=1, lr=0.03).folder
    options = recipes.load(str(folder / "run.toml"))
    expected = {"device": target.NAME, "bias_lr": 0.06, "image_size": 10, "workers": 0}
    assert expected.items() <= options.items()


@pytest.mark.host_only("computes nothing")
def test_an_unknown_option_names_the_nearest(tmp_path: Path) -> None:
    for name, nearest in (("epoch", "epochs"), ("batchsize", "batch_size"), ("devices", "device")):
        with pytest.raises(UserError, match=f"option {name} is unknown; expected {nearest}$"):
            run(tmp_path, **{name: 1})


def test_the_first_record_says_when_and_where(uninterrupted: Outcome) -> None:
    first, *others = map(
        json.loads, (uninterrupted.folder / "metrics.jsonl").read_text().splitlines()
    )
    assert datetime.datetime.fromisoformat(first["date"]).tzinfo is not None
    assert (first["host"], first["version"]) == (platform.node(), version())
    assert not any({"date", "host", "version"} & record.keys() for record in others)


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder in (tmp_path / "new" / "deep", mine):
        given = tiny.options(tmp_path) | {"output": str(folder)}
        for wrong in ({"data": "folder:/nowhere"}, {"lr": 1e38, "batch_size": tiny.TRAIN}):
            with pytest.raises(UserError):
                trainer.train(**given | wrong)
    assert os.listdir(mine) == []
    assert not (tmp_path / "new").exists()


def test_every_image_is_trained_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward_backward, sizes, sums, draws = Model.forward_backward, [], [], []

    def watched(self: Model, images: Any, labels: Any, crops: Any, **more: Any) -> None:
        sizes.append(len(images))
        draws.append((more["step"], more["seed"], crops.tobytes()))
        sums.extend(images.reshape(len(images), -1).sum(axis=1, dtype=int).tolist())
        forward_backward(self, images, labels, crops, **more)

    monkeypatch.setattr(Model, "forward_backward", watched)
    run(tmp_path, epochs=2)
    assert sizes == [8, 8, 8, 6] * 2
    assert len(set(sums)) == tiny.TRAIN
    first, second = sums[: tiny.TRAIN], sums[tiny.TRAIN :]
    assert sorted(first) == sorted(second)
    assert first != second
    assert [draw[:2] for draw in draws] == [(step, 5) for step in range(2 * STEPS)]
    assert len({crops for _, _, crops in draws}) == len(draws)


def test_divergence_stops_with_advice_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    outcome = run(tmp_path, epochs=1)
    path = outcome.folder / "last.safetensors"
    before = path.read_bytes()
    with pytest.raises(Diverged, match=r"lower --lr \(it was 1e\+30\), such as 1e\+29") as caught:
        trainer.train(output=str(outcome.folder), resume=True, epochs=3, lr=1e30)
    assert f"--resume {outcome.folder} --lr" in str(caught.value)
    assert path.read_bytes() == before
    assert load(path).progress.epoch == 1


def test_divergence_stops_before_the_epoch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_LOOK_STEPS", 1)
    steps: list[int] = []
    with pytest.raises(Diverged, match="diverged by step 2"):
        run(tmp_path, lr=1e30, on_step=steps.append)
    assert steps == [1, 2]


def test_divergence_is_not_saved_by_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step that makes a weight infinite is still finite."""
    step = SGD.step

    def overflowing(self: SGD) -> None:
        step(self)
        assign(self._segments[0].part.weights["fc3.weight"].reshape((-1,))[:1], np.inf)

    monkeypatch.setattr(SGD, "step", overflowing)
    with pytest.raises(Diverged, match="no checkpoint had been saved yet"):
        run(tmp_path, on_step=at_step(1, interrupt))
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_divergence_in_an_epochs_last_step_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        run(tmp_path, lr=1e38, batch_size=tiny.TRAIN)
    assert not (tmp_path / "run").exists()


def test_an_image_that_becomes_unreadable_loses_nothing(
    uninterrupted: Outcome, tmp_path: Path
) -> None:
    tiny.options(tmp_path)
    [last_index] = shuffled(5, 1, tiny.TRAIN, [tiny.TRAIN - 1]).tolist()  # of the second epoch
    label, number = divmod(last_index, tiny.TRAIN // 3)
    image = tmp_path / "data" / "train" / tiny.CLASSES[label] / f"{3 * number + label:02}.png"
    whole = image.read_bytes()

    def damage() -> None:
        image.write_bytes(whole[:50])

    message = rf"{image.name}.*--skip-bad-images leaves.*--resume "
    with pytest.raises(DataError, match=message):
        run(tmp_path, on_step=at_step(STEPS, damage))
    assert load(tmp_path / "run" / "last.safetensors").progress.step == 2 * STEPS - 1
    image.write_bytes(whole)
    assert_same_end(trainer.train(output=str(tmp_path / "run"), resume=True), uninterrupted)


def test_a_file_server_that_is_away_loses_nothing_and_skips_nothing(
    uninterrupted: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyalexnet.data.reading.time.sleep", lambda seconds: None)
    data = tmp_path / "data"

    def leave() -> None:
        data.rename(tmp_path / "away")

    with pytest.raises(MachineError, match=r"cannot be read: No such file.*--resume ") as caught:
        run(tmp_path, on_step=at_step(STEPS, leave), workers=0, skip_bad_images=True)
    assert "skip-bad" not in str(caught.value)
    (tmp_path / "away").rename(data)
    assert_same_end(trainer.train(output=str(tmp_path / "run"), resume=True), uninterrupted)


def test_unreadable_images_are_skipped_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.options(tmp_path)
    (tmp_path / "data" / "train" / "red" / "05.png").write_bytes(b"no image")
    (tmp_path / "data" / "val" / "green" / "01.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"05\.png"):
        run(tmp_path)
    outcome = run(tmp_path, "skipping", skip_bad_images=True, epochs=2)
    assert [line["skipped"] for line in records(outcome.folder)] == [2, 2]
    assert "2 images skipped" in capsys.readouterr().out


def test_lines_for_whom_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, epochs=1, weight_stats=True)
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(
        r"^epoch 1/1  step 1  training loss \d\.\d+, error [\d.]+ %, [\d,]+ images/s$", out, re.M
    )
    assert re.search(
        r"^epoch 1/1  error [\d.]+ %, loss [\d.]+ \(training [\d.]+ %, [\d.]+\)$", out, re.M
    )
    assert "top-5" not in out  # of three classes
    for layer in ("conv1.weight", "conv1.bias", "fc2.weight", "fc3.bias"):
        assert re.search(rf"^  {re.escape(layer)} +mean \|w\| \S+  mean \|Δw\| \S+$", out, re.M)
    run(tmp_path, "default", epochs=1)
    assert "mean |w|" not in capsys.readouterr().out
    run(tmp_path, "quiet", epochs=1, quiet=True, weight_stats=True)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0))
    monkeypatch.setattr(trainer, "_LOOK_STEPS", 1)
    run(tmp_path, epochs=1)
    out, err = capsys.readouterr()
    assert "step 1 " not in out
    assert re.search(r"epoch 1/1.*\d+/30 \[.*images/s.*loss \d\.\d+, error [\d.]+ %", err)


def record(**more: Any) -> dict[str, Any]:
    errors = {f"{part}_top{k}_error": 0.98765 for part in ("train", "val") for k in (1, 5)}
    losses = {"train_loss": 16.98766, "val_loss": 16.12346}
    return {
        **errors, **losses, "epoch": 99, "lr": 0.01, "seconds": 3600 * 9.0, "skipped": 0,
        "data_share": 0.05,
    } | more  # fmt: skip


@pytest.mark.host_only("computes nothing")
def test_an_epochs_line_is_short_and_says_error(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Display()
    shown.epoch(record(), 199)
    line = capsys.readouterr().out
    assert line == (
        "epoch 99/199  error 98.77 %, top-5 98.77 %, loss 16.1235 (training 98.77 %, 16.9877), "
        "900 h left\n"
    )
    assert len(line) - 1 <= 100
    shown.epoch(record(lr=0.001, data_share=0.06, skipped=3, epoch=100), 199)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  learning rate 0.001; 6 % of the time waiting for images; 3 images skipped"
    ]
    shown.epoch(record(lr=0.001, skipped=3, val_loss=1e6), 99)  # nothing new, nothing left
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("loss 1e+06 (training 98.77 %, 16.9877)")


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("steps", [3, 157, 1000, 10_009])
def test_a_log_has_at_most_ten_lines_an_epoch(
    steps: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    shown, totals = Display(), Metrics(1.0, 0.5, 0.1, 8)
    for epoch in (1, 2):
        shown.begin(epoch, 2, 8 * steps - 3, 0, 8)
        for position in range(1, steps + 1):
            shown.advance(8 if position < steps else 5)
            shown.measured((epoch - 1) * steps + position, totals, 100.0)
        shown.epoch(record(epoch=epoch, data_share=0.5), 2)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) <= 10 and all(len(line) <= 100 for line in lines)
        assert len(lines) > (6 if steps > 300 else 1)


@pytest.mark.host_only("computes nothing")
def test_output_folder_is_tried_before_all_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output in ("file", "file/run"):
        with pytest.raises(UserError, match=r"output folder .*file.*: cannot be written: "):
            trainer.train(output=str(tmp_path / output), data="folder:/nowhere")


def test_a_previous_run_is_kept_or_replaced_as_asked(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"has last\.safetensors, .* --resume, .* --overwrite"):
        run(tmp_path)
    with pytest.raises(UserError, match="net is 'large'"):
        run(tmp_path, overwrite=True, net="large")
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before
    assert len(records(tmp_path / "run")) == 1

    outcome = run(tmp_path, overwrite=True, epochs=2, on_step=at_step(1, interrupt))
    assert last(outcome).progress.step == 1
    assert set(os.listdir(outcome.folder)) == {"last.safetensors", "run.toml"}


@pytest.mark.host_only("computes nothing")
def test_default_folder_is_named_after_data_and_net() -> None:
    for given, expected in (
        ({}, "runs/shapes-small"),
        ({"data": "fashion-mnist:/usr/share/x"}, "runs/fashion-mnist-small"),
        ({"data": "folder:/a/flowers/", "net": "nets/mine.json"}, "runs/flowers-mine"),
        ({"data": "imagenet:/a/prepared"}, "runs/imagenet-alexnet"),
    ):
        assert trainer.Options(**given).folder() == Path(expected)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"output": "other"}, CheckpointError, r"other/last\.safetensors: no such file"),
        ({"batch_size": 4}, CheckpointError, "batch-size is 4; expected the run's 8"),
        ({"seed": 1}, CheckpointError, "seed is 1; expected the run's 5"),
        ({"net": "wide.json"}, CheckpointError, r"layer fc2 is Linear\(features=16.*features=20"),
        ({"dropout": 0.1}, CheckpointError, r"layer dropout2 is Dropout\(p=0.5.*Dropout\(p=0.1"),
        ({"image_size": 11}, CheckpointError, r"image shape is 10×10×3; expected .* 11×11×3"),
        (
            {"data": "fewer"},
            CheckpointError,
            "images are 30; expected the 29 of folder:.*fewer",
        ),
        ({"data": "names"}, CheckpointError, "class 2 is 'red'; expected 'rouge'"),
        ({"data": "classes"}, CheckpointError, "classes differ from those of folder"),
    ],
)
def test_resume_refuses_another_run(
    uninterrupted: Outcome, tmp_path: Path, more: dict[str, Any], error: type, message: str
) -> None:
    base = uninterrupted.folder.parent
    layers = (*tiny.NET.layers[:2], Linear(20), *tiny.NET.layers[3:])
    tiny.write_net(tmp_path / "wide.json", Net("wide", (3, 8, 8), layers, Normalization(1 / 64)))
    if name := more.get("data"):
        folder = tiny.write_data(tmp_path / name)
        if name == "fewer":
            (folder / "train" / "red" / "02.png").unlink()
        for split in ("train", "val"):
            if name == "names":
                (folder / split / "red").rename(folder / split / "rouge")
            elif name == "classes":
                for file in (folder / split / "red").iterdir():
                    file.rename(folder / split / "blue" / f"more{file.name}")
                (folder / split / "red").rmdir()
        more = {"data": f"folder:{folder}"}
    if "net" in more:
        more = {"net": str(tmp_path / more["net"])}
    given = {"output": str(base / more.pop("output", "run"))} | more
    before = (uninterrupted.folder / "last.safetensors").read_bytes()
    with pytest.raises(error, match=message):
        trainer.train(resume=True, **given)
    assert (uninterrupted.folder / "last.safetensors").read_bytes() == before
    assert len(records(uninterrupted.folder)) == 3


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"batch_size": 0}, UserError, "batch-size is 0; expected at least 1"),
        ({"epochs": 0}, UserError, "epochs is 0"),
        ({"lr": -1.0}, UserError, "lr is -1.0; expected at least 0"),
        ({"lr": math.nan}, UserError, "lr is nan"),
        ({"lr": 1e-50}, UserError, "lr is 1e-50; expected a number that float32 holds"),
        ({"bias_lr": 1e39}, UserError, r"bias-lr is 1e\+39; expected a number that float32"),
        ({"bias_lr": math.inf}, UserError, "bias-lr is inf"),
        ({"momentum": 1.0}, UserError, "momentum is 1.0; expected less than 1"),
        ({"dropout": 1.5}, UserError, "dropout is 1.5; expected less than 1"),
        ({"seed": -1}, UserError, "seed is -1"),
        ({"seed": 2**64}, UserError, "seed is .*; expected less than 2^64".replace("^", r"\^")),
        ({"workers": -1}, UserError, "workers is -1; expected 0 to 1024"),
        ({"workers": 1025}, UserError, "workers is 1025; expected 0 to 1024"),
        ({"threads": 10**30}, UserError, "threads is 1000.*; expected 1 to 1024"),
        ({"image_size": 4097}, UserError, "image-size is 4097; expected at most 4096"),
        ({"crop_pad": 4097}, UserError, "crop-pad is 4097; expected at most 4096"),
        ({"data": ""}, UserError, "data is ''; expected a value"),
        ({"net": ""}, UserError, "net is ''; expected a value"),
        ({"resume": ""}, UserError, "path is ''; expected a file or folder"),
        ({"shared_crop": 0}, UserError, "shared-crop is 0; expected at least 1"),
        ({"threads": 0}, UserError, "threads is 0"),
        ({"schedule": "linear"}, UserError, "schedule is 'linear'; expected"),
        ({"device": "host,host,host"}, DeviceError, "3 devices; expected one, or two"),
        ({"device": "cuda:99"}, DeviceError, "device cuda:99: "),
        ({"device": "tpu"}, DeviceError, "device is 'tpu'; expected cpu, cuda or cuda"),
        ({"data": "folder:{tmp}/none"}, DataError, "/none: no such folder"),
        (
            {"net": "alexnets", "image_size": None},
            NetError,
            "net is 'alexnets'; expected alexnet, ",
        ),
        ({"net": "{tmp}/none.json"}, NetError, "/none.json"),
    ],
)
def test_wrong_options(tmp_path: Path, more: dict[str, Any], error: type, message: str) -> None:
    for name, value in more.items():
        if isinstance(value, str):
            more = more | {name: value.replace("{tmp}", str(tmp_path))}
    with pytest.raises(error, match=message):
        run(tmp_path, **more)
    assert not (tmp_path / "run").exists()


def test_history_is_that_of_the_file_and_the_callback(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    first = run(tmp_path, epochs=1, on_epoch=seen.append)
    assert first.history == seen
    outcome = run(tmp_path, epochs=2, resume=True, on_epoch=seen.append)
    assert outcome.history == seen
    assert [record["epoch"] for record in seen] == [1, 2]


@pytest.mark.host_only("computes nothing")
def test_net_that_does_not_fit_the_data(tmp_path: Path) -> None:
    for name, net, message in (
        ("grey", Net("grey", (1, 8, 8), (Linear(3, ""),)), "has 1 channels, but .* have 3"),
        ("four", Net("four", (3, 8, 8), (Linear(4, ""),)), "has 4 classes, but .* have 3"),
    ):
        path = tiny.write_net(tmp_path / f"{name}.json", net)
        with pytest.raises(UserError, match=message):
            run(tmp_path, net=str(path))
    path = tiny.write_net(tmp_path / "plain.json", Net("plain", (3, 8, 8), (Linear(3, ""),)))
    with pytest.raises(UserError, match="has no dropout layer"):
        run(tmp_path, net=str(path), dropout=0.5)


def test_dropout_option_changes_the_net(tmp_path: Path) -> None:
    outcome = run(tmp_path, epochs=1, dropout=0.25)
    assert Dropout(0.25) in last(outcome).net.layers


def test_the_small_net_takes_the_images_size(tmp_path: Path) -> None:
    outcome = run(tmp_path, net="small", epochs=1, image_size=28)
    saved = last(outcome)
    assert saved.net.input == (3, 28, 28)
    assert saved.net.classes == 3
    assert saved.options["crop_pad"] == 28 // 8
    assert np.all(np.isfinite(saved.mean))


def test_a_net_with_fixed_means_has_no_mean_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyalexnet.data.statistics.PixelSums.add", None)  # nothing is measured
    means = Normalization(1 / 64, (120.0, 110.0, 100.0))
    net = dataclasses.replace(tiny.NET, normalization=means)
    path = str(tiny.write_net(tmp_path / "means.json", net))
    whole = run(tmp_path, output="whole", net=path, epochs=2)
    assert last(whole).mean is None
    assert last(whole).image_shape == (10, 10, 3)
    assert last(whole).net.normalization == means
    run(tmp_path, net=path, epochs=1)
    resumed = trainer.train(output=str(tmp_path / "run"), resume=True, epochs=2)
    for name, array in last(whole).model.items():
        assert last(resumed).model[name].tobytes() == array.tobytes(), name


def test_plateau_ends_the_run_after_three_divisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "forward_backward", lambda self, *args, **more: None)
    outcome = run(tmp_path, epochs=90, lr=0.01)  # nothing is learnt
    rates = [line["lr"] for line in records(outcome.folder)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.0001, 0.00001])
    assert not outcome.interrupted
    assert "done: lowest" in capsys.readouterr().out

    again = trainer.train(output=str(outcome.folder), resume=True)  # it has ended
    assert (again.interrupted, again.progress.epoch) == (False, 5)
    more = trainer.train(output=str(outcome.folder), resume=True, schedule="constant", epochs=6)
    assert more.progress.epoch == 6
    assert records(outcome.folder)[-1]["lr"] == pytest.approx(0.00001)


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS + 1, 2 * STEPS + 3])
def test_a_rate_that_changes_at_every_step_resumes_with_the_same_bits(
    tmp_path: Path, step: int
) -> None:
    changing = {"schedule": "cosine", "warmup": 1.5}
    whole = run(tmp_path, "whole", **changing)
    rates = [line["lr"] / 0.01 for line in records(whole.folder)]
    last_steps = [(epoch * STEPS - 1) / (3 * STEPS) for epoch in (1, 2, 3)]
    cosine = [0.5 + 0.5 * math.cos(math.pi * done) for done in last_steps]
    assert rates == pytest.approx([cosine[0] / 1.5, *cosine[1:]])
    run(tmp_path, on_step=at_step(step, interrupt), **changing)
    assert_same_end(trainer.train(output=str(tmp_path / "run"), resume=True), whole)


def test_the_rate_of_an_epoch_whose_validation_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = {"schedule": "cosine", "warmup": 1.5}
    whole = run(tmp_path, "whole", **changing)
    evaluate = Model.evaluate

    def interrupted(self: Model, *args: Any) -> None:
        evaluate(self, *args)
        interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(Model, "evaluate", interrupted)
        run(tmp_path, **changing)
    assert_same_end(trainer.train(output=str(tmp_path / "run"), resume=True), whole)


def test_more_epochs_stretch_a_schedule_that_is_a_share_of_the_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, epochs=2, schedule="step")
    trainer.train(output=str(outcome.folder), resume=True, epochs=7)
    rates = [line["lr"] for line in records(outcome.folder)]
    assert rates == pytest.approx([0.01, 0.001, *[0.01] * 4, 0.001])
