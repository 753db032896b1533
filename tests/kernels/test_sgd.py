"""Stochastic gradient descent."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import assert_accurate, assert_exact, assert_same_bits, floats, integers
from helpers.kernels import ops

pytestmark = pytest.mark.usefixtures("tiles")

#: Starts of segments, in units of 64 floats, among them many, long and empty ones.
STARTS = {
    "one": [0, 4],
    "several": [0, 1, 3, 4, 10],
    "empty ones": [0, 0, 2, 2, 2, 5, 5],
    "many": list(range(0, 200, 3)),
    "long": [0, 1030, 1031, 3100],
}


@pytest.fixture(params=STARTS)
def starts(request: pytest.FixtureRequest) -> np.ndarray:
    return 64 * np.array(STARTS[request.param], np.int64)


def step(w, g, v, starts, rates, decays, momentum):
    """Returns the new weights and momenta."""
    w, v = w.copy(), v.copy()
    ops.sgd(w, g, v, starts, rates, decays, momentum=momentum)
    return w, v


def test_powers_of_two_are_exact(starts, rng):
    w, g, v = (integers(rng, starts[-1]) for _ in range(3))
    rates = 2.0 ** rng.integers(-3, 1, len(starts) - 1).astype(np.float32)
    decays = rng.choice(np.float32([0, 0.25, 0.5]), len(rates))
    args = w, g, v, starts, rates, decays, 0.5
    for actual, expected in zip(step(*args), reference.sgd(*args), strict=True):
        assert_exact(actual, expected)


def test_errors(starts, rng):
    w, g, v = (floats(rng, starts[-1]) for _ in range(3))
    rates = rng.uniform(0.001, 0.1, len(starts) - 1).astype(np.float32)
    decays = rng.uniform(0, 0.01, len(rates)).astype(np.float32)
    momentum = float(np.float32(0.9))
    args = w, g, v, starts, rates, decays, momentum
    exact = reference.sgd(*(a.astype(float) for a in (w, g, v)), starts, rates, decays, momentum)
    # The size is that of a step with terms of one sign.
    terms = np.abs(w).astype(float), -np.abs(g).astype(float), np.abs(v).astype(float)
    up = reference.sgd(*terms, starts, rates, -decays, momentum)
    results = zip(step(*args), exact, reference.sgd(*args), up, strict=True)
    for actual, expected, plain, size in results:
        assert_accurate(actual, expected, plain, size)


def test_bits(starts, rng):
    w, g, v = (floats(rng, starts[-1]) for _ in range(3))
    rates, decays = floats(rng, len(starts) - 1), floats(rng, len(starts) - 1)
    assert_same_bits(lambda *args: step(*args, 0.9), w, g, v, starts, rates, decays)


def test_nan_stays_where_it_is(rng):
    w, g, v = (floats(rng, 256) for _ in range(3))
    g[77] = np.nan
    starts, rates = np.array([0, 64, 256]), np.float32([0.1, 0.1])
    for result in step(w, g, v, starts, rates, rates, 0.9):
        assert np.flatnonzero(np.isnan(result)).tolist() == [77]


FLAT = np.zeros(256, np.float32)
PAIR = np.zeros(2, np.float32)


def looked_at(*values: object) -> object:
    """Wrong contents of an array."""
    reason = "looks at what an array holds, as no launch on a GPU does"
    return pytest.param(*values, marks=pytest.mark.host_only(reason))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"weights": FLAT.astype(np.float64)}, r"^weights .*dtype"),
        ({"weights": FLAT.reshape(2, 128)}, r"^weights .*1 dimension$"),
        ({"weights": np.zeros(512, np.float32)[::2]}, r"^weights .*contiguous"),
        ({"gradients": FLAT[:192]}, r"^gradients .*\(192,\).*\(256,\)"),
        ({"gradients": FLAT.astype(np.int32)}, r"^gradients .*dtype"),
        ({"momenta": FLAT[64:]}, r"^momenta .*\(192,\).*\(256,\)"),
        ({"starts": np.array([0, 64, 256], np.int32)}, r"^starts .*dtype.*<i8"),
        ({"starts": np.array([0, 256])}, r"^starts .*\(2,\).*\(3,\)"),
        looked_at({"starts": np.array([64, 128, 256])}, r"^starts .*from 0"),
        looked_at({"starts": np.array([0, 64, 192])}, r"^starts .*256"),
        looked_at({"starts": np.array([0, 100, 256])}, r"^starts .*multiples of 64"),
        looked_at({"starts": np.array([0, 320, 256])}, r"^starts .*ascend"),
        ({"rates": PAIR[None]}, r"^rates .*1 dimension$"),
        ({"decays": PAIR[:1]}, r"^decays .*\(1,\).*\(2,\)"),
        ({"decays": PAIR.astype(np.float64)}, r"^decays .*dtype"),
    ],
)
def test_refuses(args, message):
    good = {"weights": FLAT, "gradients": FLAT.copy(), "momenta": FLAT.copy(), "momentum": 0.9}
    good |= {"starts": np.array([0, 64, 256]), "rates": PAIR, "decays": PAIR}
    ops.sgd(**good)
    with pytest.raises(ValueError, match=message):
        ops.sgd(**{**good, **args})
