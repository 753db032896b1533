"""Names from outside, at every place where a command shows or writes them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from pyalexnet.commands import evaluate, predict
from pyalexnet.commands import train as train_command

Captured = pytest.CaptureFixture[str]

#: As a file system may have them: escapes, line breaks, formulas, bytes, other directions.
NAMES = [b"=a\x1b]0;owned\x07\nb", b"caf\xe9", "\u202egnp \u4e00$x^$".encode()]
SHOWN = [r"=a\x1b]0;owned\x07\nb", r"caf\xe9", "\\u202egnp \u4e00$x^$"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images whose names, classes and folder are hostile, named by relative paths."""
    root = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(1)
    for split in (b"train", b"val"):
        for name in NAMES:
            place = os.path.join(os.fsencode(root / "data"), split, name)
            os.makedirs(place)
            for other in NAMES:
                pixels = rng.integers(0, 256, (10, 10, 3)).astype(np.uint8)
                with open(os.path.join(place, other + b".png"), "wb") as file:
                    Image.fromarray(pixels).save(file, "png")
    tiny.write_net(root / "net\x1b.json")
    return root


@pytest.fixture
def within(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    yield folder


def shown(capsys: Captured) -> str:
    """What was printed, which a terminal can take."""
    out, err = capsys.readouterr()
    for letter in out + err:
        assert letter == "\n" or unicodedata.category(letter)[0] != "C", repr(letter)
    return out


TRAIN = ["--data", "data", "--net", "net\x1b.json", "--image-size=10", "--batch-size=8"]
RUN = "run\x1b"


def test_training_and_testing(within: Path, capsys: Captured) -> None:
    words = [*TRAIN, "--epochs=1", "--lr=0.01", "--output", RUN, "--workers=1", "-v"]
    assert train_command.main(words) == 0
    assert r"run\x1b" in shown(capsys)
    assert train_command.main([*words, "--overwrite", "--summary"]) == 0
    shown(capsys)
    assert train_command.main(["--resume", RUN, "--test-only", "--workers=1"]) == 0
    assert r"run\x1b/last.safetensors" in shown(capsys)
    assert train_command.main([*words, "--resume", "no\x1b.safetensors"]) == 2
    shown(capsys)


@pytest.fixture
def best(within: Path, capsys: Captured) -> Path:
    path = within / RUN / "best.safetensors"
    if not path.exists():
        assert train_command.main([*TRAIN, "--epochs=1", "--lr=0.01", "--output", RUN, "-q"]) == 0
    return Path(RUN, "best.safetensors")


def test_evaluation(best: Path, tmp_path: Path, capsys: Captured) -> None:
    table = tmp_path / "p.csv"
    words = [str(best), "--per-class", "-v", f"--predictions={table}", "--workers=1"]
    assert evaluate.main(words) == 0
    out = shown(capsys)
    assert all(name in out for name in SHOWN)
    content = table.read_bytes().decode()  # UTF-8
    rows = list(csv.reader(io.StringIO(content)))
    assert len(rows) == 10
    check_cells(rows)
    assert rows[1][2] in SHOWN or rows[1][2][1:] in SHOWN


def check_cells(rows: list[list[str]]) -> None:
    for row in rows:
        for text in row:
            assert text[:1] not in tuple("=+-@\t\r") or (text[0] == "-" and text[1:].isdigit())
            assert all(unicodedata.category(letter)[0] != "C" for letter in text)


def test_prediction(best: Path, tmp_path: Path, capsys: Captured) -> None:
    images = [str(path) for path in sorted(Path("data/val").rglob("*.png"))][:6]
    assert predict.main([str(best), *images]) == 0
    out = shown(capsys)
    assert out.count("\n") == len(images)
    assert predict.main([str(best), *images, "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(shown(capsys))))
    assert len(rows) == 1 + len(images)
    check_cells(rows)
    assert predict.main([str(best), *images, "--json"]) == 0
    assert len(json.loads(shown(capsys))) == len(images)
    for kind in ("png", "pdf"):
        assert predict.main([str(best), *images, "-q", f"--figure={tmp_path / f'f.{kind}'}"]) == 0
        assert (tmp_path / f"f.{kind}").stat().st_size > 1000
    assert shown(capsys) == ""


def test_bad_image_among_others(best: Path, tmp_path: Path, capsys: Captured) -> None:
    good = next(Path("data/val").rglob("*.png"))
    shutil.copy(good, tmp_path / "good.png")
    (tmp_path / "ba\x1bd.png").write_bytes(good.read_bytes()[:50])
    (tmp_path / "text.png").write_text("text")
    os.mkfifo(tmp_path / "pipe.png")
    images = [str(tmp_path / name) for name in ("ba\x1bd.png", "good.png", "text.png", "pipe.png")]
    assert predict.main([str(best), *images, f"--figure={tmp_path / 'f.png'}"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "good.png: " in out
    assert err.count("pyalexnet-predict: error: ") == err.count("\n") == 3
    assert r"ba\x1bd.png" in err and "text.png" in err and "pipe.png" in err
    assert (tmp_path / "f.png").exists()
    assert predict.main([str(best), images[0], f"--figure={tmp_path / 'g.png'}"]) == 2
    assert not (tmp_path / "g.png").exists()
    assert "none of which can be read" in shown_error(capsys)


def shown_error(capsys: Captured) -> str:
    return capsys.readouterr().err


def test_outputs_are_no_inputs(best: Path, tmp_path: Path, capsys: Captured) -> None:
    image = tmp_path / "a.png"
    shutil.copy(next(Path("data/val").rglob("*.png")), image)
    (tmp_path / "c.pdf").symlink_to(best.absolute())
    before = image.read_bytes(), best.read_bytes()
    for command, words in (
        (predict, [str(best), str(image), f"--figure={image}"]),
        (predict, [str(best), str(image), f"--figure={tmp_path / 'c.pdf'}"]),
        (evaluate, [str(best), f"--predictions={best}"]),
        (evaluate, [str(best), f"--submission={tmp_path / 'c.pdf'}"]),
        (evaluate, [str(best), f"--predictions={next(Path('data').rglob('*.png'))}"]),
        (train_command, ["--recipe", f"{RUN}/run.toml", "--output", RUN, "--overwrite"]),
    ):
        assert command.main(words) == 2
        error = shown_error(capsys)
        assert "is one of the inputs" in error or "is what this run would write" in error
    assert (image.read_bytes(), best.read_bytes()) == before
