"""The memory that a net needs, foretold; and what there is."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import target, tiny
from pyalexnet import control_groups
from pyalexnet import device as devices
from pyalexnet.commands import train as train_command
from pyalexnet.device import host
from pyalexnet.device.planned import PlannedDevice
from pyalexnet.errors import NetError, UserError
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.optim import SGD

Captured = pytest.CaptureFixture[str]


def test_plan_is_what_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    device = target.DEVICE
    empty = type(device).empty

    def counted(self: devices.Device, shape: devices.Shape, *more: object) -> devices.Array:
        array = empty(self, shape, *more)  # type: ignore[arg-type]
        made.append(array.nbytes)
        return array

    def counted_zeros(self: devices.Device, shape: devices.Shape, *more: object) -> devices.Array:
        array = counted(self, shape, *more)
        self.copy_in(array, np.zeros(array.shape, array.dtype))
        return array

    planned = PlannedDevice(device)
    SGD(Model(tiny.NET, planned, 8))
    monkeypatch.setattr(type(device), "empty", counted)
    monkeypatch.setattr(type(device), "zeros", counted_zeros)
    SGD(Model(tiny.NET, device, 8))
    assert sum(made) == planned.bytes > 0


@pytest.mark.host_only("asks the host")
def test_alexnet_is_summed_up_without_its_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    planned = PlannedDevice(devices.get("host"))
    model = Model(zoo.get("alexnet"), planned, 20_000)
    assert planned.bytes > 100e9
    assert "20000 images" in model.summary(SGD(model))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    with pytest.raises(TypeError, match="planned"):
        model.state()


@pytest.mark.parametrize("batch_size", [10**9, 2**31, 2**40, 2**62, 2**70])
def test_too_large_a_batch_is_refused(batch_size: int) -> None:
    with pytest.raises((UserError, NetError), match=r"memory|too large|smaller|below 2\^31"):
        Model(zoo.get("alexnet"), target.DEVICE, batch_size)


@pytest.mark.host_only("asks the host")
@pytest.mark.parametrize("batch_size", ["100000000", str(2**31), str(2**64)])
def test_command_refuses_in_one_line(tmp_path: Path, capsys: Captured, batch_size: str) -> None:
    words = [f"--output={tmp_path / 'run'}", f"--batch-size={batch_size}", "--quiet"]
    assert train_command.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 300
    assert not (tmp_path / "run").exists()


@pytest.mark.host_only("asks the host")
def test_limit_of_the_process_counts() -> None:
    code = (
        "import resource, numpy\n"
        "from pyalexnet import device\n"
        "at = device.get('host')\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\n"
        "assert at.free_memory() > 1 << 20\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), 1 << 40))\n"
        "assert 0 <= at.free_memory() <= 1 << 20\n"
    )
    # Where Python finds no pyalexnet that has not been built.
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


@pytest.mark.host_only("asks the host")
@pytest.mark.parametrize(
    ("files", "free"),
    [
        (
            {
                "memory.max": "1000000",
                "memory.current": "400000",
                "memory.stat": "anon 3\ninactive_file 100000\n",
            },
            700_000,
        ),
        (
            {"memory.max": "max", "memory.current": "4", "memory.stat": ""}
            | {"a/memory.max": "5000", "a/memory.current": "9000", "a/memory.stat": ""},
            0,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "3000",
                "memory/memory.usage_in_bytes": "1000",
                "memory/memory.stat": "total_inactive_file 500\n",
            },
            2500,
        ),
    ],
)
def test_limit_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int
) -> None:
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path)
    monkeypatch.setattr(control_groups, "GROUP_OF", tmp_path / "of")
    (tmp_path / "of").write_text("0::/a\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert min(host._container_limits()) == free
    assert devices.get("host").free_memory() == free
