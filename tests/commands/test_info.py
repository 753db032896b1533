"""``python -m pyalexnet info`` with and without GPUs, CUDA and a host build."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from types import ModuleType

import pytest

from pyalexnet import device as devices
from pyalexnet.commands import info
from pyalexnet.errors import DeviceError

pytestmark = pytest.mark.host_only("replaces GPUs by stand-ins")


def fake_cuda(monkeypatch, count: int) -> None:
    """Stands in for `_cuda` on a machine with `count` GPUs."""
    lib = ModuleType("pyalexnet._cuda")
    lib.__dict__.update(
        build_info=lambda: {"nvcc": "12.3.4", "architectures": "75 90"},
        device_count=lambda: count,
        device_error=lambda: "" if count else "the driver is too old",
    )
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", lib)
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))


def test_command_reports_the_host_build(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pyalexnet", "info"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    lib = devices.get("host").lib
    assert lines[0] == ["pyalexnet", importlib.metadata.version("pyalexnet")]
    assert ["host:", "usable"] in lines
    for key, value in lib.build_info().items():
        assert [key, value] in lines
    assert any(key == "threads" and int(value) >= 1 for key, value in lines)


def test_gpus_are_listed_with_their_build(monkeypatch):
    fake_cuda(monkeypatch, 2)
    text = info.report()
    assert "2 usable GPUs" in text
    assert "  nvcc           12.3.4\n" in text
    assert "  cuda:0         usable\n  cuda:1         usable\n" in text
    assert text.endswith("default device: cuda:0")


def test_a_machine_without_gpu_is_explained(monkeypatch):
    fake_cuda(monkeypatch, 0)
    text = info.report()
    assert "cuda:0         not usable: " in text
    assert "the driver is too old" in text
    assert text.endswith("default device: host")


def test_a_build_without_cuda_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyalexnet._cuda", None)
    text = info.report()
    assert "cuda: not usable: " in text
    assert text.endswith("default device: host")


def test_an_unusable_host_is_reported(monkeypatch):
    def unusable(name: str) -> devices.Device:
        raise DeviceError(f"device {name}: nothing is built")

    monkeypatch.setattr(devices, "get", unusable)
    assert "host: not usable: device host: nothing is built" in info.report()


@pytest.mark.parametrize("name", ["numpy", "no-such-distribution"])
def test_versions_of_missing_distributions_are_none(name):
    assert (info._version(name) is None) == (name != "numpy")
