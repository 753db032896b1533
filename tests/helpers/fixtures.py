"""Fixtures for all tests."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from helpers import checks, target
from pyalexnet import device as devices


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def selftest() -> ModuleType:
    """The kernels that only a test build has."""
    lib = checks.HOST.lib
    if not hasattr(lib, "selftest"):
        pytest.skip("needs a test build: PYALEXNET_TEST_BUILD=1 pip install …")
    return lib.selftest


@pytest.fixture
def guarded_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fills the memory of `empty` with NaN and puts guards of NaN on both sides.

    This detects elements that no kernel writes, and writes out of bounds. The emulator does both by
    itself.
    """
    if target.EMULATED:
        yield
        return
    kind, guard = type(target.DEVICE), 256
    empty = kind.empty
    memories = []

    def guarded(self, shape, dtype=np.float32):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = empty(self, (size + 2 * guard,), np.uint8)
        self.copy_in(memory, np.full(memory.shape, 0xFF, np.uint8))
        memories.append(memory)
        return memory[guard : guard + size].view(dtype).reshape(shape)

    monkeypatch.setattr(kind, "empty", guarded)
    yield
    for memory in map(target.download, memories):
        assert (memory[:guard] == 0xFF).all() and (memory[-guard:] == 0xFF).all()


@pytest.fixture(params=checks.tiles("host", "gpu"))
def tiles(request: pytest.FixtureRequest, guarded_memory: None) -> Iterator[str]:
    """Runs the test with the CPU's tiles and with the GPU's; on a GPU only with the latter."""
    with checks.running_with(request.param):
        yield request.param


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the device under test the default of the commands."""
    monkeypatch.setattr(devices, "default_name", lambda: target.NAME)
