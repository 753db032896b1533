"""Fixtures for the tests of the kernels."""

from __future__ import annotations

import zlib

import checks
import numpy as np
import pytest

from pyalexnet.device import HostDevice


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that are the same whenever the same test runs."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def fresh_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills what `empty` allocates, so that an element that no kernel writes cannot pass."""
    empty = HostDevice.empty

    def poisoned(self, shape, dtype=np.float32):
        array = empty(self, shape, dtype)
        array.reshape(-1).view(np.uint8)[...] = 0xFF
        return array

    monkeypatch.setattr(HostDevice, "empty", poisoned)


@pytest.fixture(params=["host", "gpu"])
def tiles(request: pytest.FixtureRequest, fresh_memory_is_nan: None):
    """Runs the test with the CPU's tiles, then with the GPU's."""
    with checks.execution(tiles=request.param):
        yield request.param
