"""benchmarks/step.py and benchmarks/layers.py: a tiny net alone and against the peers installed."""

from __future__ import annotations

import csv
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pyalexnet.nn.layers import LRN, Add, Concat, Conv, Dropout, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nn.net import Net

pytestmark = pytest.mark.host_only("runs scripts that choose their device")

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"

#: Every layer, with borders on one side only, groups, and features that several layers read.
TINY = Net(
    "tiny",
    input=(3, 14, 13),
    layers=(
        Conv(8, 5, stride=2, pad=1, ceil_mode=True, bias=0.1),
        LRN(groups=2, alpha=0.01),
        MaxPool(3, 2, pad=1, ceil_mode=True, name="trunk"),
        Conv(8, 3, pad=1, groups=2, activation="", name="left"),
        Tanh(),
        Conv(8, 1, activation="tanh", inputs=("trunk",), name="right"),
        Add("relu", inputs=("left", "right", "trunk"), name="sum"),
        Concat(inputs=("sum", "tanh2")),
        ReLU(),
        Dropout(0.3, inverted=True),
        Linear(6),
        Dropout(0.4),
        Linear(5, activation=""),
    ),
)


def load(name: str) -> ModuleType:
    """A script of benchmarks/, which may import others, as a module."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


alternate, nets, layers, step = map(load, ("alternate", "nets", "layers", "step"))


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """Options for a benchmark of the tiny net."""
    (tmp_path / "tiny.json").write_text(TINY.to_json())
    return [f"--net={tmp_path}/tiny.json", "--batch=3", "--runs=2", f"--csv={tmp_path}/out.csv"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs a script's `main`; returns its lines and the rows of its CSV."""
    monkeypatch.setattr(step, "TURN", 0.001)

    def run(script: ModuleType, *options: str) -> tuple[list[str], list[dict[str, str]]]:
        monkeypatch.setattr(sys, "argv", [script.__name__, *options])
        script.main()
        with (tmp_path / "out.csv").open(newline="") as file:
            return capsys.readouterr().out.splitlines(), list(csv.DictReader(file))

    return run


@pytest.mark.parametrize("what", ["train", "infer"])
def test_a_step_without_peers(run, tiny: list[str], what: str) -> None:
    out, [own] = run(step, *tiny, f"--what={what}", "--no-peer")
    assert "tiny, batch 3, " in out[1] and out[-1].startswith("pyalexnet ")
    assert own["library"] == "pyalexnet" and float(own["images_per_second"]) > 0
    assert float(own["ratio"]) == 1 and 0.01 < float(own["peak_gb"]) < 10


