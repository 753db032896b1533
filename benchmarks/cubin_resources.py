"""Registers, shared memory and spills of every kernel in the built ``pyalexnet._cuda``.

Needs no GPU, but cuobjdump: the CUDA toolkit's, or ``pip install nvidia-cuda-cuobjdump``. Fails
when a kernel keeps anything in local memory on any architecture, and when there is no kernel named
``tile_gemm…`` to look at.

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
    """What one kernel takes on one architecture: registers a thread, the rest in bytes.

    ``stack`` and ``local`` are local memory, where registers spill to; ``shared`` is the static
    part of a block's shared memory.
    """

    name: str
    arch: str
    registers: int
    shared: int
    stack: int
    local: int


def parse(text: str) -> list[Kernel]:
    """The kernels in what ``cuobjdump -res-usage`` prints, under their mangled names."""
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
    """Kernels that spill, a line each; that there is no matrix product is a problem, too."""
    if not any(GEMM in kernel.name for kernel in kernels):
        return [f"there is no kernel named {GEMM}"]
    return [
        f"{k.name} keeps {k.stack + k.local} bytes in local memory on {k.arch}"
        for k in kernels
        if k.stack or k.local
    ]


def find_cuobjdump() -> str:
    """Cuobjdump on PATH, of the toolkit or of the PyPI package, which leaves it off PATH."""
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
    """The installed ``pyalexnet._cuda``."""
    spec = importlib.util.find_spec("pyalexnet._cuda")
    if spec is None or spec.origin is None:
        sys.exit("cubin_resources: error: pyalexnet is installed without pyalexnet._cuda")
    return Path(spec.origin)


def readable(kernels: list[Kernel]) -> list[Kernel]:
    """The kernels under their names in C++, less namespaces, if there is a c++filt to tell them."""
    if shutil.which("c++filt") is None:
        return kernels
    names = "\n".join(kernel.name for kernel in kernels)
    command = ["c++filt", "--no-params"]
    result = subprocess.run(command, check=True, input=names, capture_output=True, text=True)
    plain = re.sub(r"\bpyalexnet::|\(anonymous namespace\)::", "", result.stdout).splitlines()
    return [replace(k, name=name) for k, name in zip(kernels, plain, strict=True)]


def main() -> None:
    """Prints the table and exits with 1 if a kernel spills."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, help="instead of the installed module")
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
