"""docs/cluster.md: its batch file, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import tiny

pytestmark = pytest.mark.host_only("a shell script")

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"


def batch_file() -> str:
    if not PAGE.exists():
        pytest.skip("an installed package has no docs")
    (script,) = re.findall(r"^```sh\n(#!/bin/bash\n.*?)^```$", PAGE.read_text(), re.M | re.S)
    return str(script)


class Cluster:
    """A folder with the batch file, a virtual environment, and commands that take Slurm's place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._bin = folder, folder / "venv" / "bin"
        self._bin.mkdir(parents=True)
        (folder / "train.sbatch").write_text(batch_file())
        (self._bin / "activate").write_text('PATH="$VENV/bin:$PATH"\n')
        self.command("scontrol", 'echo "$@" >> requeued')
        self.state("RUNNING")

    def command(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def state(self, state: str) -> None:
        """What squeue says of job 7."""
        self.command("squeue", f'[[ "$*" == *"--job 7 "* ]] && echo {state}')

    def submit(self, *options: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"VENV": str(self._bin.parent), "SLURM_JOB_ID": "7"}
        command = ["bash", "train.sbatch", *options]
        return subprocess.run(command, cwd=self.folder, env=env, text=True, capture_output=True)

    @property
    def requeued(self) -> bool:
        file = self.folder / "requeued"
        return file.exists() and file.read_text() == "requeue 7\n"


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (2, "RUNNING", False),
        (137, "RUNNING", False),
        (130, "RUNNING", True),
        (130, "COMPLETING", False),  # cancelled
    ],
)
def test_a_job_is_requeued_only_after_it_was_stopped(
    tmp_path: Path, status: int, state: str, requeued: bool
) -> None:
    cluster = Cluster(tmp_path)
    cluster.command("srun", f'printf "%s|" "$@"; exit {status}')
    cluster.state(state)
    done = cluster.submit("--data", "two words")
    assert done.returncode == status, done.stderr
    assert cluster.requeued == requeued
    assert done.stdout.endswith(
        "|pyalexnet-train|--resume|auto|--output|runs/alexnet|--data|two words|"
    )


def test_a_batch_file_that_bash_reads_and_slurm_sees(tmp_path: Path) -> None:
    """Slurm reads its options up to the first command only."""
    lines = batch_file().splitlines()
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert all(re.match(r"#SBATCH --[a-z-]+(=\S+)?( +#.*)?$", lines[i]) for i in options)
    assert all(line.startswith("#") for line in lines[: options[-1]])
    assert "#SBATCH --signal=TERM@120" in " ".join(lines)


def test_two_processes_train_are_stopped_and_go_on(tmp_path: Path) -> None:
    """The second process gets SIGTERM once the first has written a line of metrics."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'pyalexnet[mpi]'")
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("there is no mpirun")
    cluster = Cluster(tmp_path)
    cluster.command("srun", f'while [[ "$1" == --* ]]; do shift; done; {mpirun} -n 2 "$@"')
    cluster.command("pyalexnet-train", f'exec {sys.executable} "$VENV/train.py" "$@"')
    (tmp_path / "venv" / "train.py").write_text(
        "import os, signal, sys\n"
        "from pyalexnet.commands import train\n"
        "from pyalexnet.training import trainer\n"
        "def stop(step):\n"
        "    if step == 5 and os.environ['PMI_RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "whole = trainer.Trainer.run\n"
        "trainer.Trainer.run = lambda self, how, *more: whole(self, how, stop, *more[1:])\n"
        "sys.exit(train.main())\n"
    )
    made = tiny.options(tmp_path)
    options = ["--data", made["data"], "--net", made["net"], "--image-size", "10", "--epochs", "3"]
    options += ["--batch-size", "8", "--device", "cpu", "--workers", "0", "--threads", "1"]
    first = cluster.submit(*options)
    assert first.returncode == 130, first.stdout + first.stderr
    assert cluster.requeued
    second = cluster.submit(*options)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resumed after step 5, epoch 1 of 3" in second.stdout
    assert [line["epoch"] for line in tiny.records(tmp_path / "runs" / "alexnet")] == [1, 2, 3]
    assert cluster.submit(*options).returncode == 0  # nothing is left to do
