"""Local response normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import (
    ROUNDING,
    assert_accurate,
    assert_exact,
    assert_gradient,
    assert_same_bits,
    floats,
    padded,
)
from helpers.kernels import ops
from helpers.target import DEVICE
from helpers.ulps import granted

pytestmark = pytest.mark.usefixtures("tiles")

PAPER = {"size": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}
STRONG = {"size": 5, "k": 1.0, "alpha": 0.4, "beta": 0.75}  # the window's part is not small
WAYS = {
    "paper": PAPER,
    "paper, towers": {**PAPER, "groups": 2},
    "strong": STRONG,
    "strong, groups": {**STRONG, "groups": 3},
    "size 1": {**STRONG, "size": 1},
    "size 3, any beta": {**STRONG, "size": 3, "beta": 0.6},
    "size 5, any beta": {**STRONG, "beta": 1.0, "groups": 2},
    "size 9": {**STRONG, "size": 9},
    "wider than the group": {**STRONG, "size": 15, "groups": 2},
}


@pytest.fixture(params=WAYS)
def how(request: pytest.FixtureRequest) -> dict[str, float]:
    return WAYS[request.param]


def sizes_of_terms(dy: np.ndarray, x: np.ndarray, how: dict) -> np.ndarray:
    """Adds the magnitudes of the gradient's two terms."""
    dy, x = np.abs(dy), np.abs(x)
    first = dy * reference.lrn_forward(x, **how) / x
    return 2 * first - reference.lrn_backward(dy, x, **how)


def test_errors(how, rng):
    x, dy = 3 * floats(rng, 96, 9, 9, 16), floats(rng, 96, 9, 9, 16)
    x64, dy64 = x.astype(float), dy.astype(float)
    y = ops.lrn_forward(padded(x), **how)[..., :16]
    exact = reference.lrn_forward(x64, **how)
    power = granted("inverse_three_quarters" if how["beta"] == 0.75 else "powf")
    assert_accurate(y, exact, reference.lrn_forward(x, **how), np.abs(exact), power)
    dx = ops.lrn_backward(padded(dy), padded(x), **how)[..., :16]
    exact = reference.lrn_backward(dy64, x64, **how)
    plain = reference.lrn_backward(dy, x, **how)
    # The second term also has the power divided by s.
    assert_accurate(dx, exact, plain, sizes_of_terms(dy64, x64, how), 2 * power)


@pytest.mark.parametrize("shape", [(6, 1, 1, 1), (12, 3, 5, 7), (18, 2, 1, 33), (96, 5, 3, 1)])
def test_shapes(shape, how, rng):
    x, dy = 3 * floats(rng, *shape), floats(rng, *shape)
    x64, dy64 = x.astype(float), dy.astype(float)
    y = ops.lrn_forward(padded(x), **how)[..., : shape[3]]
    np.testing.assert_allclose(y, reference.lrn_forward(x64, **how), rtol=32 * ROUNDING)
    dx = ops.lrn_backward(padded(dy), padded(x), **how)[..., : shape[3]]
    error = np.abs(dx - reference.lrn_backward(dy64, x64, **how))
    assert (error <= 32 * ROUNDING * sizes_of_terms(dy64, x64, how)).all()


def test_by_hand():
    """With k = alpha = beta = 1 the scale is 1 plus a sum of squares."""
    n = DEVICE.images_multiple
    x = np.zeros((9, 1, 1, n), np.float32)
    x[[0, 3, 8]] = [[[[2]]], [[[6]]], [[[4]]]]
    y = ops.lrn_forward(x, size=3, k=1, alpha=1, beta=1)
    expected = np.zeros_like(x)
    expected[[0, 3, 8]] = np.float32([[[[2 / 5]]], [[[6 / 37]]], [[[4 / 17]]]])
    np.testing.assert_array_max_ulp(y, expected, 2)
    assert not y[[1, 2, 4, 5, 6, 7]].any()


def test_defaults_are_the_papers(rng):
    x, dy = padded(floats(rng, 10, 2, 2, 3)), padded(floats(rng, 10, 2, 2, 3))
    assert_exact(ops.lrn_forward(x), ops.lrn_forward(x, **PAPER, groups=1))
    assert_exact(ops.lrn_backward(dy, x), ops.lrn_backward(dy, x, **PAPER, groups=1))


def test_the_mask_of_a_relu(how, rng):
    x, dy = padded(floats(rng, 12, 3, 5, 7)), padded(floats(rng, 12, 3, 5, 7))
    x[rng.random(x.shape) < 0.2] = 0
    dx = ops.lrn_backward(dy, x, **how)
    assert_exact(ops.lrn_backward(dy, x, **how, masked=True), np.where(x > 0, dx, 0))


