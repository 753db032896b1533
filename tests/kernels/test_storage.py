"""Kernels with bfloat16 arrays, which convert when they load and store."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.checks import HOST, execution, floats, padded
from pyalexnet import ops

pytestmark = pytest.mark.host_only("calls kernels that only the host's test build has")


@pytest.fixture(params=["host", "gpu", "gpu-plain-loads"], autouse=True)
def tiles(request: pytest.FixtureRequest, guarded_memory: None):
    with execution(tiles=request.param):
        yield


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Rounds float32 values to bfloat16, to nearest, ties to even; returns the bits."""
    bits = x.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), bits >> 16 | 0x40, rounded).astype(np.uint16)


def to_float(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("activation", ["", "relu"])
@pytest.mark.parametrize(("filters", "groups"), [(48, 2), (10, 2), (17, 1)])
def test_convolution(selftest, activation, filters, groups, rng):
    x, w = padded(floats(rng, 6, 7, 5, 7)), floats(rng, 6 // groups, 3, 3, filters)
    x, w, b = to_bf16(x), to_bf16(w), floats(rng, filters)
    y = HOST.empty((filters, 7, 5, x.shape[3]), np.uint16)
    selftest.conv_forward_bf16(y, x, w, b, 1, 1, groups, activation)
    expected = ops.conv_forward(
        to_float(x), to_float(w), b, pad=1, groups=groups, activation=activation
    )
    np.testing.assert_array_equal(y, to_bf16(expected))


def test_normalisation(selftest, rng):
    x = to_bf16(padded(3 * floats(rng, 12, 3, 5, 33)))
    y = HOST.empty(x.shape, np.uint16)
    selftest.lrn_forward_bf16(y, x)
    np.testing.assert_array_equal(y, to_bf16(ops.lrn_forward(to_float(x))))


def test_rounding(selftest):
    """A filter of 1 copies its input: ties go to even, infinities and NaN are kept."""
    values = [1, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 3.4e38, np.inf, -np.inf, np.nan, 0, -0.0]
    b = np.array(values, np.float32)
    x, w = (
        to_bf16(padded(np.zeros((1, 1, 1, 1), np.float32))),
        np.zeros((1, 1, 1, b.size), np.uint16),
    )
    y = HOST.empty((b.size, 1, 1, x.shape[3]), np.uint16)
    selftest.conv_forward_bf16(y, x, w, b, 1, 0, 1, "")
    np.testing.assert_array_equal(y[:, 0, 0, 0], to_bf16(b + np.float32(0)))
