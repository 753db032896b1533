"""Runs on a folder without val/: evaluation uses the images that training held out."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from helpers import target, tiny
from pyalexnet.data import open_dataset
from pyalexnet.errors import CheckpointError, DataError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training.trainer import Outcome, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[float | None, Outcome]:
    """Runs with several shares on one folder, beside it."""
    folder = tmp_path_factory.mktemp("runs")
    tiny.write_data(folder / "both")
    shutil.copytree(folder / "both" / "train", folder / "photos")
    more = {"epochs": 1, "data": str(folder / "photos")}
    return {
        share: tiny.run(folder, f"run-{share}", val_share=share, **more) for share in (None, 0.4)
    }


@pytest.mark.parametrize("share", [None, 0.4])
def test_evaluation_uses_the_same_images(
    runs: dict[float | None, Outcome], share: float | None, tmp_path: Path
) -> None:
    run = runs[share].folder
    path = run / "last.safetensors"
    photos = run.parent / "photos"
    val = open_dataset(str(photos), size=10, val_share=share or 0.1).val
    saved = checkpoints.load(path)
    assert saved.data["val_share"] == (share or 0.1)
    assert saved.data["val"] == len(val) and saved.data["train"] == tiny.TRAIN - len(val)
    table = tmp_path / "table.csv"
    for data in (None, str(photos), f"folder:{photos}"):
        result = evaluate([path], data, predictions=table, device=target.NAME)
        assert result.metrics.top1_error == pytest.approx(tiny.records(run)[-1]["val_top1_error"])
        with table.open() as file:
            rows = list(csv.reader(file))[1:]
        assert [row[0] for row in rows] == [val.name(index) for index in range(len(val))]
    with_val = evaluate([path], str(run.parent / "both"), device=target.NAME)
    assert with_val.metrics.images == tiny.VAL


def test_a_resumed_run_holds_out_the_same_images(runs: dict[float | None, Outcome]) -> None:
    for share, outcome in runs.items():
        before = checkpoints.load(outcome.folder / "last.safetensors").data
        resumed = train(resume=True, output=str(outcome.folder), epochs=2)
        after = checkpoints.load(resumed.folder / "last.safetensors")
        assert after.data == before and after.options["val_share"] == share


def test_nets_of_different_shares_are_not_averaged(runs: dict[float | None, Outcome]) -> None:
    paths = [outcome.folder / "last.safetensors" for outcome in runs.values()]
    with pytest.raises(CheckpointError, match=r"run-0\.4/.*: val-share is 0\.4; expected 0\.1"):
        evaluate(paths, device=target.NAME)
    both = paths[0].parent.parent / "both"
    assert evaluate(paths, str(both), device=target.NAME).metrics.images == tiny.VAL


def test_data_that_has_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_data(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    for spec, form in (("photos", "DIR"), ("folder:photos", "folder:DIR")):
        run = tiny.run(tmp_path, "run", data=spec, epochs=1, overwrite=True).folder
        paths = [run / "last.safetensors"]
        Path("photos").rename("moved")
        expected = f"{paths[0]} was trained on {spec}: give --data, as in --data {form}"
        with pytest.raises(DataError, match=f"{re.escape(expected)}$"):
            evaluate(paths, device=target.NAME)
        assert evaluate(paths, "moved", device=target.NAME).metrics.images == tiny.VAL
        Path("moved").rename("photos")


def test_the_head_tells_what_is_held_out(
    runs: dict[float | None, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(runs[None].folder.parent / "photos", photos)
    (photos / "red" / "notes.txt").touch()
    capsys.readouterr()
    tiny.run(tmp_path, data=str(photos), epochs=1, val_share=0.25)
    out = capsys.readouterr().out
    assert "a share of 0.25 of each class, chosen by file name, is held out" in out
    assert "1 left out: red/notes.txt (not named as an image)" in out
