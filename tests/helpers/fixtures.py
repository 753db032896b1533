"""Fixtures of all tests."""

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
    """Random numbers that are the same whenever the same test runs."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def selftest() -> ModuleType:
    """The kernels that only test builds have."""
    lib = checks.HOST.lib
    if not hasattr(lib, "selftest"):
        pytest.skip("needs a test build: PYALEXNET_TEST_BUILD=1 pip install …")
    return lib.selftest


@pytest.fixture
def guarded_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes `empty` give memory full of NaN with more of it on both sides.

    An element that no kernel writes cannot pass then, nor a write beyond an array's end. Emulated
    memory is full of NaN and guarded by itself, to the byte.
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
    """Runs the test with the CPU's tiles, then with the GPU's; on a GPU with its own."""
    with checks.running_with(request.param):
        yield request.param


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the device under test the one that commands take where none is named."""
    monkeypatch.setattr(devices, "default_name", lambda: target.NAME)
