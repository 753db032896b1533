"""benchmarks/photos.py and benchmarks/defaults.py: the sets of which docs/defaults.md reports."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

pytestmark = pytest.mark.host_only("draws and counts")

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    """A script of benchmarks/ as a module; it may import others by their names."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


alternate, photos = load("alternate"), load("photos")
defaults = load("defaults")


@pytest.mark.parametrize("name", photos.SETS)
def test_photos_of_four_kinds(tmp_path: Path, name: str) -> None:
    folder = photos.write(tmp_path / "one", name, train=1, val=1)
    again = photos.write(tmp_path / "again", name, train=1, val=1)
    other = photos.write(tmp_path / "other", name, seed=1, train=1, val=1)
    kinds = sorted(path.name for path in (folder / "train").iterdir())
    assert kinds == [draw.__name__ for draw in photos.SETS[name]]
    seen = set()
    for kind in kinds:
        for place in ("train", "val"):
            first = f"{place}/{kind}/000.jpg"
            content = (folder / first).read_bytes()
            assert content == (again / first).read_bytes()
            assert content != (other / first).read_bytes()
            seen.add(content)
            with Image.open(folder / first) as image:
                assert image.format == "JPEG"
                assert all(300 <= side <= 1200 for side in image.size)
    assert len(seen) == 8


def test_a_row_of_the_table() -> None:
    runs = [
        defaults.Run(last, last - 0.01, seconds, 1, 79)
        for last, seconds in ((0.125, 90), (0.1, 70), (0.2, 80))
    ]
    assert defaults.row("photos-things", runs, []) == (
        "| photos-things | `pyalexnet-train --data …` | 79 | 12.5 % (10.0 to 20.0) | "
        "11.5 % (9.0 to 19.0) | 1 | 80 |"
    )


def test_epochs_at_chance_are_those_in_a_row() -> None:
    losses = [1.386, 1.38, 1.0, 1.39, 1.4, 1.36, 1.42]
    assert defaults.longest_at_chance([{"train_loss": loss} for loss in losses], 4) == 3
