"""The sum of two arrays."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.checks import assert_exact, assert_same_bits, floats
from helpers.kernels import ops

pytestmark = pytest.mark.usefixtures("tiles")


@pytest.mark.parametrize("shape", [(1,), (3, 5), (7, 1, 3, 33), (100_003,)])
def test_sum(shape, rng):
    a, b = floats(rng, *shape), floats(rng, *shape)
    assert_exact(ops.add(a, b), a + b)


def test_in_place(rng):
    a, b = floats(rng, 99), floats(rng, 99)
    expected = a + b
    for out in (a.copy(), b.copy()):
        first, second = (out, b) if np.array_equal(out, a) else (a, out)
        assert ops.add(first, second, out=out) is out
        assert_exact(out, expected)


def test_any_order_same_bits(rng):
    assert_same_bits(ops.add, floats(rng, 10_007), floats(rng, 10_007))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"b has shape \(3,\); expected \(2,\)"):
        ops.add(np.zeros(2, np.float32), np.zeros(3, np.float32))
