"""Tests and times this package on a GPU, in one command and at most eight minutes.

    python benchmarks/gpu_check.py --output gpu
    tests/cuda_emulator/run --arch 80 -- python benchmarks/gpu_check.py --tiny --output emulated

Needs a checkout with the package installed with CUDA, CuPy and the `test` extra. Writes to the
folder: facts.json (the device and its software), a log of each stage, layers.csv and step.csv
(timings), and summary.md (the stages that passed). The stages are the tests on the device, kernels
under compute-sanitizer if it is installed, and the benchmarks, with PyTorch if it is installed. A
stage is killed after its time limit. Exits with 1 if a stage failed or was killed.

`--tiny` runs a few tests and a small net, for an emulated GPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from pyalexnet import device as devices
from pyalexnet.errors import DeviceError
from pyalexnet.nn.layers import LRN, Conv, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 470  # for all stages
PROPERTIES = (
    *("name", "major", "minor", "multiProcessorCount", "totalGlobalMem", "clockRate"),
    *("memoryClockRate", "memoryBusWidth", "l2CacheSize", "sharedMemPerBlockOptin"),
)

#: The net that `--tiny` times.
TINY = Net(
    "tiny",
    (3, 11, 11),
    (Conv(8, 3, pad=1), LRN(), MaxPool(3, 2), Linear(8), Linear(4, activation="")),
    Normalization(scale=1 / 64),
)
#: Tests to run under compute-sanitizer, which is tens of times slower.
SANITIZED = ["test_conv.py", "test_lrn.py", "test_softmax.py"]


class Stage(NamedTuple):
    """A command and its limit in seconds; `why`, if not empty, is the reason to leave it out."""

    name: str
    seconds: float
    command: Sequence[str]
    why: str = ""


class Ending(NamedTuple):
    """A stage's verdict (passed, failed, not in time, left out) and last line of output."""

    stage: str
    verdict: str
    seconds: float
    last: str


def facts(index: int) -> dict[str, Any]:
    """Describes the device and its software."""
    cupy: Any = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    # An emulated device has no such properties.
    properties: dict[str, Any] = getattr(runtime, "getDeviceProperties", lambda _: {})(index)
    about = {key: properties[key] for key in PROPERTIES if key in properties}
    about = {k: v.decode() if isinstance(v, bytes) else v for k, v in about.items()}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": about,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "build": devices.get(f"cuda:{index}").lib.build_info(),
        "nvidia-smi": _output("nvidia-smi"),
        "commit": _output("git", "-C", ROOT, "rev-parse", "HEAD"),
    }


def _output(*command: str | Path) -> str:
    """Returns a command's output; "" if there is no such command or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def plan(device: str, tiny: bool, output: Path) -> list[Stage]:
    """Returns the stages, the most informative first."""
    python, here, tests = sys.executable, str(ROOT / "benchmarks"), str(ROOT / "tests")
    pytest = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    pytest += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "--device", device]
    what, net = [tests], ["--runs", "3"]
    if tiny:
        what = [f"{tests}/kernels/test_add.py", f"{tests}/nn/test_layers.py"]
        net = ["--net", f"{output}/tiny.json", "--batch", "4", "--runs", "1", "--no-peer"]
    net += ["--device", device, "--csv"]
    sanitizer = shutil.which("compute-sanitizer") or ""
    why = "" if sanitizer else "compute-sanitizer is not installed"
    sanitized = [*pytest, "-k", "3x3 or errors", *(f"{tests}/kernels/{name}" for name in SANITIZED)]
    stages = [
        Stage("info", 30, [python, "-m", "pyalexnet.commands.info"]),
        Stage("tests", 200, [*pytest, "-m", "not slow", *what]),
        Stage("layers", 80, [python, f"{here}/layers.py", *net, f"{output}/layers.csv"]),
        Stage("step", 50, [python, f"{here}/step.py", *net, f"{output}/step.csv"]),
    ]
    for tool in ("memcheck", "racecheck"):
        command = [sanitizer, "--tool", tool, "--error-exitcode", "86", *sanitized]
        stages.append(Stage(tool, 45, command, why))
    if not tiny:
        stages.append(Stage("slow tests", 60, [*pytest, "-m", "slow", *what]))
    return stages


def run(stage: Stage, output: Path, seconds: float) -> Ending:
    """Runs a stage for at most `seconds` and writes its output to a log."""
    if stage.why:
        return Ending(stage.name, "left out", 0.0, stage.why)
    begin, log = time.monotonic(), output / f"{stage.name.replace(' ', '-')}.log"
    # Other packages' plugins are not tested with: pytest-benchmark, for one, stops on a warning.
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environ.pop("PYTHONSAFEPATH", None)  # the benchmarks import each other
    with log.open("w") as file:
        process = subprocess.Popen(
            stage.command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=output,
            env=environ,
            start_new_session=True,  # to kill its children, too
        )
        try:
            verdict = "passed" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            verdict = "not in time"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(errors="replace").splitlines() or [""]
    return Ending(stage.name, verdict, time.monotonic() - begin, lines[-1].strip())


def summary(about: dict[str, Any], endings: Sequence[Ending], output: Path) -> str:
    """Returns the text of summary.md."""
    name = about["device"].get("name", "An emulated GPU")
    lines = [f"# {name}: what passed", ""]
    lines += [f"{about['date']}, commit {about['commit'] or 'unknown'}, driver {about['driver']},"]
    lines += [f"CUDA runtime {about['runtime']}, CuPy {about['cupy']}.", ""]
    if not about["device"]:
        lines += ["The device is emulated: it has no clock, and the times are its emulator's.", ""]
    lines += ["| stage | | seconds | last line |", "|---|---|---|---|"]
    for ending in endings:
        last = re.sub(r"[|=]+", " ", ending.last).strip()
        lines.append(f"| {ending.stage} | {ending.verdict} | {ending.seconds:.0f} | {last} |")
    for table in ("step", "layers"):
        path = output / f"{table}.csv"
        if path.exists():
            rows = [line.split(",") for line in path.read_text().splitlines()]
            lines += ["", f"{table}.csv:", "", "| " + " | ".join(rows[0]) + " |"]
            lines += ["|" + "---|" * len(rows[0])]
            lines += ["| " + " | ".join(row) + " |" for row in rows[1:]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Checks the GPU that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda:0", help="cuda:0 (the default), cuda:1, …")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--tiny", action="store_true", help="few tests and a small net")
    args = parser.parse_args()
    try:
        index = int(devices.get(args.device).name.removeprefix("cuda:"))
    except (DeviceError, ValueError) as error:
        reason = error if isinstance(error, DeviceError) else f"{args.device} is no GPU"
        sys.exit(f"gpu_check: error: {reason}")
    output = args.output.resolve()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"gpu_check: error: --output {args.output}: {error.strerror}; expected a folder")
    if args.tiny:
        (output / "tiny.json").write_text(TINY.to_json())
    about = facts(index)
    (output / "facts.json").write_text(json.dumps(about, indent=2))
    begin, endings = time.monotonic(), []
    for stage in plan(args.device, args.tiny, output):
        left = SECONDS - (time.monotonic() - begin)
        endings.append(run(stage, output, max(1.0, min(stage.seconds, left))))
        print(f"{endings[-1].stage}: {endings[-1].verdict}: {endings[-1].last}", flush=True)
    (output / "summary.md").write_text(summary(about, endings, output))
    print(f"written: {output / 'summary.md'}")
    sys.exit(any(ending.verdict in ("failed", "not in time") for ending in endings))


if __name__ == "__main__":
    main()
