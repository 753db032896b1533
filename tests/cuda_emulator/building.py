"""Builds everything that an emulated command needs, in a cache outside the checkout.

These are the emulator (a library that replaces libcudart), the project's modules ``_host`` and
``_cuda`` (PTX for one architecture, linked to that library), and a package of links to the
checkout's Python files, with copies of these modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SOURCES = HERE / "emulator"
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fPIC", "-Wall", "-Wextra"]
FLAGS += ["-fno-strict-aliasing", "-ffp-contract=off", "-fno-math-errno"]
#: Exported functions: for the CUDA runtime API, nvcc's host code, the stand-in for CuPy, NVTX.
EXPORTS = ["cuda*;", "__cuda*;", "emu_*;", "InitializeInjectionNvtx2;"]
#: Packages that the command's Python needs, by module name.
PACKAGES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "matplotlib": "matplotlib",
    "scipy": "scipy",
    "pytest": "pytest",
    "setuptools": "setuptools",
    "pybind11": "pybind11",
    "cmake": "cmake",
    "ninja": "ninja",
}


class BuildError(Exception):
    """A tool is missing or a build fails. The message is for the user."""


def say(text: str) -> None:
    """Print a status message."""
    print(f"cuda-emulator: {text}", file=sys.stderr, flush=True)


def call(command: Sequence[str | Path]) -> str:
    """Run a command and return its output; raise BuildError, with the output, if it fails."""
    words = list(map(str, command))
    try:
        result = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        raise BuildError(f"cannot run {words[0]}: {error.strerror}") from error
    if result.returncode:
        raise BuildError(f"failed: {shlex.join(words)}\n{result.stdout.rstrip()}")
    return result.stdout


def jobs() -> int:
    """Return the number of parallel compilations."""
    given = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def default_cache() -> Path:
    """Return the cache folder: EMU_CACHE, or one in the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EMU_CACHE") or home / "cuda-emulator").absolute()


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache's lock: one process builds at a time."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "lock").touch()
    except OSError as error:
        raise BuildError(
            f"cannot write to cache {cache}: {error.strerror}; set EMU_CACHE to another folder"
        ) from error
    with open(cache / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically: no reader sees part of it."""
    if path.exists() and path.read_text() == text:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.chmod(mode)
    partial.replace(path)


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, atomically."""
    if path.is_symlink() and Path(os.readlink(path)) == target:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.symlink_to(target)
    partial.replace(path)


def digest(*parts: object) -> str:
    """Return a short hash of the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


# --- tools ---


def find_nvcc() -> str:
    """Return nvcc's path. If CUDACXX is set, no other is tried."""
    chosen = os.environ.get("CUDACXX")
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [f"{home}/bin/nvcc" for home in homes] + ["nvcc", "/usr/local/cuda/bin/nvcc"]
    for candidate in [chosen] if chosen else candidates:
        if found := shutil.which(candidate):
            return found
    if chosen:
        raise BuildError(f"CUDACXX is {chosen}; expected a program")
    raise BuildError("nvcc (CUDA toolkit) not found on PATH, in CUDACXX or in CUDA_HOME/bin")


def find_headers(nvcc: str) -> Path:
    """Return the folder with CUDA's headers."""
    program = Path(nvcc).resolve()
    homes = [program.parent.parent, Path("/usr/local/cuda")]
    for line in call([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull]).splitlines():
        if line.startswith("#$ TOP="):
            homes.insert(0, program.parent / line.removeprefix("#$ TOP="))
    homes[:0] = [Path(os.environ[v]) for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    for home in homes:
        for folder in (home / "include", *sorted(home.glob("targets/*/include"))):
            if (folder / "cuda_runtime_api.h").exists():
                return folder
    raise BuildError(f"no cuda_runtime_api.h found for {nvcc}; set CUDA_HOME to its toolkit")


def check_arch(nvcc: str, arch: str) -> None:
    """Raise BuildError unless nvcc supports the architecture."""
    supported = re.findall(r"compute_(\d+)", call([nvcc, "--list-gpu-arch"]))
    if not re.fullmatch(r"\d+[af]?", arch) or capability(arch) not in supported:
        known = ", ".join(sorted(set(supported), key=int))
        raise BuildError(f"--arch is {arch}; expected one that {nvcc} supports: {known}")


def capability(arch: str) -> str:
    """Return an architecture's number: 90 for 90a."""
    return arch.rstrip("af")


def find_python(cache: Path) -> str:
    """Return a Python that has PACKAGES: from PATH, the running one, or one in the cache."""
    probe = "import " + ", ".join(PACKAGES)
    own = cache / "venv" / "bin" / "python"
    for candidate in (shutil.which("python"), sys.executable, str(own)):
        if candidate and Path(candidate).exists():
            found = subprocess.run([candidate, "-c", probe], capture_output=True, check=False)
            if found.returncode == 0:
                return candidate
    say("creating a virtual environment with " + ", ".join(PACKAGES.values()))
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise BuildError(f"{sys.executable} has no venv module; install it (Debian: python3-venv)")
    call([sys.executable, "-m", "venv", own.parent.parent])
    call([own, "-m", "pip", "install", "-q", *PACKAGES.values()])
    return str(own)


def find_tool(python: str, name: str) -> str:
    """Return a program installed with a Python package, or the one on PATH."""
    beside = Path(python).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise BuildError(f"{name} not found; install it with: pip install {name}")
    return found


# --- the emulator ---


def included_files(source: Path, seen: set[Path] | None = None) -> set[Path]:
    """Return a source file and the emulator's headers that it includes, even indirectly."""
    seen = set() if seen is None else seen
    if source not in seen:
        seen.add(source)
        for name in re.findall(r'^#include "(.+)"', source.read_text(), re.MULTILINE):
            included_files(SOURCES / name, seen)
    return seen


def processor() -> str:
    """Return the processor's features, which -march=native depends on."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    found = re.search(r"^(?:flags|Features).*$", text, re.MULTILINE)
    return found[0] if found else ""


def build_emulator(cache: Path, headers: Path) -> Path:
    """Build the library and return its path. Only changed files are compiled."""
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if not shutil.which(compiler[0]):
        raise BuildError(f"C++ compiler {compiler[0]} not found; set CXX to another")
    text = (headers / "cuda_runtime_api.h").read_text()
    version = int(re.findall(r"define CUDART_VERSION\s+(\d+)", text)[0])
    shared = digest(compiler, FLAGS, processor(), headers, version)
    folder = cache / "objects"
    folder.mkdir(exist_ok=True)

    objects = {}
    for source in sorted(SOURCES.rglob("*.cpp")):
        contents = [file.read_text() for file in sorted(included_files(source))]
        objects[source] = folder / f"{source.stem}-{digest(shared, *contents)}.o"
    missing = [source for source, target in objects.items() if not target.exists()]
    if missing:
        say(f"compiling {len(missing)} of the emulator's {len(objects)} files")

    def compile_one(source: Path) -> None:
        partial = objects[source].with_suffix(f".{os.getpid()}")
        call([*compiler, *FLAGS, f"-I{SOURCES}", f"-I{headers}", "-c", source, "-o", partial])
        partial.replace(objects[source])

    with ThreadPoolExecutor(jobs()) as pool:
        list(pool.map(compile_one, missing))
    name = f"libcudart.so.{version // 1000}"
    script = f"{name} {{ global: {' '.join(EXPORTS)} local: *; }};\n"
    library = cache / f"library-{digest(script, *objects.values())}" / name
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        exports = library.parent / "exports.map"
        write(exports, script)
        partial = library.with_suffix(f".{os.getpid()}")
        options = [f"-Wl,-soname,{name}", f"-Wl,--version-script={exports}", "-Wl,--no-undefined"]
        call(
            [*compiler, "-shared", "-o", partial, *objects.values(), *options, "-ldl", "-lpthread"]
        )
        partial.replace(library)
    return library


# --- the project ---


def check_checkout() -> None:
    """Raise BuildError unless this folder is in tests/ of the project."""
    if not all((PROJECT / name).exists() for name in ("CMakeLists.txt", "csrc", "pyalexnet")):
        raise BuildError(f"{HERE} is not in a checkout; expected tests/cuda_emulator of pyalexnet")


def build_module(folder: Path, python: str, nvcc: str, target: str, arch: str = "") -> Path:
    """Build ``_host`` or ``_cuda`` with the project's CMakeLists.txt and return its path."""
    ninja = find_tool(python, "ninja")
    pybind = call([python, "-m", "pybind11", "--cmakedir"]).strip()
    options = [
        f"-DPYALEXNET_TARGET={target}",
        f"-DPython_EXECUTABLE={python}",
        f"-Dpybind11_DIR={pybind}",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
    ]
    if target == "cuda":
        options += [
            "-DPYALEXNET_CUDA_RUNTIME=Shared",
            f"-DPYALEXNET_CUDA_ARCHS={arch}-virtual",
            f"-DCMAKE_CUDA_COMPILER={nvcc}",
            # mutate.py edits the PTX in the module.
            "-DCMAKE_CUDA_FLAGS=--no-compress",
            "-DCMAKE_SKIP_RPATH=ON",
        ]
    if not (folder / "build.ninja").exists():
        say(f"building _{target}" + (f" for sm_{arch}" if arch else ""))
    call([find_tool(python, "cmake"), "-G", "Ninja", "-S", PROJECT, "-B", folder, *options])
    call([ninja, "-j", str(jobs()), "-C", folder])
    return next(folder.glob(f"_{target}.*.so"))


def install_module(module: Path, package: Path) -> None:
    """Copy a module into the package, atomically: programs may be loading the old one."""
    target = package / module.name
    built, status = module.stat(), target.stat() if target.exists() else None
    if status and (status.st_mtime_ns, status.st_size) == (built.st_mtime_ns, built.st_size):
        return
    partial = package / f".{module.name}.{os.getpid()}"
    shutil.copy2(module, partial)
    partial.replace(target)


def lay_out(root: Path, modules: Sequence[Path]) -> Path:
    """Set up `root` for importing pyalexnet and the stand-in for CuPy."""
    package = root / "pyalexnet"
    package.mkdir(parents=True, exist_ok=True)
    link(root / "cupy", HERE / "cupy")
    source = PROJECT / "pyalexnet"
    names = {entry.name for entry in source.iterdir() if not entry.name.startswith(("__py", "."))}
    names = {name for name in names if not name.endswith(".so")}
    for name in names:
        link(package / name, source / name)
    for module in modules:
        install_module(module, package)
    for entry in package.iterdir():  # links to files that the checkout no longer has
        if entry.is_symlink() and entry.name not in names:
            entry.unlink()
    return root


def write_commands(folder: Path, python: str) -> Path:
    """Write the project's commands, which an installation would put on PATH."""
    folder.mkdir(exist_ok=True)
    text = (PROJECT / "pyproject.toml").read_text()
    section = re.search(r"^\[project\.scripts\]\n((?:[^\[\n].*\n)*)", text, re.MULTILINE)
    commands = re.findall(
        r'^([\w-]+) = "([\w.]+):(\w+)"', section[1] if section else "", re.MULTILINE
    )
    # pytest as a script: `python -m pytest` would import from the current folder.
    for name, module, function in [*commands, ("pytest", "pytest", "main")]:
        code = f"import sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
        write(folder / name, f"#!{python}\n{code}", 0o755)
    for name in ("python", "python3"):
        write(folder / name, f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n', 0o755)
    return folder


class Environment:
    """The build that a command runs in.

    Attributes
    ----------
    python : str
        The Python interpreter.
    library : Path
        The emulator's library.
    package : Path
        The folder to import pyalexnet and cupy from.
    commands : Path
        The folder with the project's commands, for PATH.
    """

    def __init__(self, cache: Path, arch: str) -> None:
        check_checkout()
        nvcc = find_nvcc()
        check_arch(nvcc, arch)
        with locked(cache):
            self.library = build_emulator(cache, find_headers(nvcc))
            self.python = find_python(cache)
            folder = cache / digest(PROJECT, self.python, nvcc)
            modules = [
                build_module(folder / "host", self.python, nvcc, "host"),
                build_module(folder / f"cuda{arch}", self.python, nvcc, "cuda", arch),
            ]
            self.package = lay_out(folder / f"package{arch}", modules)
            self.commands = write_commands(folder / "bin", self.python)
