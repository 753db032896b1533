from __future__ import annotations

from pathlib import Path

import pytest

from pyalexnet import control_groups, cores
from pyalexnet.errors import UserError

pytestmark = pytest.mark.host_only("computes nothing")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores; returns the folder of its control groups."""
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "GROUP_OF", tmp_path / "of")
    monkeypatch.setattr(cores, "usable_cores", lambda: set(range(8)))
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu.max": "damaged"}, 8),
        ({"a/b/cpu.max": "300000 100000", "a/cpu.max": "max 100000"}, 3),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "20000"}, 3),
        ({"cpu,cpuacct/c/cpu.cfs_quota_us": "5", "cpu,cpuacct/c/cpu.cfs_period_us": "1"}, 5),
        ({"cpu/cpu.cfs_quota_us": "5", "cpu/cpu.cfs_period_us": "0"}, 8),
    ],
)
def test_quota_of_a_container(groups: Path, limits: dict[str, str], expected: int) -> None:
    write(groups.parent / "of", "4:memory:/m\n3:cpu,cpuacct:/c\n0::/a/b\n")
    for name, text in limits.items():
        write(groups / name, text)
    assert cores.count_cores() == expected


def test_no_control_groups(groups: Path) -> None:
    groups.rmdir()
    assert cores.count_cores() == 8


def test_counts_are_bounded(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: set(range(5000)))
    assert cores.count_cores() == cores.MOST == 1024
    for count in (None, 0, 1024):
        cores.check_count("workers", count, 0)
    for count in (-1, 1025, 10**4000):
        with pytest.raises(UserError, match=r"workers is \S{1,50}; expected 0 to 1024"):
            cores.check_count("workers", count, 0)
