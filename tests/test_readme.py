"""README: its Python runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyalexnet

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```python\n(.*?)```", README, re.S)

pytestmark = pytest.mark.host_only("runs what README says, on the default device")


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_script_trains_and_saves_a_net(tmp_path: Path) -> None:
    out = run(SCRIPTS[0], tmp_path)
    found = re.search(r"^validation error (\d+\.\d) %$", out, re.M)
    assert found and float(found[1]) < 60  # of ten classes, after one epoch
    assert "'conv1.weight': (3, 5, 5, 24)" in out
    assert (tmp_path / "losses.png").stat().st_size > 1000
    model = pyalexnet.load(tmp_path / "shapes.safetensors", "host", 1)
    assert model.net.name == "small"


@pytest.mark.parametrize("script", SCRIPTS[1:], ids=["net", "kernels"])
def test_the_other_scripts_run(script: str, tmp_path: Path) -> None:
    run(script, tmp_path)


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_public_names_are_there() -> None:
    assert set(pyalexnet.__all__) <= set(dir(pyalexnet))
    for name in pyalexnet.__all__:
        assert getattr(pyalexnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nett'"):
        pyalexnet.Nett  # noqa: B018
