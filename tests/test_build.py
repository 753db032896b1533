"""The build: what setup.py asks of the machine, the modules it made, and the check of cubins."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pyalexnet

pytestmark = pytest.mark.host_only("builds modules and runs scripts")

ROOT = Path(__file__).resolve().parent.parent


def load(path: str) -> ModuleType:
    """A script of the checkout as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_script", ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


setup = load("setup.py")
cubins = load("benchmarks/cubin_resources.py")


def program(folder: Path, name: str, output: str, status: int = 0) -> Path:
    """Makes an executable that prints `output` and exits with `status`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    path.chmod(0o755)
    return path


# --- nvcc ---


def test_nvcc_is_not_looked_for_when_cuda_is_off(tmp_path):
    program(tmp_path, "nvcc", "release 13.0, V13.0.88")
    assert setup.find_nvcc({"PATH": str(tmp_path), "PYALEXNET_CUDA": "off"}) is None


@pytest.mark.parametrize("wanted", ["auto", "on"])
def test_nvcc_on_path_is_used(tmp_path, wanted):
    nvcc = program(tmp_path, "nvcc", "release 13.0, V13.0.88")
    assert setup.find_nvcc({"PATH": str(tmp_path), "PYALEXNET_CUDA": wanted}) == str(nvcc)


def test_the_named_toolkit_goes_before_path(tmp_path):
    program(tmp_path / "path", "nvcc", "release 13.0, V13.0.88")
    home = program(tmp_path / "cuda" / "bin", "nvcc", "release 12.4, V12.4.1")
    environ = {"PATH": str(tmp_path / "path"), "CUDA_HOME": str(tmp_path / "cuda")}
    assert setup.find_nvcc(environ) == str(home)
    named = program(tmp_path / "named", "my-nvcc", "release 12.8, V12.8.1")
    assert setup.find_nvcc({**environ, "CUDACXX": str(named)}) == str(named)


@pytest.mark.parametrize(
    ("output", "status", "reason"),
    [
        ("release 11.8, V11.8.89", 0, "is of CUDA 11.8; expected CUDA 12.0 or newer"),
        ("no licence", 1, "is a program that does not run"),
    ],
)
def test_an_unfit_nvcc_is_an_error_only_when_demanded(tmp_path, capfd, output, status, reason):
    nvcc = program(tmp_path, "nvcc", output, status)
    assert setup.find_nvcc({"PATH": str(tmp_path)}) is None
    assert f"building for the host only: {nvcc} {reason}" in capfd.readouterr().out
    with pytest.raises(setup.PlatformError, match=f"PYALEXNET_CUDA is 'on', but {nvcc} {reason}"):
        setup.find_nvcc({"PATH": str(tmp_path), "PYALEXNET_CUDA": "on"})


def trial_program(folder: Path, commands: str) -> Path:
    """Makes an nvcc that knows its version, and otherwise runs shell commands."""
    nvcc = program(folder, "nvcc", "")
    nvcc.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo release 13.0 && exit\n{commands}\n")
    return nvcc


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (
            "note: in\ncc1plus: fatal error: cuda.h: No such file",
            "cc1plus: fatal error: cuda.h",
        ),
        ("Killed", "Killed"),
        ("", "it ends with status 1"),
    ],
)
def test_an_nvcc_that_compiles_nothing_is_an_error_only_when_demanded(
    tmp_path, capfd, errors, reason
):
    nvcc = trial_program(tmp_path, f"printf '{errors}' >&2; exit 1")
    assert setup.find_nvcc({"PATH": str(tmp_path)}) is None
    printed = capfd.readouterr().out
    assert f"building for the host only: {nvcc} compiles no kernel: {reason}" in printed
    message = f"PYALEXNET_CUDA is 'on', but {nvcc} compiles no kernel: {reason}"
    with pytest.raises(setup.PlatformError, match=re.escape(message)):
        setup.find_nvcc({"PATH": str(tmp_path), "PYALEXNET_CUDA": "on"})


def test_the_trial_is_compiled_as_the_kernels_are(tmp_path):
    nvcc = trial_program(tmp_path, f'echo "$*" >{tmp_path}/seen')
    environ = {"PATH": str(tmp_path), "CUDAFLAGS": "-O1 -g", "CUDAHOSTCXX": "clang++"}
    assert setup.find_nvcc(environ) == str(nvcc)
    assert (tmp_path / "seen").read_text().startswith("-O1 -g -ccbin clang++ -o ")


def test_an_nvcc_here_passes_its_trial():
    nvcc = setup.shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    assert setup.trial_problem(nvcc, {}) == ""


def test_a_demanded_nvcc_that_is_missing_names_every_place(tmp_path, monkeypatch):
    monkeypatch.setattr(setup.shutil, "which", lambda *args, **kwargs: None)
    environ = {"PYALEXNET_CUDA": "on", "CUDA_HOME": "/opt/cuda", "CUDACXX": "/opt/my-nvcc"}
    with pytest.raises(setup.PlatformError) as caught:
        setup.find_nvcc(environ)
    for place in ("/opt/my-nvcc", "/opt/cuda/bin/nvcc", "nvcc on PATH", "/usr/local/cuda/bin/nvcc"):
        assert place in str(caught.value)


def test_an_unknown_choice_of_cuda_is_refused():
    with pytest.raises(setup.OptionError, match="'maybe'; expected 'auto', 'on' or 'off'"):
        setup.find_nvcc({"PYALEXNET_CUDA": "maybe"})


# --- the other tools ---


def test_a_missing_compiler_is_named(tmp_path):
    with pytest.raises(setup.PlatformError, match=r"C\+\+ compiler is missing; expected a C\+\+17"):
        setup.check_compiler({"PATH": str(tmp_path)})
    with pytest.raises(setup.PlatformError, match="CXX is 'icx', which is missing"):
        setup.check_compiler({"PATH": str(tmp_path), "CXX": "icx -O3"})
    program(tmp_path, "clang++", "clang")
    setup.check_compiler({"PATH": str(tmp_path)})


@pytest.mark.parametrize("tool", ["cmake", "ninja"])
def test_a_missing_tool_says_how_to_get_it(tmp_path, monkeypatch, tool):
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(setup.PlatformError, match=f"is missing; .*: pip install {tool}"):
        getattr(setup, f"find_{tool}")({"PATH": str(tmp_path)})


def test_an_old_cmake_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cmake", None)
    cmake = program(tmp_path, "cmake", "cmake version 3.18.4")
    with pytest.raises(setup.PlatformError, match=f"{cmake} is 3.18; expected CMake 3.20 or newer"):
        setup.find_cmake({"PATH": str(tmp_path)})
    program(tmp_path, "cmake", "cmake version 4.1.0")
    assert setup.find_cmake({"PATH": str(tmp_path)}) == str(cmake)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-DPYALEXNET_TARGET=vulkan", "PYALEXNET_TARGET is 'vulkan'"),
        ("-DPYALEXNET_HOST_ARCH=eniac", "PYALEXNET_HOST_ARCH is 'eniac'"),
    ],
)
def test_cmake_names_an_option_it_cannot_take(tmp_path, option, message):
    pytest.importorskip("pybind11", reason="configuring needs pybind11")
    cmake = setup.find_tool("cmake", "CMAKE_BIN_DIR", setup.os.environ)
    if cmake is None:
        pytest.skip("configuring needs CMake")
    done = subprocess.run(
        [cmake, "-S", ROOT, "-B", tmp_path, f"-DPython_EXECUTABLE={sys.executable}", option],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())


def configure(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs CMake for the host's module, as setup.py does."""
    pytest.importorskip("pybind11", reason="configuring needs pybind11")
    cmake, ninja = (
        setup.find_tool(*tool, setup.os.environ)
        for tool in (("cmake", "CMAKE_BIN_DIR"), ("ninja", "BIN_DIR"))
    )
    if cmake is None or ninja is None:
        pytest.skip("configuring needs CMake and ninja")
    options = [f"-DPython_EXECUTABLE={sys.executable}", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    return subprocess.run(
        [cmake, "-G", "Ninja", "-S", source, "-B", folder, *options],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["x [1]", "[", "a*?"])
def test_a_folder_of_any_name_has_its_kernels(tmp_path, name):
    source = tmp_path / name
    setup.shutil.copytree(ROOT / "csrc", source / "csrc")
    setup.shutil.copy(ROOT / "CMakeLists.txt", source)
    done = configure(source, tmp_path / "build")
    assert done.returncode == 0, done.stderr
    rules = (tmp_path / "build" / "build.ninja").read_text()
    kernels = [*(ROOT / "csrc").rglob("*.cu"), *(ROOT / "csrc" / "simt").glob("*.cpp")]
    assert len(kernels) > 15
    for kernel in kernels:
        built = f"{kernel.relative_to(ROOT)}.o" in rules
        assert built == (kernel.name != "selftest.cu"), kernel


def test_a_source_folder_without_kernels_is_refused(tmp_path):
    source = tmp_path / "source"
    (source / "csrc").mkdir(parents=True)
    setup.shutil.copy(ROOT / "CMakeLists.txt", source)
    done = configure(source, tmp_path / "build")
    assert done.returncode != 0
    assert f"no kernels are in {source}/csrc; expected" in " ".join(done.stderr.split())


def test_a_module_with_undefined_symbols_is_refused(tmp_path):
    compiler = setup.shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    source, module = tmp_path / "lacks.cpp", tmp_path / "lacks.so"
    for body in ("", "void nowhere(); void f() { nowhere(); }"):
        source.write_text(body)
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", module], check=True)
        if not body:
            setup.check_symbols(module)
    with pytest.raises(setup.CompileError, match=r"lacks.so does not load: .*undefined symbol"):
        setup.check_symbols(module)


# --- what was built ---


def test_the_module_has_the_version_of_the_package():
    host = importlib.import_module("pyalexnet._host")
    assert host.build_info()["version"] == importlib.metadata.version("pyalexnet")


def test_both_modules_offer_the_same_kernels():
    host = importlib.import_module("pyalexnet._host")
    try:
        cuda = importlib.import_module("pyalexnet._cuda")
    except ModuleNotFoundError:
        pytest.skip("this build has no CUDA")
    only_host = {"execution", "set_execution", "threads", "set_threads"}
    only_cuda = {"device_count", "device_error"}

    def public(module: ModuleType) -> set[str]:
        return {name for name in dir(module) if not name.startswith("_") and name != "selftest"}

    assert public(host) - only_host == public(cuda) - only_cuda
    assert only_host <= public(host)
    assert only_cuda <= public(cuda)
    assert (host.TARGET, cuda.TARGET) == ("host", "cuda")


# --- the stubs, which editors and mypy read in place of the modules ---


def signature(function: ast.FunctionDef) -> tuple[list[str], list[str], list[object]]:
    """Names of positional and of keyword-only parameters, and the defaults."""
    args = function.args
    names = [a.arg for a in args.posonlyargs + args.args], [a.arg for a in args.kwonlyargs]
    defaults = [d and ast.literal_eval(d) for d in [*args.defaults, *args.kw_defaults]]
    return *names, defaults


def stub(name: str, cls: str = "") -> dict[str, ast.FunctionDef]:
    """The functions of a module's stub, or of a class in it."""
    source = Path(pyalexnet.__file__).with_name(f"{name}.pyi").read_text()
    body = ast.parse(source).body
    if cls:
        [body] = [node.body for node in body if isinstance(node, ast.ClassDef) and node.name == cls]
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def built(owner: Any) -> dict[str, ast.FunctionDef]:
    """The same of a module or class that pybind11 made, by the first lines of its docstrings."""
    functions = {}
    for name in dir(owner):
        if name == "__init__" or not name.startswith("_"):
            value = getattr(owner, name)
            if callable(value) and not isinstance(value, type):
                line, _, rest = value.__doc__.partition("\n")
                assert name == "__init__" or rest.strip(), f"{name} says nothing of itself"
                [functions[name]] = ast.parse(f"def {line}: {rest.strip()!r}").body
    return functions


@pytest.mark.parametrize("name", ["_host", "_cuda"])
def test_stubs_are_true(name):
    try:
        module = importlib.import_module(f"pyalexnet.{name}")
    except ModuleNotFoundError:
        pytest.skip(f"this build has no {name}")
    kernels = stub("_host", "Kernels") | stub(name, "Kernels")
    for stubs, real in ((stub(name), built(module)), (kernels, built(module.Kernels))):
        assert {k: signature(v) for k, v in stubs.items()} == {
            k: signature(v) for k, v in real.items()
        }
        for key, function in stubs.items():
            if key != "__init__":
                assert ast.get_docstring(function) == ast.get_docstring(real[key]), key


# --- the check of cubins ---

USAGE = """
Fatbin elf code:
================
arch = sm_{arch}
code version = [1,8]

Resource usage:
 Common:
  GLOBAL:0 CONSTANT[3]:28
 Function _Z16tile_gemm_kernelILi2EEvPf:
  REG:128 STACK:{stack} SHARED:1024 LOCAL:{local} CONSTANT[0]:536 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z11relu_kernelPf:
  REG:8 STACK:{relu_stack} SHARED:0 LOCAL:0 CONSTANT[0]:536 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


def usage(arch: object, stack: int = 0, local: int = 0, relu_stack: int = 0) -> str:
    return USAGE.format(arch=arch, stack=stack, local=local, relu_stack=relu_stack)


def test_cubins_are_read():
    text = usage(75) + usage("90a")
    kernels = cubins.parse(text)
    gemm = "_Z16tile_gemm_kernelILi2EEvPf"
    assert [(k.arch, k.name) for k in kernels[::2]] == [("sm_75", gemm), ("sm_90a", gemm)]
    assert kernels[0] == cubins.Kernel(gemm, "sm_75", 128, 1024, 0, 0)
    assert kernels[1].registers == 8
    assert cubins.problems(kernels) == []


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ({"stack": 8}, "_Z16tile_gemm_kernelILi2EEvPf"),
        ({"local": 8}, "_Z16tile_gemm_kernelILi2EEvPf"),
        ({"relu_stack": 8}, "_Z11relu_kernelPf"),
    ],
)
def test_a_kernel_that_spills_is_a_problem(sizes, name):
    kernels = cubins.parse(usage(75) + usage(80, **sizes))
    assert cubins.problems(kernels) == [f"{name} keeps 8 bytes in local memory on sm_80"]


def test_names_are_made_readable():
    if setup.shutil.which("c++filt") is None:
        pytest.skip("there is no c++filt")
    mangled = "_ZN9pyalexnet12_GLOBAL__N_111relu_kernelILi4EEEvPf"
    kernels = [cubins.Kernel(mangled, arch, 8, 0, 0, 0) for arch in ("sm_80", "sm_90")]
    assert [(k.name, k.arch) for k in cubins.readable(kernels)] == [
        ("relu_kernel<4>", "sm_80"),
        ("relu_kernel<4>", "sm_90"),
    ]


def test_the_check_needs_a_matrix_product():
    assert cubins.problems([]) == ["there is no kernel named tile_gemm"]
    relu = cubins.Kernel("_Z11relu_kernelPf", "sm_80", 8, 0, 0, 0)
    assert len(cubins.problems([relu])) == 1
