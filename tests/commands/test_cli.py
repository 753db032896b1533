"""The commands: exit statuses, messages, and results that agree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import target, tiny
from helpers.data_files import write_mnist
from pyalexnet.__main__ import COMMANDS
from pyalexnet.__main__ import main as any_command
from pyalexnet.commands import evaluate as evaluate_command
from pyalexnet.commands import predict as predict_command
from pyalexnet.commands import prepare as prepare_command
from pyalexnet.commands import train as train_command
from pyalexnet.errors import UserError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.model import Model
from pyalexnet.training.trainer import Outcome

pytestmark = pytest.mark.usefixtures("auto")

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return tiny.run(tmp_path_factory.mktemp("trained"), epochs=2)


def arguments(folder: Path, *more: str) -> list[str]:
    """`tiny.options` as arguments."""
    given = tiny.options(folder)
    del given["weight_stats"]
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [*words, f"--output={folder / 'run'}", *more]


def test_train_takes_every_option(tmp_path: Path, trained: Outcome, capsys: Captured) -> None:
    spelled_out = ["--lr=0.01", "--bias-lr=0.02", "--momentum=0.9", "--weight-decay=5e-4"]
    spelled_out += ["--dropout=0.5", "--crop-pad=0", "--mirror", "--workers=1", "--threads=1"]
    spelled_out += [
        "--shared-crop=1",
        "--colour-noise=0",
        "--colour-variant=paper",
        "--no-progress",
        "--no-weight-stats",
        "--skip-bad-images",
        "--overwrite",
    ]
    assert train_command.main(arguments(tmp_path, *spelled_out, "--epochs=2")) == 0
    out, err = capsys.readouterr()
    assert (err, "epoch 2/2  training loss" in out) == ("", True)
    assert tiny.records(tmp_path / "run") == tiny.records(trained.folder)


def test_summary(tmp_path: Path, capsys: Captured) -> None:
    assert train_command.main(arguments(tmp_path, "--summary", f"--devices={target.PAIR}")) == 0
    out, _ = capsys.readouterr()
    assert f"tiny, tower 1, on {target.NAMES[-1]}" in out and not (tmp_path / "run").exists()
    assert train_command.main(arguments(tmp_path, "--summary", "--data=folder:/nowhere")) == 2


def test_summary_of_a_recipe(tmp_path: Path, capsys: Captured) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[mine]\nbatch-size = 3\n")
    words = [word for word in arguments(tmp_path) if not word.startswith("--batch-size")]
    assert train_command.main([*words, "--summary", f"--recipe={recipe}"]) == 0
    assert "up to 3 images" in capsys.readouterr().out


def test_no_mirror(tmp_path: Path, trained: Outcome) -> None:
    words = arguments(tmp_path, "--epochs=2", "--no-mirror", "--no-progress")
    assert train_command.main(words) == 0
    assert tiny.records(tmp_path / "run") != tiny.records(trained.folder)


def test_train_interrupted_and_resumed_by_the_printed_command(
    tmp_path: Path, trained: Outcome, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward_backward = Model.forward_backward

    def interrupting(self: Model, *args: Any, **more: Any) -> None:
        forward_backward(self, *args, **more)
        os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "a folder"  # a shell needs it quoted
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Model, "forward_backward", interrupting)
        assert train_command.main(arguments(folder, "--epochs=2")) == 130
    out = capsys.readouterr().out
    command = re.search(r"^resume with: pyalexnet-train --resume --output '(.*)'$", out, re.M)
    assert command, out
    assert train_command.main(["--resume", "--output", command[1]]) == 0
    assert tiny.records(folder / "run") == tiny.records(trained.folder)


@pytest.mark.host_only("computes nothing")
def test_interrupt_outside_of_training(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(**options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pyalexnet.training.trainer.train", interrupted)
    assert train_command.main([]) == 130
    assert capsys.readouterr().err == "pyalexnet-train: interrupted\n"


@pytest.mark.host_only("computes nothing")
def test_bugs_show_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(**options: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pyalexnet.training.trainer.train", buggy)
    with pytest.raises(ZeroDivisionError):
        train_command.main([])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--devices=cuda:99"], "device cuda:99: "),
        (["--devices=host,"], "device is ''; expected host or cuda:<index>"),
        (["--devices=host,host,host"], "3 devices; expected one, or two for the two towers"),
        (["--batch-size=0"], "batch-size is 0; expected at least 1"),
        (["--schedule=never"], "schedule is 'never'; expected constant, plateau:N"),
        (["--net=large"], "net is 'large'; expected alexnet, "),
        (["--data=imagenet"], "data is 'imagenet'; expected shapes, "),
        (["--data=folder:/nowhere"], "/nowhere: no such folder"),
        (["--resume"], "last.safetensors: no such file"),
        (["--evaluate-only"], "no checkpoint; expected last.safetensors"),
        (["--lr=1e30"], "training diverged by step "),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: Captured, more: list[str], message: str
) -> None:
    assert train_command.main(arguments(tmp_path, *more)) == 2
    err = capsys.readouterr().err
    assert err.startswith("pyalexnet-train: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    "more", [["--batch-size=many"], ["--frobnicate"], ["--resume", "--overwrite"], ["stray"]]
)
def test_invalid_arguments(capsys: Captured, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_command.main(more)
    assert stopped.value.code == 2
    assert "pyalexnet-train: error: " in capsys.readouterr().err


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (train_command.main, "--devices"),
        (evaluate_command.main, "--devices"),
        (predict_command.main, "--devices"),
        (prepare_command.main, "--shard-images"),
    ],
)
def test_help(capsys: Captured, command: Callable[[list[str]], int], option: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(["--help"])
    assert stopped.value.code == 0
    assert option in capsys.readouterr().out


@pytest.mark.host_only("computes nothing")
def test_module_lists_and_runs_the_commands(capsys: Captured) -> None:
    for words in ([], ["--help"]):
        assert any_command(words) == 0
        out = capsys.readouterr().out
        assert out.startswith("usage: python -m pyalexnet COMMAND")
        assert [line.split()[0] for line in out.splitlines()[2:]] == list(COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            any_command([name, "--help"])
        assert stopped.value.code == 0
        script = "python -m pyalexnet info" if name == "info" else f"pyalexnet-{name}"
        assert capsys.readouterr().out.startswith(f"usage: {script} [-h]")
    assert any_command(["fly", "--help"]) == 2
    assert capsys.readouterr().err == (
        "python -m pyalexnet: error: command is 'fly'; expected one of train, eval, predict, "
        "prepare, info\n"
    )


@pytest.mark.host_only("computes nothing")
def test_module_returns_the_commands_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyalexnet", "eval", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("pyalexnet-eval: error: ")


def expected_words(outcome: Outcome) -> str:
    line = tiny.records(outcome.folder)[-1]
    return (
        f"loss {line['val_loss']:.4f}, top-1 error {100 * line['val_top1_error']:.2f} %, "
        f"top-5 error {100 * line['val_top5_error']:.2f} % on 12 images\n"
    )


def test_eval_repeats_the_validation(trained: Outcome, capsys: Captured) -> None:
    checkpoint = str(trained.folder / "last.safetensors")
    data = f"folder:{trained.folder.parent / 'data'}"
    for more in ([], [f"--data={data}"], ["--batch-size=5", "--workers=1", "--threads=1"]):
        assert evaluate_command.main([checkpoint, *more]) == 0
        assert capsys.readouterr().out == expected_words(trained)


def test_eval_of_several_by_views(trained: Outcome, tmp_path: Path, capsys: Captured) -> None:
    paths = [str(trained.folder / f"{name}.safetensors") for name in ("last", "best")]
    words = [paths[0], "--views=dense", paths[1], "--dense-stride=1", "--per-class"]
    assert evaluate_command.main([*words, "--predictions", str(tmp_path / "p.csv")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    words = r"loss \d\.\d{4}, top-1 error \d+\.\d\d %, top-5 error 0\.00 % on 12 images"
    assert re.match(
        "label  class   images  top-1 error  top-5 error  most often mistaken for", lines[0]
    )
    assert sorted(line.split()[1] for line in lines[1:4]) == list(tiny.CLASSES)
    for path, line in zip(paths, lines[4:6], strict=True):
        assert re.fullmatch(f"{path}: {words} by 18 views", line)
    assert re.fullmatch(f"average of 2: {words}", lines[6])
    assert len(lines) == 7
    assert (tmp_path / "p.csv").read_text().count("\n") == 1 + tiny.VAL


def test_train_evaluate_only(trained: Outcome, capsys: Captured) -> None:
    folder = trained.folder
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert train_command.main(["--evaluate-only", "--output", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(
        f"{folder / 'last.safetensors'}: " + expected_words(trained)
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


def test_eval_mistakes(trained: Outcome, tmp_path: Path, capsys: Captured) -> None:
    checkpoint = trained.folder / "last.safetensors"
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:-1])
    digits = write_mnist(tmp_path / "mnist")
    for words, message in (
        ([str(damaged)], "damaged.safetensors: damaged"),
        ([str(tmp_path / "none")], "none: no such file"),
        (
            [str(checkpoint), f"--data=mnist:{digits}"],
            "expected that of mnist, 10×10×1",
        ),
        ([str(checkpoint), "--devices=cuda:99"], "device cuda:99"),
        ([str(checkpoint), "--batch-size=0"], "batch-size is 0"),
        ([str(checkpoint), "--threads=0"], "threads is 0"),
        ([str(checkpoint), "--dense-stride=4"], "dense-stride is 4, .*; expected --views dense"),
        ([str(checkpoint), "--predictions=/none/p"], "/none/p: cannot be written"),
        ([str(checkpoint), f"--submission={tmp_path / 's'}"], ".*ILSVRC2012_IDs"),
    ):
        assert evaluate_command.main(words) == 2
        err = capsys.readouterr().err
        assert re.match(rf"pyalexnet-eval: error: .*{message}", err), err
        assert err.count("\n") == 1


def test_eval_of_unreadable_images(tmp_path: Path, capsys: Captured) -> None:
    checkpoint = tiny.run(tmp_path, epochs=1).folder / "last.safetensors"
    images = sorted((tmp_path / "data" / "val").glob("*/*.png"))
    images[0].write_bytes(b"")
    with pytest.raises(UserError, match=images[0].name):
        evaluate([checkpoint])
    assert evaluate([checkpoint], skip_bad=True).metrics.images == tiny.VAL - 1
    capsys.readouterr()
    assert evaluate_command.main([str(checkpoint), "--skip-bad-images"]) == 0
    assert capsys.readouterr().out.endswith(" on 11 images, 1 skipped\n")
    for image in images:
        image.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 12 validation images could be read"):
        evaluate([checkpoint], skip_bad=True)
