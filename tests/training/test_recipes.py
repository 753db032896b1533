"""Recipes: the published numbers, how they give way to other options, mistakes named in full."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import target, tiny
from pyalexnet.commands import train as train_command
from pyalexnet.errors import UserError
from pyalexnet.nn import schedules, zoo
from pyalexnet.training import recipes
from pyalexnet.training.checkpoint import load
from pyalexnet.training.options import Options
from pyalexnet.training.recipes import RecipeError

#: What all recipes share (ALEXNET's section 5, and the code's rate of biases).
COMMON = {
    "image_size": 256,
    "epochs": 90,
    "lr": 0.01,
    "bias_lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "dropout": 0.5,
    "crop_pad": 0,
    "mirror": True,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "paper": {
        "net": "alexnet",
        "batch_size": 128,
        "schedule": "plateau:5",
        "shared_crop": 1,
        "colour_noise": 0.1,
        "colour_variant": "paper",
    },
    "original": {
        "net": "alexnet-code",
        "batch_size": 128,
        "schedule": "epochs:23,51,78",
        "shared_crop": 32,
        "colour_noise": 0.1,
        "colour_variant": "code",
    },
    "caffe": {
        "net": "alexnet-caffe",
        "batch_size": 256,
        "schedule": "epochs:20,40,60,80",
        "shared_crop": 1,
        "colour_noise": 0.0,
    },
    "one-weird-trick": {
        "net": "alexnet-one-tower",
        "batch_size": 128,
        "schedule": "epochs:22,45,67",
        "shared_crop": 1,
        "colour_noise": 0.1,
        "colour_variant": "code",
    },
    "he": {
        "net": "alexnet-he",
        "batch_size": 128,
        "schedule": "plateau:5",
        "shared_crop": 1,
        "colour_noise": 0.1,
        "colour_variant": "code",
    },
}


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name: str) -> None:
    options = recipes.load(name)
    assert options == COMMON | PUBLISHED[name]
    Options(**options).check()
    assert zoo.get(options["net"]).parameters()
    assert schedules.schedule(options["schedule"])


@pytest.mark.host_only("computes nothing")
def test_these_are_all_and_the_help_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.names() == list(PUBLISHED)
    with pytest.raises(SystemExit):
        train_command.main(["--help"])
    text = "".join(capsys.readouterr().out.split())  # wrapped anywhere
    assert f"recipe:{','.join(PUBLISHED)},or" in text


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.host_only("computes nothing")
def test_a_file_of_ones_own(tmp_path: Path) -> None:
    one = write(tmp_path / "one.toml", "[mine]\nlr = 1\nbatch-size = 7\nmirror = false\n")
    assert recipes.load(one) == recipes.load(f"{one}:mine")
    assert recipes.load(one) == {"lr": 1.0, "batch_size": 7, "mirror": False}
    assert type(recipes.load(one)["lr"]) is float
    copied = shutil.copy(recipes.FILE, tmp_path / "copy.toml")
    assert recipes.load(f"{copied}:original") == recipes.load("original")
    every = {field.name: field.default for field in dataclasses.fields(Options)}
    lines = [
        f"{name.replace('_', '-')} = {str(value).lower() if type(value) is bool else repr(value)}"
        for name, value in every.items()
        if value is not None
    ]
    two = write(tmp_path / "two.toml", "\n".join(["[all]", *lines, "[none]"]))
    assert recipes.load(f"{two}:all") == {k: v for k, v in every.items() if v is not None}
    assert recipes.load(f"{two}:none") == {}


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("text", "table", "message"),
    [
        ("[a]\nxyz = 1", "", r"r\.toml, recipe a: unknown key xyz; expected some of net, data"),
        ("[a]\nbias_lr = 1", "", r"recipe a: unknown key bias_lr; .*bias-lr"),
        ("[a]\nrecipe = 'b'", "", "recipe a: unknown key recipe"),
        (
            "[a]\nbatch-size = 1.5",
            "",
            r"r\.toml, recipe a: batch-size is 1\.5; expected a whole number",
        ),
        ("[a]\nbatch-size = true", "", "recipe a: batch-size is True; expected a whole number"),
        ("[a]\nlr = '0.1'", "", r"recipe a: lr is '0\.1'; expected a number"),
        ("[a]\nmirror = 1", "", "recipe a: mirror is 1; expected true or false"),
        ("[a]\nnet = 3", "", "recipe a: net is 3; expected a string"),
        ("[a]\nepochs = 0", "", r"r\.toml, recipe a: epochs is 0; expected at least 1"),
        ("[a]\nlr = nan", "", "recipe a: lr is nan; expected at least 0"),
        ("[a]\nschedule = 'never'", "", "recipe a: schedule is 'never'; expected constant"),
        ("[a]\nnet = 'vgg'", "", "recipe a: net is 'vgg'; expected alexnet"),
        ("[a]\nnet = 'none.json'", "", r"recipe a: none\.json: no such file"),
        ("[a]\ncolour-variant = 'pca'", "", "recipe a: colour-variant is 'pca'"),
        ("[a.b]\nlr = 1", "", "recipe a: unknown key b"),
        ("lr = 1\n[a]", "", r"r\.toml: lr is outside of any table"),
        ("[a]\n[b]", "", r"r\.toml: has a, b; choose one by --recipe .*r\.toml:NAME"),
        ("", "", r"r\.toml: has no recipes"),
        ("[a]\n[b]", ":c", r"r\.toml: no recipe 'c'; expected one of a, b$"),
        ("[a]\nlr = ", "", r"r\.toml: damaged, or not TOML: Invalid value"),
        ("[a]\n[a]", "", r"r\.toml: damaged, or not TOML"),
    ],
)
def test_mistakes_name_file_table_and_key(
    tmp_path: Path, text: str, table: str, message: str
) -> None:
    spec = write(tmp_path / "r.toml", text) + table
    with pytest.raises(RecipeError, match=message):
        recipes.load(spec)


@pytest.mark.host_only("computes nothing")
def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for spec in (f"{tmp_path}/none.toml", f"{tmp_path}/none.toml:a"):
        with pytest.raises(UserError, match=r"none\.toml: no such file"):
            recipes.load(spec)
    (tmp_path / "bad.toml").write_bytes(b"[a]\nnet = '\xff'")
    with pytest.raises(UserError, match=r"bad\.toml: damaged, or not TOML"):
        recipes.load(f"{tmp_path}/bad.toml")
    for spec in ("papre", "paper:original", ""):
        with pytest.raises(
            UserError, match=r"expected one of paper, original, caffe, .*FILE\.toml"
        ):
            recipes.load(spec)


def arguments(folder: Path, *more: str) -> list[str]:
    """A tiny run, all of whose options that a recipe may have are the recipe's."""
    options = tiny.options(folder)
    text = [
        "[tiny]",
        f"net = '{options['net']}'",
        "image-size = 10",
        "batch-size = 8",
        "epochs = 2",
    ]
    recipe = write(folder / "tiny.toml", "\n".join([*text, "lr = 0.02", "weight-stats = false"]))
    where = [
        f"--data={options['data']}",
        f"--device={target.NAME}",
        "--workers=0",
        "--quiet",
    ]
    return [f"--recipe={recipe}", *where, f"--output={folder / 'run'}", *more]


