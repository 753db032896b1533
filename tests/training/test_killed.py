"""pyalexnet-train killed, or with a full disk, at each change of its run's files.

PYALEXNET_CAMPAIGN=N takes N changes instead of a few, "all" all of them.
"""

from __future__ import annotations

import errno
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers import killed, tiny
from helpers.tiny import records
from pyalexnet.training.checkpoint import load
from pyalexnet.training.run_folder import BEST, LAST

pytestmark = [pytest.mark.host_only("kills processes"), pytest.mark.slow]

CAMPAIGN = os.environ.get("PYALEXNET_CAMPAIGN", "1")


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its command but for the output, its folder, and its changes."""

    command: list[str]
    folder: Path
    changes: int


#: The options of the runs, and the best of their epochs: by the seed, it is the last, or is not.
RUNS = {
    "each epoch": ("--epochs=3 --seed=3 --checkpoint-minutes=0", 3),
    "best before last": ("--epochs=3 --seed=1 --checkpoint-minutes=0", 2),
    "each step": ("--epochs=2 --seed=1 --checkpoint-minutes=1e-9", 2),
}


@pytest.fixture(scope="module", params=RUNS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Epochs of two steps."""
    root = tmp_path_factory.mktemp("whole")
    data, net = tiny.write_data(root / "data"), tiny.write_net(root / "tiny.json")
    options, best = RUNS[request.param]
    command = [sys.executable, "-m", "pyalexnet", "train", "--device=cpu", "--threads=1"]
    command += ["--workers=0", f"--data={data}", f"--net={net}", "--image-size=12"]
    command += ["--batch-size=16", "--lr=0.01", "--resume=auto", *options.split()]
    ended = killed.run([*command, f"--output={root / 'run'}"], root / "run")
    assert ended.status == 0, ended.printed
    assert load(root / "run" / LAST).progress.best_epoch == best
    return Whole(command, root / "run", ended.changes)


def checkpoint(path: Path) -> dict[str, Any]:
    """All that a checkpoint has, but for times and the folder."""
    found = load(path)
    found.progress.seconds = found.progress.data_seconds = 0.0
    tensors = {**found.model, **found.optimiser, "mean": found.mean}
    content: dict[str, Any] = {name: array.tobytes() for name, array in tensors.items()}
    options = {name: value for name, value in found.options.items() if name != "output"}
    return content | {"progress": found.progress, "data": found.data, "options": options}


def assert_same(folder: Path, whole: Whole) -> None:
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole.folder))
    for name in (LAST, BEST):
        assert checkpoint(folder / name) == checkpoint(whole.folder / name), name
    assert records(folder) == records(whole.folder)


def sample(whole: Whole, seed: int) -> list[int]:
    """Returns the changes to disturb; the first and the last are among them."""
    between = range(2, whole.changes)
    count = len(between) if CAMPAIGN == "all" else min(len(between), int(CAMPAIGN))
    return [1, *sorted(random.Random(seed).sample(between, count)), whole.changes]


def test_killed_run_resumes_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    for at in (changes := sample(whole, 1)):
        folder = tmp_path / str(at)
        command = [*whole.command, f"--output={folder}"]
        ended = killed.run(command, folder, at=at)
        assert ended.killed, (at, ended.printed)
        resumed = killed.run(command, folder)
        assert resumed.status == 0, (at, resumed.printed)
        assert_same(folder, whole)
    print(f"killed at {len(changes)} of {whole.changes} changes")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_full_or_broken_disk_is_one_line_and_resumes(
    whole: Whole, tmp_path: Path, error: int
) -> None:
    failed = 0
    for at in (changes := sample(whole, error)):
        folder = tmp_path / str(at)
        command = [*whole.command, f"--output={folder}"]
        ended = killed.run(command, folder, at=at, error=error)
        assert ended.status in (0, 1), (at, ended.printed)
        assert "Traceback" not in ended.printed
        if ended.status:
            failed += 1
            last = ended.printed.splitlines()[-1]
            assert last.startswith("pyalexnet-train: error: ") and str(folder) in last
            assert os.strerror(error) in last
        else:  # the curve is not worth a run, nor is a folder's fsync
            assert at > whole.changes / 2
        if folder.exists():
            assert not [name for name in os.listdir(folder) if name.endswith((".tmp", ".lock"))]
        resumed = killed.run(command, folder)
        assert resumed.status == 0, (at, resumed.printed)
        assert_same(folder, whole)
    print(f"failed at {len(changes)} of {whole.changes} changes, {failed} of them ended the run")
    assert failed
