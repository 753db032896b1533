"""Options, counters, dumps and wrong usage. `run` in this folder starts pytest on this file."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import building
import pytest

HERE = Path(building.HERE)
ERROR_STATUS = 86


def run(*command: str | Path, status: int = 0, **variables: str) -> str:
    """Run a program; return its output, including standard error."""
    result = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | variables,
        timeout=60,
        check=False,
    )
    assert result.returncode == status, result.stdout
    return result.stdout


def kernels(*names: str, status: int = 0, **variables: str) -> str:
    """Run a kernel test, with options as environment variables."""
    return run(os.environ["EMU_SELFTEST"], *names, status=status, **variables)


# --- counters ---


@pytest.fixture
def counters(tmp_path: Path) -> Any:
    def read(test: str) -> dict[str, Any]:
        kernels(test, EMU_STATS=str(tmp_path / "%p.json"))
        [path] = tmp_path.iterdir()
        return json.loads(path.read_text())

    return read


def test_traffic(counters: Any) -> None:
    found = counters("traffic")

    def units(kernel: str, kind: str, unit: str) -> tuple[int, int]:
        return found[kernel][kind][unit], found[kernel][kind]["ideal"]

    for kernel, expected in {
        "global_kernel<float, 1>": (4, 4),
        "global_kernel<float, 8>": (32, 4),
        "global_kernel<short, 1>": (2, 2),
        "global_kernel<float4, 1>": (16, 16),
        "repeated_kernel<1>": (1, 1),
        "repeated_kernel<16>": (2, 2),
    }.items():
        assert units(kernel, "global_loads", "sectors") == expected, kernel
    for kernel, expected in {
        "shared_kernel<float, 1>": (1, 1),
        "shared_kernel<float, 2>": (2, 1),
        "shared_kernel<float, 32>": (32, 1),
        "shared_kernel<double, 1>": (2, 2),
        "shared_kernel<float4, 1>": (4, 4),
        "shared_kernel<float4, 2>": (8, 4),
    }.items():
        assert units(kernel, "shared_loads", "wavefronts") == expected, kernel
    kernel = found["shared_kernel<float, 2>"]
    assert (kernel["launches"], kernel["blocks"], kernel["threads"]) == (1, 1, 32)
    assert kernel["shared_bytes"] == 256
    assert kernel["shared_stores"] == {"requests": 2, "bytes": 256, "wavefronts": 2, "ideal": 2}
    [wasteful] = kernel["wasteful"]
    assert "'ld.shared.f32' (observers.cu:" in wasteful["at"]
    assert kernel["warp_instructions"]["barrier"] == 1
    assert found["global_kernel<float, 1>"]["active_lanes"] == 32
    assert found["divergent_kernel"]["active_lanes"] < 32


def test_the_table() -> None:
    table = kernels("traffic", EMU_STATS="-")
    assert "\nglobal_kernel<float, 8>\n  1 launches, 1 blocks, 32 threads; at least " in table
    assert "1 requests            128 bytes           32 sectors, ideal 4 (8.00 times)" in table


def test_a_file_that_cannot_be_written() -> None:
    text = kernels("traffic", status=ERROR_STATUS, EMU_STATS="/proc/nowhere/x.json")
    assert text.startswith("cuda-emulator: cannot write the counters to /proc/nowhere/x.json: ")


def test_ranges_name_launches(counters: Any) -> None:
    found = counters("ranges")
    if len(found) == 1:
        pytest.skip("the CUDA toolkit has no NVTX")
    kernel = "global_kernel<float, 1>"
    assert {title: k["launches"] for title, k in found.items()} == {
        kernel: 1,
        f"outer: {kernel}": 2,
        f"inner: {kernel}": 1,
    }
    report = kernels("bad_in_a_range", status=ERROR_STATUS)
    assert "\n  in outer: global_kernel<float, 64>, block (0,0,0) thread (" in report


# --- reports ---


def test_a_report_reaches_the_first_standard_error() -> None:
    read, write = os.pipe()
    status = os.fstat(write)
    result = subprocess.run(
        [os.environ["EMU_SELFTEST"], "bad_out_of_bounds"],
        env=os.environ
        | {
            "EMU_STDERR": f"{write}:{status.st_dev}:{status.st_ino}",
            "PYTEST_CURRENT_TEST": "test_x.py::test_y (call)",
        },
        pass_fds=[write],
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    with open(read) as file:
        report = file.read()
    assert (result.returncode, result.stderr) == (ERROR_STATUS, b"")
    assert report.startswith("\ncuda-emulator: ERROR: out of bounds: write of 4 bytes")
    assert report.endswith("\n  during test_x.py::test_y (call)\n")
    # Number 1 is another file: the report goes to the process's own standard error.
    assert "ERROR: out of bounds" in kernels(
        "bad_out_of_bounds", status=ERROR_STATUS, EMU_STDERR=f"1:{status.st_dev}:{status.st_ino}"
    )


def test_errors_can_be_listed() -> None:
    text = kernels("bad_out_of_bounds", status=ERROR_STATUS, EMU_ON_ERROR="continue")
    assert "cuda-emulator: 22 errors at 1 place:\n  22 x out of bounds: write of 4 bytes" in text


def test_checks_can_be_chosen() -> None:
    for test, check in (
        ("bad_uninitialised", "init"),
        ("bad_blocks_write", "race"),
        ("bad_lonely_barrier", "sync"),
        ("bad_missing_wait", "streams"),
    ):
        kernels(test, status=ERROR_STATUS, EMU_CHECK=check)
    for test in ("bad_uninitialised", "bad_blocks_write", "bad_absent_lane", "bad_missing_wait"):
        kernels(test, EMU_CHECK="none")
    kernels("bad_out_of_bounds", status=ERROR_STATUS, EMU_CHECK="none")


# --- execution ---


@pytest.mark.parametrize("schedule", ["random", "roundrobin", "whole"])
@pytest.mark.parametrize("test", ["atomics", "divergence", "bad_endless"])
def test_schedules(test: str, schedule: str) -> None:
    kernels(test, status=ERROR_STATUS * (test == "bad_endless"), EMU_SCHEDULE=schedule)


def test_streams_can_be_eager() -> None:
    kernels("streams", EMU_STREAMS="eager")
    kernels("bad_missing_wait", status=ERROR_STATUS, EMU_STREAMS="eager")
    assert "expected v == value" in kernels("late_pinned_copies", status=1, EMU_STREAMS="eager")


def test_approximations_can_be_perturbed() -> None:
    assert "rsqrt.approx.f32" in kernels("floats", status=1, EMU_PERTURB="1")


def test_there_may_be_no_device() -> None:
    code = "from cupy.cuda import runtime; runtime.getDeviceCount()"
    text = run(sys.executable, "-c", code, status=1, EMU_DEVICES="0")
    assert "cudaErrorNoDevice: no CUDA-capable device is detected" in text


# --- dumps ---


def records(path: Path) -> dict[int, bytes]:
    data, found = path.read_bytes(), {}
    while data:
        address, size = struct.unpack("<QQ", data[:16])
        found[address], data = data[16 : 16 + size], data[16 + size :]
    return found


def test_dumps(tmp_path: Path) -> None:
    kernels("dump", EMU_DUMP=str(tmp_path), EMU_DUMP_KERNEL="scale_kernel", EMU_DUMP_AT="2")
    [folder] = tmp_path.iterdir()
    assert folder.name.endswith("-scale_kernel")
    launch = json.loads((folder / "launch.json").read_text())
    assert "scale_kernel" in launch["kernel"]
    assert (launch["grid"], launch["block"]) == ([1, 1, 1], [32, 1, 1])
    assert (launch["dynamic_shared"], launch["range"]) == (1024, "")
    y, x, by = struct.unpack("<QQf", bytes.fromhex(launch["parameters"])[:20])
    assert by == 3
    assert {"address": x, "bytes": 128, "name": ""} in launch["allocations"]
    before, after = records(folder / "before.bin"), records(folder / "after.bin")
    assert struct.unpack("<32f", before[x]) == struct.unpack("<32f", before[y])
    assert set(after) == {y}
    assert struct.unpack("<32f", after[y]) == tuple(3.0 * i for i in range(32))


def test_kernels_that_do_nothing(tmp_path: Path) -> None:
    variables = {"EMU_DUMP": str(tmp_path), "EMU_DUMP_MOST": "100", "EMU_EXECUTE": "0"}
    kernels("dump", **variables)
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["before.bin", "launch.json"]
        assert not (folder / "before.bin").read_bytes()  # the allocations are larger


# --- wrong usage ---


def starter(*words: str, status: int = 1, **variables: str) -> str:
    """Run `run`, which must fail before it builds anything."""
    return run(sys.executable, HERE / "run", *words, status=status, **variables)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"EMU_MEMORY_MB": "16G"}, "EMU_MEMORY_MB is '16G'; expected a whole number"),
        ({"EMU_MEMORY_MB": "0"}, "EMU_MEMORY_MB is 0; expected 1 to 524288"),
        ({"EMU_NCCL_TIMEOUT": "x"}, "EMU_NCCL_TIMEOUT is 'x'; expected a number of seconds"),
        (
            {"EMU_STREAMS": "early"},
            "EMU_STREAMS is 'early'; expected one of late, eager",
        ),
        ({"EMU_DUMP": "/proc/nowhere"}, "cannot write /proc/nowhere/"),
        (
            {"EMU_DUMP": "x", "EMU_DUMP_KERNEL": "("},
            "--dump-kernel is '('; expected a regular expression",
        ),
    ],
)
def test_wrong_variables_end_in_a_line(variables: dict[str, str], message: str) -> None:
    [line] = kernels("vector_add", status=ERROR_STATUS, **variables).splitlines()
    assert line.startswith(f"cuda-emulator: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--check", "races"], "argument --check: 'races'; expected all, none, or some of init,"),
        (["--devices", "17"], "argument --devices: 17; expected 0 to 16"),
        (["--stats", "/nowhere/x"], "argument --stats: /nowhere/x; expected a file in "),
        (["--dump-at", "first"], "argument --dump-at: 'first'; expected numbers, as in 1,5"),
        (["--faster"], "unrecognized arguments: --faster"),
    ],
)
def test_wrong_options_end_in_a_line(words: list[str], message: str) -> None:
    usage, line = starter(*words, status=2).splitlines()
    assert usage.startswith("usage: ")
    assert line.startswith(f"run: error: {message}")


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["--arch", "33"], {}, "--arch is 33; expected one that "),
        (["--arch", "new"], {}, "--arch is new; expected one that "),
        ([], {"CUDACXX": "/nowhere/nvcc"}, "CUDACXX is /nowhere/nvcc; expected a program"),
        ([], {"CXX": "no-c++"}, "C++ compiler no-c++ not found; set CXX to another"),
        ([], {"EMU_CACHE": "/proc/nowhere"}, "cannot write to cache /proc/nowhere: "),
    ],
)
def test_what_is_missing_is_said_in_a_line(
    tmp_path: Path, words: list[str], variables: dict[str, str], message: str
) -> None:
    [line] = starter(*words, **{"EMU_CACHE": str(tmp_path)} | variables).splitlines()
    assert line.startswith(f"cuda-emulator: {message}")


def test_there_may_be_no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(building.BuildError, match=r"nvcc \(CUDA toolkit\) not found on PATH"):
        building.find_nvcc()


def test_there_may_be_no_checkout(tmp_path: Path) -> None:
    for name in ("run", "launcher.py", "building.py"):
        shutil.copy(HERE / name, tmp_path)
    [line] = run(sys.executable, tmp_path / "run", "--", "true", status=1).splitlines()
    assert line.startswith(f"cuda-emulator: {tmp_path} is not in a checkout; expected ")


def test_the_command_may_not_exist() -> None:
    code = (
        "import launcher, pathlib, types\n"
        "folder = pathlib.Path('/nowhere')\n"
        "launcher.Environment = lambda cache, arch: types.SimpleNamespace(\n"
        "    commands=folder, package=folder, library=folder / 'library')\n"
        "launcher.main(['--', 'no-such-command'])\n"
    )
    [line] = run(sys.executable, "-c", code, status=127).splitlines()
    assert line == "cuda-emulator: no-such-command: No such file or directory"