def test_groups_are_apart(rng):
    x, dy = padded(floats(rng, 10, 2, 3, 7)), padded(floats(rng, 10, 2, 3, 7))
    halves = slice(5), slice(5, 10)
    y = ops.lrn_forward(x, **STRONG, groups=2)
    dx = ops.lrn_backward(dy, x, **STRONG, groups=2)
    for half in halves:
        assert_exact(y[half], ops.lrn_forward(x[half], **STRONG))
        assert_exact(dx[half], ops.lrn_backward(dy[half], x[half], **STRONG))


def test_gradient_is_central_differences(how, rng):
    shape = (6, 1, 1, DEVICE.images_multiple)
    x, dy = floats(rng, *shape), floats(rng, *shape)
    assert_gradient(
        lambda x: ops.lrn_forward(x, **how),
        lambda dy: ops.lrn_backward(dy, x, **how),
        *(x, dy),
        step=2.0**-7,
        atol=1e-3,
        images=2,
    )


@pytest.mark.parametrize("shape", [(12, 1, 1, 7), (12, 9, 7, 33), (12, 27, 27, 1)])
@pytest.mark.parametrize("way", ["paper", "size 9", "size 3, any beta"])
def test_bits(shape, way, rng):
    x, dy = padded(floats(rng, *shape)), padded(floats(rng, *shape))
    assert_same_bits(lambda x: ops.lrn_forward(x, **WAYS[way]), x)
    assert_same_bits(lambda dy, x: ops.lrn_backward(dy, x, **WAYS[way]), dy, x)


def test_images_do_not_meet(how, rng):
    x, dy = floats(rng, 12, 3, 3, 7), floats(rng, 12, 3, 3, 7)
    clean = ops.lrn_forward(padded(x), **how), ops.lrn_backward(padded(dy), padded(x), **how)
    others = padded(x, np.nan), padded(dy, np.inf)
    y, dx = ops.lrn_forward(others[0], **how), ops.lrn_backward(others[1], others[0], **how)
    assert_exact(y[..., :7], clean[0][..., :7])
    assert_exact(dx[..., :7], clean[1][..., :7])


def test_nan_reaches_its_windows_only(rng):
    x, dy = floats(rng, 12, 2, 3, 7), floats(rng, 12, 2, 3, 7)
    x[7, 1, 2, 3] = np.nan
    y = ops.lrn_forward(padded(x), **PAPER, groups=2)[..., :7]
    expected = np.zeros(x.shape, bool)
    expected[6:10, 1, 2, 3] = True
    np.testing.assert_array_equal(np.isnan(y), expected)
    dx = ops.lrn_backward(padded(dy), padded(x), **PAPER, groups=2)[..., :7]
    expected[6:12, 1, 2, 3] = True
    np.testing.assert_array_equal(np.isnan(dx), expected)


N = DEVICE.images_multiple
X = np.zeros((6, 2, 3, N), np.float32)
SIZES = [
    ({"size": 4}, r"^size is 4.*odd"),
    ({"size": 0}, r"^size is 0"),
    ({"size": -3}, r"^size is -3"),
    ({"groups": 4}, r"^groups is 4.*6"),
    ({"groups": 0}, r"^groups is 0"),
    ({"groups": -1}, r"^groups is -1"),
    ({"k": 0.0}, r"^k is 0"),
    ({"k": float("nan")}, r"^k is nan"),
    ({"alpha": -1.0}, r"^alpha is -1"),
    ({"beta": -1.0}, r"^beta is -1"),
    ({"x": X.astype(np.float64)}, r"^x .*dtype"),
    ({"x": X[..., : N // 2]}, r"^x .*(contiguous|multiple)"),
    ({"x": X[:, 0].copy()}, r"^x .*4 dimensions"),
    ({"x": X[::-1]}, r"^x .*contiguous"),
]


@pytest.mark.parametrize(("args", "message"), [*SIZES, ({"out": X[:3]}, r"^y .*\(3, .*\(6, ")])
def test_forward_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.lrn_forward(**{"x": X, **args})


@pytest.mark.parametrize(
    ("args", "message"),
    [*SIZES, ({"dy": X[:3]}, r"^dy .*\(3, .*\(6, "), ({"out": X.astype(int)}, r"^dx .*dtype")],
)
def test_backward_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.lrn_backward(**{"dy": X, "x": X, **args})
