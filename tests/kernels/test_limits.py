"""Kernels in processes with limits, at the end of the interpreter, and on other processors."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyalexnet
from helpers import checks

pytestmark = [
    pytest.mark.host_only("limits the host's memory and threads"),
    pytest.mark.skipif(sys.platform != "linux", reason="sets Linux's limits"),
    pytest.mark.skipif(
        "san.so" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need memory of their own"
    ),
]

#: Runs a kernel whose threads wait for each other, and whose result is known.
PRELUDE = """
import os, re, resource, threading
import numpy as np
from pyalexnet import _host
kernels, n = _host.Kernels(), _host.IMAGES_MULTIPLE
dy, db = np.ones((64, 3, n), np.float32), np.zeros(64, np.float32)
def run():
    db[:] = 0
    kernels.bias_backward(db, dy)
    assert (db == 3 * n).all()
def limit(extra):
    size = int(re.search(r"VmSize:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + extra, resource.RLIM_INFINITY))
def unlimit():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs code after the prelude in a process of its own."""
    command = [sys.executable, "-X", "faulthandler", "-c", PRELUDE + code]
    # Where Python finds no pyalexnet that has not been built.
    options = {"cwd": Path(__file__).parent, **options}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def assert_prints(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, text, "")


def test_threads_that_cannot_be_made_are_done_without():
    code = """
_host.set_threads(1000)
limit(100 << 20)
run(); run()
started = len(os.listdir("/proc/self/task"))
print(_host.threads(), 1 < started < 900)
unlimit()
_host.set_threads(3)
run()
"""
    assert_prints(python(code), "1000 True")


@pytest.mark.parametrize("order", ["forward", "shuffled"])
def test_fibers_that_cannot_be_made_are_a_memory_error(order):
    code = f"""
_host.set_threads(2)
_host.set_execution(order={order!r}, seed=3, tiles="gpu")
errors = 0
for extra in range(0, 40):
    limit(extra << 18)
    try:
        run()
    except MemoryError:
        errors += 1
    finally:
        unlimit()
    _host.set_threads(1 + extra % 3)  # new workers, which have no fibers yet
run()
print(errors > 10)
"""
    assert_prints(python(code), "True")


@pytest.mark.parametrize("tiles", ["host", "gpu"])
def test_a_thread_in_a_kernel_does_not_keep_the_interpreter_from_ending(tiles):
    code = f"""
_host.set_execution(tiles={tiles!r})
begun = [threading.Event() for _ in range(4)]
def work(event):
    dy, db = np.ones((64, 3, n), np.float32), np.zeros(64, np.float32)
    while True:
        kernels.bias_backward(db, dy)
        event.set()
for event in begun:
    threading.Thread(target=work, args=(event,), daemon=True).start()
for event in begun:
    event.wait()
print("ends", flush=True)
"""
    assert_prints(python(code), "ends")


def test_a_subinterpreter_cannot_import_the_kernels():
    code = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
script = '''
import importlib.machinery, importlib.util
spec = importlib.util.spec_from_file_location("pyalexnet._host", PATH)
try:
    importlib.util.module_from_spec(spec)
except ImportError as error:
    print(error, flush=True)
'''.replace("PATH", repr(_host.__file__))
try:
    interpreters.run_string(interpreters.create(), script)
finally:
    run()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "subinterpreters" in done.stdout


# Processors


def lacking(folder: Path, feature: str) -> None:
    """Copies the package to `folder`, its kernels compiled for a processor with a feature."""
    package = Path(pyalexnet.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "_cuda*")
    shutil.copytree(package, folder / "pyalexnet", ignore=ignored)
    [module] = (folder / "pyalexnet").glob("_host.*.so")
    name = feature.encode().ljust(16, b"\0")
    code = module.read_bytes()
    assert code.count(name) == 1
    at = code.index(name) + len(name)
    assert code[at] == 0, "this build does need it"
    module.write_bytes(code[:at] + b"\1" + code[at + 1 :])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that was built for a processor with FMA4, which AMD made until 2015."""
    if "fma4" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has FMA4")
    folder = tmp_path_factory.mktemp("foreign")
    lacking(folder, "fma4")
    return folder


def test_another_processors_kernels_are_not_loaded(foreign):
    code = """
import sys
try:
    import pyalexnet._host
except ImportError as error:
    print(error)
from pyalexnet import device
from pyalexnet.errors import DeviceError
try:
    device.get("host")
except DeviceError as error:
    print(error)
"""
    environment = {"PYTHONPATH": str(foreign), "PATH": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=foreign, env=environment)
    first, second = done.stdout.splitlines()
    assert first.startswith("it was built for another processor: this one lacks fma4; install")
    assert first.endswith(("_ARCH=avx2 for both", "_ARCH=portable for both"))
    assert second == f"the extension pyalexnet._host does not load: {first}"


def test_info_says_which_processor_it_lacks(foreign):
    environment = {"PYTHONPATH": str(foreign), "PATH": ""}
    command = [sys.executable, "-m", "pyalexnet", "info"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=foreign, env=environment)
    assert "host: not usable: the extension pyalexnet._host does not load: it was" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_runs_before_the_processor_is_checked():
    """The only initialiser is the C library's own: what is compiled natively has none."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("there is no readelf")
    module = checks.HOST.lib.__file__
    sections = subprocess.check_output([readelf, "--sections", "--wide", module], text=True)
    [row] = [line.split("]")[1].split() for line in sections.splitlines() if ".init_array" in line]
    assert int(row[4], 16) == 8
    assert ".ctors" not in sections
