"""Takes each barrier and each wait away in turn, and says which tests notice.

    tests/cuda_emulator/run [--arch N] [--seed N] -- python tests/cuda_emulator/mutate.py
    tests/cuda_emulator/run -- python tests/cuda_emulator/mutate.py -k softmax
    tests/cuda_emulator/run -- python tests/cuda_emulator/mutate.py --waits

Barriers, and waits for asynchronous copies, are removed from the PTX of a copy of ``_cuda``; waits
between streams, and of the host for a stream, are skipped by the stand-in for CuPy (EMU_DROP_WAIT).
Exits with 1 if one is missed that is not known to be equivalent.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

#: Part of a kernel's mangled name, and the tests that run it.
KERNELS = {
    "FiltersByRow": "kernels/test_conv.py -k test_forward_of_integers",
    "FiltersByChannel": "kernels/test_conv.py -k test_backward_data_of_integers",
    "PatchesByRow": "kernels/test_conv.py -k test_backward_weights_of_integers",
    "softmax_kernel": "kernels/test_softmax.py",
    "totals_kernel": "kernels/test_softmax.py",
    "bias_backward": "kernels/test_conv.py -k bias_backward",
    "augment_kernel": "kernels/test_augment.py",
}

#: Tests that wait between streams, with the devices that they run on.
STREAMS = [
    ("cuda:0,cuda:1", "device/test_device_arrays.py"),
    ("cuda:0,cuda:1", "parallel/test_split.py -k same_bits_and_gradients"),
    ("cuda:0", "training/test_trainer.py"),
    ("cuda:0", "parallel/test_communicator.py"),
]

#: Functions whose waits change no result, and why.
EQUIVALENT = {
    "synchronize": "only those who measure time call it: a download waits for its stream by itself",
}

SITE = re.compile(
    rb"(?:bar\.sync\s+0|cp\.async\.wait_all|cp\.async\.wait_group\s+\d+|bar\.warp\.sync\s+-?\w+);"
)


class Site(NamedTuple):
    """A barrier or a wait in the module's PTX."""

    instruction: bytes
    start: int
    kernel: str
    line: str


def sites(module: bytes) -> Iterator[Site]:
    """The barriers and waits of all kernels, in order."""
    for match in SITE.finditer(module):
        entry = module.rfind(b".entry ", 0, match.start())
        kernel = module[entry + 7 : module.index(b"(", entry)].decode()
        lines = re.findall(rb"\.loc\s+\d+ (\d+)", module[entry : match.start()])
        yield Site(match[0], match.start(), kernel, lines[-1].decode() if lines else "?")


def notices(tests: str, device: str, **environ: str) -> str:
    """Who notices: the emulator, by its error, or a test, by its name; "" where nobody does."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--capture=sys",
    ]
    command += ["--device", device, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    file, *options = tests.split()
    done = subprocess.run(
        [*command, str(ROOT / "tests" / file), *options],
        env={**os.environ, "EMU_STATS": "", "PYTHONSAFEPATH": "1", **environ},
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return ""
    text = done.stdout + done.stderr
    for pattern in (r"ERROR: (.*)", r"(?:FAILED|ERROR) \S*?(test_\w+\.py::\w+)", r"(Timeout) \("):
        if match := re.search(pattern, text):
            return match[1]
    return f"status {done.returncode}: {text.strip().splitlines()[-1] if text.strip() else ''}"


def mutate_kernels(word: str) -> int:
    """Removes each barrier of the kernels that have `word`; how many are missed."""
    spec = importlib.util.find_spec("pyalexnet._cuda")
    assert spec and spec.origin
    module = Path(spec.origin)
    data, missed, total = module.read_bytes(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pyalexnet")
        package.mkdir()
        for entry in module.parent.iterdir():
            if entry.name != module.name:
                (package / entry.name).symlink_to(entry.resolve())
        path = os.pathsep.join([folder, os.environ["PYTHONPATH"]])
        for site in sites(data):
            tests = next((tests for part, tests in KERNELS.items() if part in site.kernel), "")
            name = next((part for part in KERNELS if part in site.kernel), site.kernel)
            if word not in name:
                continue
            end = site.start + len(site.instruction)
            broken = data[: site.start] + b" " * len(site.instruction) + data[end:]
            (package / module.name).unlink(missing_ok=True)
            (package / module.name).write_bytes(broken)
            by = notices(tests, "cuda:0", PYTHONPATH=path) if tests else ""
            total, missed = total + 1, missed + (not by)
            what = f"{name}, line {site.line}: {site.instruction.decode()}"
            print(f"{what} {by or 'MISSED' if tests else 'NO TESTS KNOWN'}", flush=True)
    print(f"{total - missed} of {total} noticed")
    return missed


def function_at(place: str) -> str:
    """The name of the product's function that has a source line, "file:line"."""
    path, _, number = place.partition(":")
    for line in reversed((ROOT / path).read_text().splitlines()[: int(number)]):
        if match := re.match(r"\s+def (\w+)", line):
            return match[1]
    return ""


def mutate_waits() -> int:
    """Skips each wait that STREAMS' tests pass; how many are missed."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "waits")
        for device, tests in STREAMS:
            if by := notices(tests, device, EMU_LIST_WAITS=str(found)):
                sys.exit(f"mutate: error: {tests} fails as it is: {by}")
        places = sorted({p for p in found.read_text().split() if p.startswith("pyalexnet/")})
    missed = 0
    for place in places:
        by, function = "", function_at(place)
        for device, tests in STREAMS:
            by = by or notices(tests, device, EMU_DROP_WAIT=place)
        why = EQUIVALENT.get(function, "")
        missed += not by and not why
        print(
            f"{place}, {function}: {by or (f'equivalent: {why}' if why else 'MISSED')}", flush=True
        )
    print(f"{len(places)} waits, {missed} missed")
    return missed


def main() -> None:
    """Tries what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-k", default="", metavar="WORD", help="kernels whose name has this word")
    parser.add_argument("--waits", action="store_true", help="waits between streams alone")
    parser.add_argument("--kernels", action="store_true", help="kernels alone")
    args = parser.parse_args()
    missed = 0
    if not args.waits:
        missed += mutate_kernels(args.k)
    if not args.kernels and not args.k:
        missed += mutate_waits()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