@pytest.mark.parametrize("what", ["train", "infer"])
def test_a_step_against_all_peers_installed(run, tiny, what, monkeypatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(step, "peak_memory", lambda *_: "0.100")
    out, rows = run(step, *tiny, f"--what={what}")
    names = [own["library"] for own in rows]
    assert names[:3] == ["pyalexnet", "PyTorch", "PyTorch channels last"]
    if what == "infer":
        onnx = load("peers").installed("onnx")
        for name, package in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")):
            assert (name in names) == (onnx and load("peers").installed(package))
    last = re.fullmatch(
        r"ratio to the fastest peer \((.+)\): (\d+\.\d\d) \((\d+\.\d\d) to (\d+\.\d\d)\)", out[-1]
    )
    assert last
    ratios = {own["library"]: float(own["ratio"]) for own in rows[1:]}
    assert ratios[last[1]] == min(ratios.values())
    assert float(last[2]) == pytest.approx(min(ratios.values()), abs=0.006)


@pytest.mark.slow
def test_peak_memory_of_each_library(tiny: list[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = [sys.executable, str(FOLDER / "step.py"), *tiny, "--what=infer"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    memory = re.findall(r"^(pyalexnet|PyTorch).* (\d+\.\d+)$", out, re.M)
    assert [name for name, _ in memory] == ["pyalexnet", "PyTorch", "PyTorch"]
    assert all(0.01 < float(gigabytes) < 10 for _, gigabytes in memory)


def test_peers_that_compute_something_else_are_refused() -> None:
    logits = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    x = np.zeros((3, 2, 4, 4), np.float32)
    peer = load("peers").Peer

    def answers(theirs: np.ndarray) -> None:
        step.check("Some library", peer(lambda: None, lambda _: theirs), x, logits)

    answers(logits * (1 + 1e-5))
    with pytest.raises(SystemExit, match=r"Some library: logits differ from ours by 2\.0e-03 of"):
        answers(logits * 1.002)
    with pytest.raises(SystemExit, match="differ from ours by nan"):
        answers(np.full_like(logits, np.nan))
    with pytest.raises(SystemExit, match=r"logits are \(2, 5\); expected \(3, 5\)"):
        answers(logits[:2])


def test_a_layer_without_a_counterpart_leaves_the_peer_out(run, tmp_path, monkeypatch) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    net = Net("odd", (1, 6, 6), (MaxPool(3, 2, pad=2), Linear(2, activation="")))
    (tmp_path / "odd.json").write_text(net.to_json())
    monkeypatch.setattr(step, "peak_memory", lambda *_: "0.100")
    options = [f"--net={tmp_path}/odd.json", "--batch=2", "--runs=1", f"--csv={tmp_path}/out.csv"]
    out, [own] = run(step, *options)
    assert own["library"] == "pyalexnet"
    assert out[0].startswith("without PyTorch: PyTorch has no counterpart of MaxPool(size=3,")


@pytest.mark.parametrize("peers", [False, True])
def test_layers(run, tiny: list[str], peers: bool) -> None:
    if peers:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    out, rows = run(layers, *tiny, "--target=1e9", *["--no-peer"][peers:])
    named = [(own["layer"], own["kernel"]) for own in rows]
    assert named[:2] == [("conv1", "forward"), ("conv1", "weight gradient")]
    assert ("left", "data gradient") in named and ("lrn1", "backward") in named
    assert named[-1] == ("fc5", "weight gradient")
    if not peers:
        assert not any(own["ratio"] for own in rows)
        return
    weighty = [own for own in rows if own["layer"][:3] not in ("lrn", "tru", "tan", "rel")]
    assert [own for own in rows if own["below_target"]] == weighty
    assert sum(line.endswith("  <") for line in out) == len(weighty)
    assert out[-1] == f"0 of {len(weighty)} kernels with weights reach 1e+09"
    best = [min(float(own[k] or "inf") for k in own if k.endswith(" ms")) for own in rows]
    assert all(ms > 0 for ms in best)


def test_each_turn_gives_a_ratio_and_begins_with_another_way() -> None:
    order: list[str] = []
    ways = [lambda name=name: order.append(name) for name in "abc"]
    seconds = alternate.turns(ways, runs=2, warmups=1)
    assert "".join(order) == "abcbcacab"
    assert [len(values) for values in seconds] == [2, 2, 2]
    assert alternate.ratios([1, 2, 4, 1, 1], [2, 2, 2, 3, 4]) == (2, 1, 3)
    assert str(alternate.spread([2.0])) == "2.00 (2.00 to 2.00)"


def test_nets_have_names_of_the_benchmarks_own() -> None:
    assert nets.get("paper") == nets.get("alexnet")
    assert nets.get("torchvision") == nets.get("alexnet-one-tower")


def test_a_table_of_the_page() -> None:
    page = load("cpu_page")
    steps = [
        {"library": name, "images_per_second": "12.50", "gflops": "9.0", "ratio": ratio}
        | {"ratio_low": "1.4", "ratio_high": "1.6", "peak_gb": "0.100"}
        for name, ratio in (("pyalexnet", "1.000"), ("PyTorch", "1.500"))
    ]
    assert page.markdown(steps) == [
        "| library | images/s | GFLOP/s | ratio | peak GB |",
        "|---|---|---|---|---|",
        "| pyalexnet | 12.50 | 9.0 |  | 0.100 |",
        "| PyTorch | 12.50 | 9.0 | 1.50 (1.40 to 1.60) | 0.100 |",
    ]
    [row] = page.markdown(
        [
            {
                "layer": "fc6",
                "ratio": "1.1",
                "ratio_low": "1",
                "ratio_high": "2",
                "below_target": "yes",
            }
        ]
    )[2:]
    assert row == "| fc6 | 1.10 (1.00 to 2.00) < |"


def test_every_table_has_a_place_on_the_page() -> None:
    page = load("cpu_page")
    text = page.PAGE.read_text(encoding="utf-8")
    for name in page.TABLES:
        renewed = page.renew(text, name, "| new |")
        assert f"<!-- measured: {name} -->\n\n| new |\n\n<!-- end -->" in renewed
    with pytest.raises(SystemExit, match=r"cpu\.md has 0 places for other; expected one"):
        page.renew(text, "other", "")


def test_winograds_error_lies_within_directs_seeds() -> None:
    accuracy = load("winograd_accuracy")
    assert accuracy.row("direct", [0.1, 0.12]) == "| direct | 11.00 % | 1.41 | 10.00, 12.00 |"
    assert "within the spread" in accuracy.verdict([0.1, 0.12], [0.09, 0.13])
    assert "outside the spread" in accuracy.verdict([0.1, 0.12], [0.11, 0.15])
