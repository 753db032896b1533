"""What the package does in one place only, so that a fault is met in one way everywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyalexnet

pytestmark = pytest.mark.host_only("computes nothing")

PACKAGE = Path(pyalexnet.__file__).parent

#: Calls, by the modules that may make them; a name after "." is that of a method.
PLACES = {
    # Reading text that may be damaged: bounded, and every fault of it one error.
    "json.load": "",
    # Of a worker's parent; of a net just written; of a bounded line, which may be cut off.
    "json.loads": "files.py data/loading/workers.py training/checkpoint.py training/metrics.py",
    "tomllib.load": "",
    "tomllib.loads": "files.py",
    "pickle.load": "",
    "pickle.loads": "data/loading/workers.py",  # of a worker's own parent
    # Opening what may not be a regular file. Images and kits are opened from bytes.
    "open": "",
    "os.open": "files.py streams.py",
    "io.open": "",
    ".read_text": "control_groups.py cores.py device/host.py",  # of the kernel's own files
    ".expanduser": "files.py",
    ".resolve": "",  # raises RuntimeError for a link that leads to itself, until Python 3.13
    "os.path.realpath": "files.py",
    # Replacing files.
    "os.replace": "files.py",
    "os.rename": "",
    ".rename": "",
    ".write_bytes": "",
    ".write_text": "",
    "os.fsync": "files.py",
    "fcntl.flock": "files.py",
    "fcntl.lockf": "",
    # How many cores there are.
    "os.cpu_count": "cores.py",
    "os.sched_getaffinity": "cores.py",
    "multiprocessing.cpu_count": "",
    # Starting processes.
    "subprocess.Popen": "data/loading/processes.py",
    "subprocess.run": "",
    "os.fork": "",
}


def calls(path: Path) -> set[str]:
    """The functions that a module calls, and its methods after a "."."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found.add(name)
            if isinstance(node.func, ast.Attribute):
                found.add(f".{node.func.attr}")
    return found


@pytest.mark.parametrize("name", PLACES)
def test_only_its_place_does_it(name: str) -> None:
    users = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if name in calls(path)
    }
    assert users == set(PLACES[name].split())
