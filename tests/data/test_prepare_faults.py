"""pyalexnet-prepare killed, or with a full disk, at each change of its files.

PYALEXNET_CAMPAIGN=N takes N changes instead of a few, "all" all of them.
"""

from __future__ import annotations

import errno
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import killed
from helpers.imagenet_files import write_imagenet

pytestmark = [pytest.mark.host_only("reads and writes files"), pytest.mark.slow]

CAMPAIGN = os.environ.get("PYALEXNET_CAMPAIGN", "2")
FORMATS = ["jpeg", "raw"] if "PYALEXNET_CAMPAIGN" in os.environ else ["jpeg"]


@dataclass(frozen=True)
class Whole:
    """An undisturbed preparation: its command but for the output, its files, and its changes."""

    command: list[str]
    files: dict[str, bytes]
    changes: int


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module", params=FORMATS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp(request.param)
    mini = write_imagenet(folder, classes=2, train=3, val=1, seed=5)
    command = [sys.executable, "-m", "pyalexnet", "prepare"]
    command += [f"--train={mini.train}", f"--val={mini.val}", f"--devkit={mini.devkit}"]
    command += ["--size=8", "--shard-images=4", f"--format={request.param}", "--workers=1"]
    ended = killed.run([*command, f"--output={folder / 'out'}"], folder / "out")
    assert ended.status == 0, ended.printed
    return Whole(command, contents(folder / "out"), ended.changes)


def sample(whole: Whole, seed: int) -> list[int]:
    """Returns the changes to disturb; the first and the last are among them."""
    between = range(2, whole.changes)
    count = len(between) if CAMPAIGN == "all" else min(len(between), int(CAMPAIGN))
    return [1, *sorted(random.Random(seed).sample(between, count)), whole.changes]


def test_killed_command_resumes_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    of_itself = 0
    for at in (changes := sample(whole, 1)):
        out = tmp_path / str(at)
        command = [*whole.command, f"--output={out}"]
        ended = killed.run(command, out, at=at)
        # Of the two processes, one is killed; then the command says so in a line.
        assert ended.killed or (ended.status == 1 and "killed by SIGKILL" in ended.printed), at
        of_itself += ended.killed
        resumed = killed.run(command, out)
        assert resumed.status == 0, (at, resumed.printed)
        assert contents(out) == whole.files, at
    print(f"killed at {len(changes)} of {whole.changes} changes, {of_itself} of them its own")
    assert 0 < of_itself <= len(changes)


def test_command_killed_again_and_again_ends_with_the_same_bits(
    whole: Whole, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [*whole.command, f"--output={out}"]
    draw = random.Random(2)
    kills = 0
    while killed.run(command, out, at=draw.randint(15, 35)).status != 0:
        kills += 1
    assert contents(out) == whole.files
    print(f"killed {kills} times in a row")
    assert kills > 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_full_or_broken_disk_is_one_line_and_resumes(
    whole: Whole, tmp_path: Path, error: int
) -> None:
    for at in (changes := sample(whole, error)):
        out = tmp_path / str(at)
        command = [*whole.command, f"--output={out}"]
        ended = killed.run(command, out, at=at, error=error)
        # What comes after the last file's own fsync is not needed.
        assert ended.status == 1 or (ended.status == 0 and at > whole.changes - 8), ended.printed
        if ended.status:
            last = ended.printed.splitlines()[-1]
            assert last.startswith("pyalexnet-prepare: error: ") and str(out) in last
            assert os.strerror(error) in last and "Traceback" not in ended.printed
        if out.exists():
            assert not [name for name in os.listdir(out) if name.startswith(".pyalexnet-")], at
        resumed = killed.run(command, out)
        assert resumed.status == 0, (at, resumed.printed)
        assert contents(out) == whole.files, at
    print(f"failed at {len(changes)} of {whole.changes} changes")
