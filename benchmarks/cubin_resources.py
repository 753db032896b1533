"""Lists registers, shared memory and spills of every kernel in the built ``pyalexnet._cuda``.

Needs no GPU, but cuobjdump: the CUDA toolkit's, or ``pip install nvidia-cuda-cuobjdump``. Fails if
a kernel uses local memory on any architecture, or if there is no kernel named ``tile_gemm…``.

    python benchmarks/cubin_resources.py [a file with cubins in it]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

GEMM = "tile_gemm"
PACKAGE = "nvidia-cuda-cuobjdump"


@dataclass(frozen=True)
class Kernel:
    """Resources of one kernel on one architecture: registers per thread, the rest in bytes.

    ``stack`` and ``local`` are local memory, which holds spilled registers; ``shared`` is the
    static part of a block's shared memory.
    """

    name: str
    arch: str
    registers: int
    shared: int
    stack: int
    local: int


def parse(text: str) -> list[Kernel]:
    """Parses the output of ``cuobjdump -res-usage``; names are mangled."""
    kernels = []
    arch = name = ""
    for line in text.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            name = match[1]
        elif re.match(r"\s*REG:", line):
            sizes = {key: int(size) for key, size in re.findall(r"(\w+)(?:\[\d+\])?:(\d+)", line)}
            kernels.append(
                Kernel(name, arch, sizes["REG"], sizes["SHARED"], sizes["STACK"], sizes["LOCAL"])
            )
    return kernels


def problems(kernels: list[Kernel]) -> list[str]:
    """Returns a line for each kernel that spills, or one if there is no matrix product."""
    if not any(GEMM in kernel.name for kernel in kernels):
        return [f"there is no kernel named {GEMM}"]
    return [
        f"{k.name} keeps {k.stack + k.local} bytes in local memory on {k.arch}"
        for k in kernels
        if k.stack or k.local
    ]


def find_cuobjdump() -> str:
    """Finds cuobjdump on PATH, in the toolkit, or in the PyPI package, which is not on PATH."""
    found = shutil.which("cuobjdump") or shutil.which("/usr/local/cuda/bin/cuobjdump")
    if found:
        return found
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "cuobjdump":
            return str(file.locate())
    sys.exit(f"cubin_resources: error: there is no cuobjdump: pip install {PACKAGE}")


def find_module() -> Path:
    """Finds the installed ``pyalexnet._cuda``."""
    spec = importlib.util.find_spec("pyalexnet._cuda")
    if spec is None or spec.origin is None:
        sys.exit("cubin_resources: error: pyalexnet is installed without pyalexnet._cuda")
    return Path(spec.origin)


def readable(kernels: list[Kernel]) -> list[Kernel]:
    """Replaces mangled names by those of C++ without namespaces, if there is a c++filt."""
    if shutil.which("c++filt") is None:
        return kernels
    names = "\n".join(kernel.name for kernel in kernels)
    command = ["c++filt", "--no-params"]
    result = subprocess.run(command, check=True, input=names, capture_output=True, text=True)
    plain = re.sub(r"\bpyalexnet::|\(anonymous namespace\)::", "", result.stdout).splitlines()
    return [replace(k, name=name) for k, name in zip(kernels, plain, strict=True)]


def main() -> None:
    """Prints the table; exits with 1 if a kernel spills."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="default: the installed module")
    file = parser.parse_args().file or find_module()
    command = [find_cuobjdump(), "-res-usage", str(file)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kernels = readable(parse(output))
    print("arch    registers  shared  stack  local  kernel")
    for k in sorted(kernels, key=lambda k: (k.name, int(re.sub(r"\D", "", k.arch)))):
        print(f"{k.arch:7} {k.registers:9} {k.shared:7} {k.stack:6} {k.local:6}  {k.name}")
    found = problems(kernels)
    for problem in found:
        print(f"cubin_resources: error: {problem}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
