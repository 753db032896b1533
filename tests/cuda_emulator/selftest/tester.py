"""Tests the emulator with kernels, and the stand-in for CuPy and the options with pytest.

    tests/cuda_emulator/selftest/run [--arch 75|80|90] [NAME ...]

Every kernel test runs with several seeds. A test of an error must exit with the emulator's error
status and report the right kind of error.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import building
from building import BuildError, call, say

HERE = Path(__file__).resolve().parent
SEEDS = 3
ERROR_STATUS = 86
TIMEOUT = 60  # seconds per test
WATCHDOG = 1_000_000  # instructions after which a warp counts as hung


def build(cache: Path, nvcc: str, arch: str) -> Path:
    """Build the kernel tests' program and return its path. Only changed files are compiled."""
    header = (HERE / "framework.cuh").read_text()
    options = ["-std=c++17", "-O2", "-lineinfo", "--no-compress"]
    options += [f"-gencode=arch=compute_{arch},code=compute_{arch}"]
    objects = {}
    for source in sorted(HERE.glob("*.cu")):
        key = building.digest(nvcc, options, header, source.read_text())
        objects[source] = cache / "objects" / f"{source.stem}-{key}.o"
    missing = [source for source, target in objects.items() if not target.exists()]
    if missing:
        say(f"compiling {len(missing)} of the self-test's {len(objects)} files for sm_{arch}")

    def compile_one(source: Path) -> None:
        partial = objects[source].with_suffix(f".{os.getpid()}.o")
        call([nvcc, *options, "-c", source, "-o", partial])
        partial.replace(objects[source])

    with ThreadPoolExecutor(building.jobs()) as pool:
        list(pool.map(compile_one, missing))
    program = cache / f"selftest-{building.digest(*objects.values())}"
    if not program.exists():
        partial = program.with_suffix(f".{os.getpid()}")
        call([nvcc, "-cudart", "shared", *objects.values(), "-o", partial])
        partial.replace(program)
    return program


def problem(command: Sequence[str | Path], environment: dict[str, str], error: str) -> str:
    """Run a test; return what failed, or an empty string."""
    try:
        result = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not finish within {TIMEOUT} s"
    output = result.stdout + result.stderr
    wanted = ERROR_STATUS if error else 0
    if result.returncode != wanted:
        return f"exit status is {result.returncode}; expected {wanted}\n{output}"
    if error and not re.search(f"^cuda-emulator: ERROR: (?:{error}): ", output, re.MULTILINE):
        return f"no report of kind {error}\n{output}"
    return ""


def test_kernels(program: Path, environment: dict[str, str], names: Sequence[str]) -> int:
    """Run the kernel tests; return the number of failures."""
    lines = subprocess.run([program], capture_output=True, text=True, env=environment, check=True)
    tests = dict(line.split("\t") for line in lines.stdout.splitlines())
    if unknown := set(names) - set(tests):
        sys.exit(f"cuda-emulator: no such kernel test: {', '.join(sorted(unknown))}")
    arch, failed, count = int(environment["EMU_ARCH"]), 0, 0
    for name, error in tests.items():
        needed = re.match(r"sm(\d+)_", name)
        if (names and name not in names) or (needed and int(needed[1]) > arch):
            continue
        count += 1
        for seed in range(SEEDS):
            found = problem([program, name], environment | {"EMU_SEED": str(seed)}, error)
            if found:
                failed += 1
                indented = found.rstrip().replace("\n", "\n    ")
                print(f"FAILED {name}, seed {seed}: {indented}", flush=True)
                break
    print(f"{count - failed} of {count} kernel tests passed for sm_{arch}", flush=True)
    return failed


def test_python(python: str, environment: dict[str, str]) -> int:
    """Run the tests of the stand-in for CuPy and of the options; return pytest's exit status."""
    environment = environment | {"PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += [
        f"--confcutdir={HERE}",
        f"--rootdir={HERE}",
        "--import-mode=importlib",
        str(HERE / "stand_in.py"),
        str(HERE / "options.py"),
    ]
    return subprocess.run(command, env=environment, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and run the tests; exit with 1 if one fails."""
    parser = argparse.ArgumentParser(
        prog="run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="90", help="75, 80, 90, ... (default: 90)")
    parser.add_argument("names", metavar="NAME", nargs="*", help="run only these kernel tests")
    args = parser.parse_args(arguments)
    begin = time.monotonic()
    cache = building.default_cache()
    try:
        nvcc = building.find_nvcc()
        building.check_arch(nvcc, args.arch)
        with building.locked(cache):
            library = building.build_emulator(cache, building.find_headers(nvcc))
            program = build(cache, nvcc, args.arch)
            python = building.find_python(cache)
    except (BuildError, OSError) as error:
        sys.exit(f"cuda-emulator: {error}")
    environment = {name: value for name, value in os.environ.items() if name[:4] != "EMU_"}
    environment |= {
        "EMU_ARCH": building.capability(args.arch),
        "EMU_LIBRARY": str(library),
        "EMU_WATCHDOG": str(WATCHDOG),
        "NVTX_INJECTION64_PATH": str(library),
        "LD_LIBRARY_PATH": str(library.parent),
    }
    failed = test_kernels(program, environment, args.names)
    if not args.names:
        failed += test_python(python, environment | {"EMU_SELFTEST": str(program)})
    print(f"{time.monotonic() - begin:.0f} s")
    sys.exit(failed > 0)