def test_options_given_go_before_the_recipes_and_a_resumed_run_keeps_both(tmp_path: Path) -> None:
    command = arguments(tmp_path, "--lr=0.005", "--colour-noise=0.1")
    assert train_command.main(command) == 0
    path = tmp_path / "run" / "last.safetensors"
    first = load(path).options
    kept = {"lr": 0.005, "epochs": 2, "batch_size": 8, "image_size": 10, "colour_noise": 0.1}
    assert {name: first[name] for name in kept} == kept
    assert train_command.main([*command, "--test-only"]) == 0

    (tmp_path / "tiny.toml").unlink()  # the run needs it no more
    assert train_command.main(["--resume", f"--output={tmp_path / 'run'}", "--epochs=3"]) == 0
    again = load(path)
    assert again.progress.epoch == 3
    assert again.options == first | {"epochs": 3, "quiet": False}


@pytest.mark.host_only("computes nothing")
def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--test-only"]):
        assert train_command.main(["--recipe=papre", *more]) == 2
        err = capsys.readouterr().err
        assert err.startswith("pyalexnet-train: error: ") and "no recipe 'papre'" in err
        assert err.count("\n") == 1


@pytest.mark.host_only("computes nothing")
def test_files_of_any_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name, words in (("pipe", "not a regular file"), ("folder", "it is a folder")):
        with pytest.raises(RecipeError, match=rf"{name}\.toml: cannot be read: {words}"):
            recipes.load(f"{tmp_path}/{name}.toml")
    with pytest.raises(UserError, match="no user nosuchuser"):
        recipes.load("~nosuchuser/x.toml")


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 2000,
        "[a]\nlr = " + "[" * 70 + "]" * 70,
        "[a]\nlr = " + "9" * 5000,
        "[a]\nlr = " + "9" * 4000,
        "[a]\nepochs = " + "9" * 4000,
        "[a]\nbatch-size = 9223372036854775807",
        f"[a]\nschedule = 'plateau:{'9' * 5000}'",
        f"[a]\nschedule = 'epochs:{'9' * 5000}'",
        f"[a]\nlr = '{'x' * 5000}'",
        f"[a]\n{'x' * 5000} = 1",
        '[a]\n"\\n\\u001b[31m" = 1',
        '"\\n\\u001b[31m" = 1',
        "\n".join(f"[a{n}]" for n in range(5000)),
        "[a]\nlr = 2000-01-01",
    ],
)
def test_damaged_or_hostile_files_are_a_short_line(tmp_path: Path, text: str) -> None:
    spec = write(tmp_path / "r.toml", text)
    with pytest.raises(RecipeError, match=r"r\.toml.*: ") as error:
        recipes.load(spec)
    shown = str(error.value).replace(spec, "")
    assert shown.isprintable() and len(shown) < 800


@pytest.mark.host_only("computes nothing")
def test_options_given_to_train_have_their_types() -> None:
    given = {"batch_size": np.int64(8), "lr": 1, "output": Path("a"), "mirror": np.bool_(False)}
    found = Options.of(given)
    assert found == Options(batch_size=8, lr=1.0, output="a", mirror=False)
    json.dumps(dataclasses.asdict(found))  # as a checkpoint will
    wrong = {"epochs": 2.0, "seed": True, "lr": "1", "mirror": 1, "net": 7, "momentum": 10**400}
    for name, value in wrong.items():
        with pytest.raises(UserError, match=rf"^{name} is .*; expected (a|true)"):
            Options.of({name: value})
