"""The commands: exit statuses, messages, and results that agree."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers import target, tiny
from helpers.data_files import write_mnist
from pyalexnet.__main__ import COMMANDS
from pyalexnet.__main__ import main as any_command
from pyalexnet.commands import common
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
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [*words, f"--output={folder / 'run'}", *more]


def test_train_takes_every_option(tmp_path: Path, trained: Outcome, capsys: Captured) -> None:
    spelled_out = ["--lr=0.01", "--bias-lr=0.02", "--momentum=0.9", "--weight-decay=5e-4"]
    spelled_out += ["--dropout=0.5", "--crop-pad=0", "--mirror", "--workers=1", "--threads=1"]
    spelled_out += [
        "--shared-crop=1",
        "--colour-noise=0",
        "--colour-variant=paper",
        "--verbose",
        "--weight-stats",
        "--skip-bad-images",
        "--overwrite",
    ]
    assert train_command.main(arguments(tmp_path, *spelled_out, "--epochs=2")) == 0
    out, err = capsys.readouterr()
    assert (err, "epoch 2/2  error" in out) == ("", True)
    assert tiny.records(tmp_path / "run") == tiny.records(trained.folder)


def test_summary(tmp_path: Path, capsys: Captured) -> None:
    assert train_command.main(arguments(tmp_path, "--summary", f"--device={target.PAIR}")) == 0
    out, _ = capsys.readouterr()
    assert f"tiny, tower 1, on {target.NAMES[-1]}" in out and not (tmp_path / "run").exists()
    assert train_command.main(arguments(tmp_path, "--summary", "--data=folder:/nowhere")) == 2


def test_json_is_one_value_and_nothing_else(
    tmp_path: Path, trained: Outcome, capsys: Captured
) -> None:
    def printed(command: Callable[[list[str]], int], *words: str) -> Any:
        assert command([*words, "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out)

    summary = printed(train_command.main, *arguments(tmp_path, "--summary"))
    [part] = summary["parts"]
    assert [layer["name"] for layer in part["layers"]] == ["input", *tiny.NET.names]
    assert part["parameters"] == sum(p.size for p in tiny.NET.parameters().values())
    assert part["optimiser_bytes"] * 2 == part["weight_bytes"] > 0
    last = tiny.records(trained.folder)[-1]
    path = trained.folder / "last.safetensors"
    found = printed(evaluate_command.main, str(path), "--per-class", "--verbose")
    assert (found["top1_error"], found["images"]) == (last["val_top1_error"], tiny.VAL)
    assert "top5_error" not in found  # of three classes
    assert [row["class"] for row in found["classes"]] == list(tiny.CLASSES)
    assert found["checkpoints"][0]["path"] == str(path)
    for words in (["--output", str(trained.folder)], ["--resume", str(path)]):
        [tested, *_] = printed(train_command.main, "--test-only", *words)
        assert (tested["checkpoint"], tested["top1_error"]) == (str(path), last["val_top1_error"])
    build = printed(lambda words: any_command(["info", *words]))
    assert build["default_device"] == target.NAME and build["host"]["problem"] is None
    assert train_command.main(["--json"]) == 2


@pytest.mark.host_only("computes nothing")
def test_json_has_no_nan(capsys: Captured) -> None:
    common.print_json({"loss": math.nan, "all": [1.5, (math.inf,)]})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "all": [1.5, [None]]}


def test_eval_names_the_data_that_has_gone(tmp_path: Path, capsys: Captured) -> None:
    outcome = tiny.run(tmp_path, epochs=1, quiet=True)
    (tmp_path / "data").rename(tmp_path / "moved")
    checkpoint = str(outcome.folder / "best.safetensors")
    assert evaluate_command.main([checkpoint]) == 2
    assert capsys.readouterr().err.endswith(
        f"{checkpoint} was trained on folder:{tmp_path / 'data'}: give --data, as in --data "
        "folder:DIR\n"
    )
    assert evaluate_command.main([checkpoint, f"--data=folder:{tmp_path / 'moved'}"]) == 0
    assert evaluate_command.main([checkpoint, "--data=folder:/nowhere"]) == 2
    assert "was trained on" not in capsys.readouterr().err


def writing_to(file: Any, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command whose standard output is `file`, and buffered as for users."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "pyalexnet", *words]
    return subprocess.run(
        command, cwd=folder, env=environ, stdout=file, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.host_only("is about processes")
@pytest.mark.parametrize("words", [["info"], ["train", "--help"], ["train", "--summary"]])
def test_a_reader_that_has_gone_ends_a_command_silently(words: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = writing_to(writing, tmp_path, *words)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.host_only("is about processes")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = writing_to(full, tmp_path, "train", "--summary")
    assert done.returncode == 1
    assert done.stderr == (
        "pyalexnet-train: error: standard output cannot be written: No space left on device\n"
    )


@pytest.mark.host_only("computes nothing")
def test_what_nobody_foresaw_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    for error, words in (
        (FileNotFoundError(2, "no", "fi\nle"), r"fi\nle: no"),
        (BrokenPipeError(32, "a worker's"), "a worker's"),
        (MemoryError(), "not enough memory"),
        (RecursionError("deep"), "RecursionError: deep"),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "UnicodeEncodeError: "),
        (OverflowError("large"), "OverflowError: large"),
    ):

        def failing(error: Exception = error, **options: Any) -> None:
            raise error

        monkeypatch.setattr("pyalexnet.training.trainer.train", failing)
        assert train_command.main([]) == 1
        shown = capsys.readouterr().err
        assert shown.startswith(f"pyalexnet-train: error: {words}")
        assert shown.endswith("; PYALEXNET_TRACEBACK=1 shows where\n") and shown.count("\n") == 1
    monkeypatch.setenv("PYALEXNET_TRACEBACK", "1")
    assert train_command.main([]) == 1
    assert "in failing" in capsys.readouterr().err


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_two_screens(name: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        any_command([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 64 and max(map(len, lines)) <= 80
    assert lines[2].strip().startswith(lines[0].split()[1])  # the examples come first
    assert lines[3].strip().startswith(lines[0].split()[1]) and not lines[4]


def test_summary_of_a_recipe(tmp_path: Path, capsys: Captured) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text("[mine]\nbatch-size = 3\n")
    words = [word for word in arguments(tmp_path) if not word.startswith("--batch-size")]
    assert train_command.main([*words, "--summary", f"--recipe={recipe}"]) == 0
    assert "up to 3 images" in capsys.readouterr().out


def test_no_mirror(tmp_path: Path, trained: Outcome) -> None:
    words = arguments(tmp_path, "--epochs=2", "--no-mirror", "--quiet")
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
    command = re.search(r"^resume with: pyalexnet-train --resume '(.*)'$", out, re.M)
    assert command, out
    assert train_command.main(["--resume", command[1]]) == 0
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
        (["--device=cuda:99"], "device cuda:99: "),
        (["--device=host,"], "device is ''; expected cpu, cuda or cuda:<index>"),
        (["--device=host,host,host"], "3 devices; expected one, or two for the two towers"),
        (["--batch-size=0"], "batch-size is 0; expected at least 1"),
        (["--workers=-1"], "workers is -1; expected 0 to 1024"),
        (["--threads=1025"], "threads is 1025; expected 1 to 1024"),
        (["--crop-pad=9007199254740992"], "crop-pad is 9007199254740992; expected at most 4096"),
        (["--schedule=never"], "schedule is 'never'; expected constant, plateau:N"),
        (["--net=large"], "net is 'large'; expected alexnet, "),
        (["--data=imagenet"], "data is 'imagenet'; expected shapes, "),
        (["--data=folder:{tmp}/none"], "/none: no such folder"),
        (["--resume"], "last.safetensors: no such file; expected the checkpoint of a run, or "),
        (["--test-only"], "no checkpoint; expected last.safetensors"),
        (["--lr=1e30"], "training diverged by step "),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: Captured, more: list[str], message: str
) -> None:
    words = [word.replace("{tmp}", str(tmp_path)) for word in more]
    assert train_command.main(arguments(tmp_path, *words)) == 2
    err = capsys.readouterr().err
    assert err.startswith("pyalexnet-train: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--batch-size=many", "batch-size is 'many'; expected a whole number"),
        ("-b 1.5", "batch-size is '1.5'; expected a whole number"),
        ("--wd=x", "weight-decay is 'x'; expected a number"),
        ("--colour-variant=x", "colour-variant is 'x'; expected one of paper, code"),
        ("--lr", "--lr has no value; expected one"),
        ("--mirror=3", "--mirror has the value '3'; expected none"),
        ("stray", "argument is 'stray'; expected an option before it"),
        ("--output=", "output is ''; expected a value"),
        ("--resume ''", "resume is ''; expected a value"),
        ("--mirror ''", "argument is ''; expected a value"),
        ("-j ''", "j is ''; expected a value"),
        (".", "argument is '.'; expected an option, as in --data ."),
        ("--frobnicate", "--frobnicate is unknown; pyalexnet-train --help lists the options"),
        # What other tools have, and what was here before.
        ("--arch=vgg", "--arch is unknown; expected --net"),
        ("-a vgg", "-a is unknown; expected --net"),
        ("--gpu 0", "--gpu is unknown; expected --device"),
        ("-gpu 0", "-gpu is unknown; expected --device"),
        ("--lr-step-size 3", "--lr-step-size is unknown; expected --schedule"),
        ("--learning_rate 3", "--learning_rate is unknown; expected --lr"),
        ("--solver=x", "--solver is unknown; expected --recipe"),
        ("--snapshot=x", "--snapshot is unknown; expected --resume"),
        ("--amp", "--amp is unknown; expected none: all arithmetic is in float32"),
        ("-lr 1", "-lr is unknown; expected --lr"),
        ("--epoch 1", "--epoch is unknown; expected --epochs"),
        ("--devices=host", "--devices is unknown; expected --device"),
        ("--evaluate-only", "--evaluate-only is unknown; expected --test-only"),
        ("--no-progress", "--no-progress is unknown; expected --quiet"),
        ("--batch 3", "--batch is unknown; expected --batch-size"),  # no abbreviations
    ],
)
def test_invalid_arguments(capsys: Captured, more: str, message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_command.main(shlex.split(more))
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"pyalexnet-train: error: {message}\n"


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        (evaluate_command, "", "CHECKPOINT missing; expected pyalexnet-eval CHECKPOINT ..."),
        (evaluate_command, "--resume=x", "--resume is unknown; expected none, as the checkpoint "),
        (evaluate_command, "x --views=nine", "views is 'nine'; expected one of centre, ten, dense"),
        (evaluate_command, "''", "argument is ''; expected a value"),
        (evaluate_command, "x --predictions ''", "predictions is ''; expected a value"),
        (evaluate_command, "x --data=", "data is ''; expected a value"),
        (predict_command, "x y --figure ''", "figure is ''; expected a value"),
        (prepare_command, "--output x --train=", "train is ''; expected a value"),
        (evaluate_command, "x --crops ten", "--crops is unknown; expected --views"),
        (predict_command, "x", "IMAGE missing; expected pyalexnet-predict CHECKPOINT IMAGE ..."),
        (predict_command, "x y --csv --json", "--json and --csv are both given; expected one"),
        (prepare_command, "--train=x", "--output missing; expected pyalexnet-prepare --output"),
    ],
)
def test_invalid_arguments_of_the_others(
    capsys: Captured, command: ModuleType, more: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(shlex.split(more))
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{command.parser().prog}: error: {message}"), err
    assert err.count("\n") == 1


@pytest.mark.host_only("computes nothing")
def test_a_short_option_with_its_value() -> None:
    found = train_command.parser().options(["-b64", "-j", "3", "--wd=-1", "--resume"])
    assert found == {"batch_size": 64, "workers": 3, "weight_decay": -1.0, "resume": True}


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (train_command.main, "--device"),
        (evaluate_command.main, "--device"),
        (predict_command.main, "--device"),
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
        assert capsys.readouterr().out.startswith(f"usage: {script} ")
    assert any_command(["--version"]) == 0
    assert re.fullmatch(r"pyalexnet \S+\n", capsys.readouterr().out)
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
        f"loss {line['val_loss']:.4f}, top-1 error {100 * line['val_top1_error']:.2f} % "
        "on 12 images\n"
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
    words = r"loss \d\.\d{4}, top-1 error \d+\.\d\d % on 12 images"
    assert lines[0] == "label  class   images  top-1 error  most often mistaken for"
    assert sorted(line.split()[1] for line in lines[1:4]) == list(tiny.CLASSES)
    for path, line in zip(paths, lines[4:6], strict=True):
        assert re.fullmatch(f"{path}: {words} by 18 views", line)
    assert re.fullmatch(f"average of 2: {words}", lines[6])
    assert len(lines) == 7
    assert (tmp_path / "p.csv").read_text().count("\n") == 1 + tiny.VAL


def test_train_evaluate_only(trained: Outcome, capsys: Captured) -> None:
    folder = trained.folder
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert train_command.main(["--test-only", "--output", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(
        f"{folder / 'last.safetensors'}: " + expected_words(trained)
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.iterdir()) == before


def test_eval_mistakes(trained: Outcome, tmp_path: Path, capsys: Captured) -> None:
    checkpoint = trained.folder / "last.safetensors"
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint.read_bytes()[:-1])
    digits = write_mnist(tmp_path / "mnist")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for words, message in (
        ([str(damaged)], "damaged.safetensors: damaged"),
        ([str(tmp_path / "none")], "none: no such file"),
        (
            [str(checkpoint), f"--data=mnist:{digits}"],
            "expected that of mnist, 10×10×1",
        ),
        ([str(checkpoint), "--device=cuda:99"], "device cuda:99"),
        ([str(checkpoint), "--batch-size=0"], "batch-size is 0"),
        ([str(checkpoint), "--threads=0"], "threads is 0; expected 1 to 1024"),
        ([str(checkpoint), "--threads=1025"], "threads is 1025; expected 1 to 1024"),
        ([str(checkpoint), "--threads=4294967297"], "threads is 4294967297; expected 1 to 1024"),
        ([str(checkpoint), "--workers=-1"], "workers is -1; expected 0 to 1024"),
        ([str(checkpoint), "--workers=1000000000"], "workers is 1000000000; expected 0 to 1024"),
        ([str(checkpoint), f"--predictions={loop}"], "loop: cannot be written"),
        ([str(checkpoint), f"--predictions={loop}/p"], "loop/p: cannot be written"),
        ([str(checkpoint), f"--submission={loop}"], "loop: cannot be written"),
        ([str(checkpoint), f"--data=folder:{loop}"], "loop: no such folder"),
        ([str(checkpoint), "--dense-stride=4"], "dense-stride is 4, .*; expected --views dense"),
        ([str(checkpoint), f"--predictions={tmp_path}/no/p"], "/no/p: cannot be written"),
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
    assert evaluate([checkpoint], skip_bad_images=True).metrics.images == tiny.VAL - 1
    capsys.readouterr()
    assert evaluate_command.main([str(checkpoint), "--skip-bad-images"]) == 0
    assert capsys.readouterr().out.endswith(" on 11 images, 1 skipped\n")
    for image in images:
        image.write_bytes(b"")
    with pytest.raises(UserError, match=r"of 12 images cannot be decoded, .* expected at most 1"):
        evaluate([checkpoint], skip_bad_images=True)
