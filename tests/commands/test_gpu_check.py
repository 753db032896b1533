"""benchmarks/gpu_check.py: how its stages end and what it writes of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.host_only("tests a script that starts the device's tests itself")

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"
spec = importlib.util.spec_from_file_location("gpu_check_script", PATH)
assert spec and spec.loader
gpu_check = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = gpu_check
spec.loader.exec_module(gpu_check)

ABOUT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc",
    "driver": 13000,
    "runtime": 13000,
    "cupy": "13.6",
    "device": {"name": "NVIDIA X"},
}


@pytest.mark.parametrize(
    ("code", "verdict", "last"),
    [
        ("print('one'); print('3 passed')", "passed", "3 passed"),
        ("import sys; print('bad'); sys.exit(3)", "failed", "bad"),
        ("input()", "failed", "EOFError"),  # nobody is there to answer
    ],
)
def test_how_a_stage_ends(tmp_path, code, verdict, last):
    ending = gpu_check.run(gpu_check.Stage("a b", 60, [sys.executable, "-c", code]), tmp_path, 60)
    assert (ending.stage, ending.verdict) == ("a b", verdict)
    assert last in ending.last
    assert (tmp_path / "a-b.log").read_text()


def test_a_stage_that_does_not_end_is_ended(tmp_path):
    code = "import signal; print('begun', flush=True); signal.pause()"
    ending = gpu_check.run(gpu_check.Stage("long", 60, [sys.executable, "-c", code]), tmp_path, 0.5)
    assert ending.verdict == "not in time"


def test_a_missing_tool_leaves_its_stage_out(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    stages = {stage.name: stage for stage in gpu_check.plan("cuda:0", False, tmp_path)}
    assert sum(stage.seconds for stage in stages.values()) < 540
    ending = gpu_check.run(stages["memcheck"], tmp_path, 60)
    assert (ending.verdict, ending.last) == ("left out", "compute-sanitizer is not installed")


def test_the_summary_has_stages_and_tables(tmp_path):
    (tmp_path / "step.csv").write_text("library,images_per_second\npyalexnet,123.4\n")
    endings = [gpu_check.Ending("tests", "passed", 61.2, "== 5 passed | 1 skipped ==")]
    text = gpu_check.summary(ABOUT, endings, tmp_path)
    assert text.startswith("# NVIDIA X: what passed")
    assert "| tests | passed | 61 | 5 passed   1 skipped |" in text
    assert "| pyalexnet | 123.4 |" in text and "emulated" not in text
    assert "An emulated GPU" in gpu_check.summary(ABOUT | {"device": {}}, endings, tmp_path)


def test_an_output_that_is_no_folder_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(gpu_check.devices, "get", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(tmp_path / "taken")])
    with pytest.raises(SystemExit, match=r"gpu_check: error: --output .*taken: File exists; "):
        gpu_check.main()
    assert (tmp_path / "taken").read_text() == "a file"
