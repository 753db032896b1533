"""Builds the extension modules with CMake and ninja, driven by setuptools.

Everything else is in pyproject.toml. These environment variables select what is built:

PYALEXNET_CUDA
    ``auto`` (the default) builds for NVIDIA GPUs if nvcc is found and compiles a trial, ``on``
    fails without such an nvcc, ``off`` builds for the host only.
PYALEXNET_CUDA_ARCHS
    ``native`` or a list like ``75;80;90``. Default: the local GPU's architecture; without a GPU, a
    list that covers sm_75 and newer.
PYALEXNET_HOST_ARCH
    ``native`` (the default), ``avx512``, ``avx2``, ``portable`` or a value of the compiler's
    -march.
PYALEXNET_VECTORS
    ``native`` (the default), or ``loops``: the host's kernels use a GPU's vectors.
PYALEXNET_TEST_BUILD
    ``1`` adds ``_host.selftest``, kernels that test the host's execution model.
PYALEXNET_SANITIZE
    Sanitizers for the host's module, like ``address,undefined``.
PYALEXNET_WERROR
    ``1`` makes compiler warnings errors.

CXX, CXXFLAGS, CUDACXX, CUDAFLAGS, CUDAHOSTCXX, CUDA_HOME and CMAKE_BUILD_PARALLEL_LEVEL have
CMake's meaning.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, OptionError, PlatformError

ROOT = Path(__file__).resolve().parent
OPTIONS = ("CUDA_ARCHS", "HOST_ARCH", "VECTORS", "TEST_BUILD", "SANITIZE", "WERROR")
DEFAULTS = {"HOST_ARCH": "native", "VECTORS": "native"}
COMPILER_VARIABLES = ("CXX", "CXXFLAGS", "LDFLAGS", "CUDAFLAGS", "CUDAHOSTCXX")
COMPILERS = ("c++", "g++", "clang++")  # CMake's candidates
OLDEST_CMAKE = (3, 20)
OLDEST_CUDA = (12, 0)
#: What an nvcc must be able to compile: it may lack its headers, libraries or a host compiler.
TRIAL = """#include <cuda_runtime.h>
__global__ void trial() {}
int main() { trial<<<1, 1>>>(); }
"""
#: Loads a module as Python does, but runs none of its code.
LOAD = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], os.RTLD_NOW)"


def version_of(program: str, pattern: str) -> tuple[int, int] | None:
    """Returns the version that ``program --version`` prints, (major, minor); None if it fails."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(pattern, result.stdout)
    return (int(match[1]), int(match[2])) if match else None


def find_tool(name: str, directory: str, environ: Mapping[str, str]) -> str | None:
    """Returns the program of the PyPI package `name`, else the one on PATH."""
    try:
        packaged = Path(getattr(importlib.import_module(name), directory)) / name
    except (ImportError, AttributeError):
        return shutil.which(name, path=environ.get("PATH"))
    return str(packaged)


def find_cmake(environ: Mapping[str, str]) -> str:
    """Returns CMake's path. Raises PlatformError if it is missing or too old."""
    cmake = find_tool("cmake", "CMAKE_BIN_DIR", environ)
    if cmake is None:
        raise PlatformError(
            f"CMake is missing; expected {dotted(OLDEST_CMAKE)} or newer: pip install cmake"
        )
    version = version_of(cmake, r"cmake version (\d+)\.(\d+)")
    if version is None or version < OLDEST_CMAKE:
        raise PlatformError(
            f"{cmake} is {dotted(version) if version else 'of unknown version'}; "
            f"expected CMake {dotted(OLDEST_CMAKE)} or newer: pip install cmake"
        )
    return cmake


def find_ninja(environ: Mapping[str, str]) -> str:
    """Returns ninja's path. Raises PlatformError if it is missing."""
    ninja = find_tool("ninja", "BIN_DIR", environ)
    if ninja is None:
        raise PlatformError("ninja is missing; expected on PATH: pip install ninja")
    return ninja


def check_compiler(environ: Mapping[str, str]) -> None:
    """Raises PlatformError if CMake would find no C++ compiler."""
    named = shlex.split(environ.get("CXX", ""))[:1]
    if not any(shutil.which(name, path=environ.get("PATH")) for name in named or COMPILERS):
        what = f"CXX is '{named[0]}', which is missing" if named else "C++ compiler is missing"
        raise PlatformError(
            f"{what}; expected a C++17 compiler: "
            "install g++ or clang++ (Debian, Ubuntu: apt install g++), or set CXX"
        )


