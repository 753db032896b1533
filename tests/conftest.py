"""Fixtures for the tests of the kernels."""

from __future__ import annotations

import zlib
from types import ModuleType

import checks
import numpy as np
import pytest

from pyalexnet.device import HostDevice


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
def guarded_memory(monkeypatch: pytest.MonkeyPatch):
    """Makes `empty` give memory full of NaN with more of it on both sides.

    An element that no kernel writes cannot pass then, nor a write beyond an array's end.
    """
    empty, guard = HostDevice.empty, 256
    memories = []

    def guarded(self, shape, dtype=np.float32):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = empty(self, (size + 2 * guard,), np.uint8)
        memory.fill(0xFF)
        memories.append(memory)
        return memory[guard : guard + size].view(dtype).reshape(shape)

    monkeypatch.setattr(HostDevice, "empty", guarded)
    yield
    for memory in memories:
        assert (memory[:guard] == 0xFF).all() and (memory[-guard:] == 0xFF).all()


@pytest.fixture(params=["host", "gpu"])
def tiles(request: pytest.FixtureRequest, guarded_memory: None):
    """Runs the test with the CPU's tiles, then with the GPU's."""
    with checks.execution(tiles=request.param):
        yield request.param