def find_nvcc(environ: Mapping[str, str]) -> str | None:
    """Returns the nvcc to build with; None to build for the host only.

    Raises PlatformError, saying what is missing, if PYALEXNET_CUDA is ``on`` and no nvcc will do.
    """
    wanted = environ.get("PYALEXNET_CUDA", "auto").lower()
    if wanted not in ("auto", "on", "off"):
        raise OptionError(f"PYALEXNET_CUDA is '{wanted}'; expected 'auto', 'on' or 'off'")
    if wanted == "off":
        return None
    homes = [environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    places = [environ["CUDACXX"]] if environ.get("CUDACXX") else []
    places += [str(Path(home, "bin", "nvcc")) for home in homes]
    places += ["nvcc", "/usr/local/cuda/bin/nvcc"]
    found = [shutil.which(place, path=environ.get("PATH")) for place in places]
    nvcc = next(filter(None, found), None)
    if nvcc is None:
        missing = (
            "nvcc is missing; expected one of "
            + ", ".join([*places[:-2], "nvcc on PATH", places[-1]])
            + ": install the CUDA toolkit, or set CUDA_HOME to its folder"
        )
    else:
        version = version_of(nvcc, r"release (\d+)\.(\d+)")
        release = f"of CUDA {dotted(version)}" if version else "a program that does not run"
        missing = f"{nvcc} is {release}; expected CUDA {dotted(OLDEST_CUDA)} or newer"
        if version is not None and version >= OLDEST_CUDA:
            problem = trial_problem(nvcc, environ)
            if not problem:
                return nvcc
            missing = f"{nvcc} compiles no kernel: {problem}"
    if wanted == "on":
        raise PlatformError(f"PYALEXNET_CUDA is 'on', but {missing}")
    print(f"pyalexnet: building for the host only: {missing}", flush=True)
    return None


def trial_problem(nvcc: str, environ: Mapping[str, str]) -> str:
    """Returns why `nvcc` does not compile TRIAL; "" if it does."""
    flags = shlex.split(environ.get("CUDAFLAGS", ""))
    if environ.get("CUDAHOSTCXX"):
        flags += ["-ccbin", environ["CUDAHOSTCXX"]]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cu")
        source.write_text(TRIAL)
        command = [nvcc, *flags, "-o", str(source.with_suffix("")), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return [*errors, *lines, f"it ends with status {done.returncode}"][0]


def dotted(version: tuple[int, int]) -> str:
    """Formats a version."""
    return f"{version[0]}.{version[1]}"


def check_symbols(module: Path) -> None:
    """Raises CompileError if a symbol of the module is defined nowhere.

    The linker cannot tell: Python's own symbols are defined by the interpreter that loads it.
    """
    done = subprocess.run([sys.executable, "-c", LOAD, module], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{module} does not load: {done.stderr.strip().splitlines()[-1]}")


class CMakeBuild(build_ext):
    """Builds each extension module with CMake and copies it where setuptools expects it."""

    def run(self) -> None:
        """Builds ``_host``, and ``_cuda`` if PYALEXNET_CUDA and the machine allow it."""
        self.nvcc = find_nvcc(os.environ)
        if self.nvcc is None:
            self.extensions = [e for e in self.extensions if e.name != "pyalexnet._cuda"]
            for earlier in Path(self.build_lib).glob("pyalexnet/_cuda.*"):
                earlier.unlink()  # else it would be installed too
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Configures and builds one module, in a build folder per set of options."""
        module = ext.name.rpartition(".")[2]
        check_compiler(os.environ)
        cmake, ninja = find_cmake(os.environ), find_ninja(os.environ)
        options = [f"-DPYALEXNET_TARGET={module.removeprefix('_')}"]
        options += [
            f"-DPYALEXNET_{name}={os.environ.get(f'PYALEXNET_{name}') or DEFAULTS.get(name, '')}"
            for name in OPTIONS
        ]
        if module == "_cuda":
            options.append(f"-DCMAKE_CUDA_COMPILER={self.nvcc}")
        key = [sys.implementation.cache_tag, *options]
        key += [os.environ.get(name, "") for name in COMPILER_VARIABLES]
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]
        folder = ROOT / "build" / f"cmake{module}-{digest}"
        # Not in the key: paths that every isolated build changes, and the version (of one file).
        options += [
            f"-DPYALEXNET_VERSION={self.distribution.get_version()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={importlib.import_module('pybind11').get_cmake_dir()}",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
        ]
        self.cmake(cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", *options)
        self.cmake(cmake, "--build", folder)
        destination = Path(self.get_ext_fullpath(ext.name))
        destination.parent.mkdir(parents=True, exist_ok=True)
        fresh = destination.with_name(f".{destination.name}.new")
        shutil.copy2(folder / destination.name, fresh)
        fresh.replace(destination)  # processes may run the earlier one, which must not change
        if not os.environ.get("PYALEXNET_SANITIZE"):  # whose libraries must be loaded first
            check_symbols(destination)

    def cmake(self, *command: str | Path) -> None:
        """Runs CMake, which prints its own errors."""
        try:
            subprocess.run(list(map(str, command)), check=True)
        except subprocess.CalledProcessError as error:
            advice = " (PYALEXNET_CUDA=off builds without CUDA)" if self.nvcc else ""
            raise CompileError(f"CMake failed; its messages are above{advice}") from error


if __name__ == "__main__":
    setup(
        ext_modules=[Extension("pyalexnet._host", sources=[]), Extension("pyalexnet._cuda", [])],
        cmdclass={"build_ext": CMakeBuild},
    )
