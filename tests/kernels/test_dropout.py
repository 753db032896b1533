"""Dropout."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import assert_exact, assert_gradient, assert_same_bits, floats, padded
from helpers.kernels import ops
from helpers.target import DEVICE

pytestmark = pytest.mark.usefixtures("tiles")

N = DEVICE.images_multiple
PLACE = {"seed": 7, "layer": 2, "step": 5}
ONES = np.ones((37, 2 * N), np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (4, 33), (17, 7), (130, 33), (600, 64)])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9])
def test_mask_and_scale(shape, p, rng):
    x = floats(rng, *shape)
    y = ops.dropout(padded(x), p=p, scale=1.5, **PLACE)
    kept = reference.dropout_mask(shape, p, **PLACE)
    assert_exact(y[:, : shape[1]], np.where(kept, x * np.float32(1.5), 0))


@pytest.mark.parametrize(
    "place",
    [
        {"seed": 0, "layer": 0, "step": 0},
        {"seed": 2**64 - 1, "layer": 2**32 - 1, "step": 2**32 - 1, "first_image": 2**32 - 2 * N},
        {"seed": 2**32, "layer": 1, "step": 0, "first_image": 100_003},
        {"seed": 0x0123456789ABCDEF, "layer": 6, "step": 450_000, "first_image": 2**31 - 1},
    ],
)
def test_mask_at_other_places(place):
    kept = reference.dropout_mask(ONES.shape, 0.5, **place)
    assert_exact(ops.dropout(ONES, p=0.5, scale=1, **place), kept.astype(np.float32))


def test_step_counts_modulo_2_to_the_32():
    steps = [ops.dropout(ONES, p=0.5, scale=1, seed=1, layer=1, step=s) for s in (3, 2**32 + 3)]
    assert_exact(*steps)


def test_more_than_two_axes_are_features(rng):
    x = padded(floats(rng, 3, 5, 7, 3))
    y = ops.dropout(x, p=0.5, scale=2, **PLACE)
    flat = ops.dropout(x.reshape(105, -1), p=0.5, scale=2, **PLACE)
    assert_exact(y.reshape(105, -1), flat)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_share_kept(p):
    x = np.ones((4096, 128), np.float32)
    kept = ops.dropout(x, p=p, scale=1, **PLACE)
    deviation = np.sqrt(p * (1 - p))
    assert abs(kept.mean() - (1 - p)) < 4 * deviation / np.sqrt(x.size)
    for axis in (0, 1):  # no feature and no image is preferred
        means = kept.mean(axis=axis, dtype=float)
        expected = deviation / np.sqrt(x.shape[axis])
        assert np.abs(means - (1 - p)).max() < 6 * expected
        assert means.std() == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("change", [{"seed": 8}, {"layer": 3}, {"step": 6}, {"first_image": 50}])
def test_masks_elsewhere_are_independent(change):
    """Two independent masks agree in half of their elements."""
    x = np.ones((1000, 64), np.float32)
    here = ops.dropout(x, p=0.5, scale=1, **PLACE)
    there = ops.dropout(x, p=0.5, scale=1, **{**PLACE, **change})
    assert abs((here == there).mean() - 0.5) < 4 * 0.5 / np.sqrt(x.size)


@pytest.mark.parametrize("first", [4, 18, 19, 49])
def test_features_in_parts_have_the_same_mask(rng, first):
    x = floats(rng, 50, 2 * N)
    whole = ops.dropout(x, p=0.5, scale=2, **PLACE, first_feature=5)
    for part in (slice(0, first), slice(first, None)):
        y = ops.dropout(x[part].copy(), p=0.5, scale=2, **PLACE, first_feature=5 + part.start)
        assert_exact(y, whole[part])


def test_a_batch_in_halves_has_the_same_mask(rng):
    x = floats(rng, 50, 4 * N)
    whole = ops.dropout(x, p=0.5, scale=2, **PLACE, first_image=10)
    halves = [
        ops.dropout(x[:, part].copy(), p=0.5, scale=2, **PLACE, first_image=10 + part.start)
        for part in (slice(0, N), slice(N, 4 * N))
    ]
    assert_exact(np.concatenate(halves, axis=1), whole)


def test_backward_has_the_mask_of_forward(rng):
    x, dy = 1 + np.abs(floats(rng, 30, 2 * N)), 1 + np.abs(floats(rng, 30, 2 * N))
    y = ops.dropout(x, p=0.5, scale=0.5, **PLACE)
    dx = ops.dropout(dy, p=0.5, scale=0.5, **PLACE)
    assert_exact(dx, np.where(y != 0, dy * np.float32(0.5), 0))


def test_gradient_is_central_differences(rng):
    x, dy = np.round(4 * floats(rng, 5, N)), np.round(4 * floats(rng, 5, N))

    def drop(v):
        return ops.dropout(v, p=0.5, scale=2, **PLACE)

    assert_gradient(drop, drop, x, dy, step=1)


@pytest.mark.parametrize("shape", [(3, N), (600, 33)])
def test_bits(shape, rng):
    assert_same_bits(lambda x: ops.dropout(x, p=0.3, scale=2, **PLACE), padded(floats(rng, *shape)))


def test_the_mask_of_a_relu(rng):
    dy, x = floats(rng, 37, 2 * N), floats(rng, 37, 2 * N)
    x[rng.random(x.shape) < 0.2] = 0
    x[rng.random(x.shape) < 0.1] = np.nan
    dx = ops.dropout(dy, p=0.5, scale=2, **PLACE)
    masked = ops.dropout(dy, p=0.5, scale=2, **PLACE, mask=x)
    assert_exact(masked, np.where(x > 0, dx, 0))
    assert ops.dropout(dy, p=0.5, scale=2, **PLACE, mask=x, out=dy) is dy
    assert_exact(dy, masked)


def test_in_place(rng):
    x = floats(rng, 37, N)
    y = ops.dropout(x, p=0.5, scale=2, **PLACE)
    assert ops.dropout(x, p=0.5, scale=2, **PLACE, out=x) is x
    assert_exact(x, y)


def test_what_is_dropped_is_zero_even_if_nan():
    x = np.full((37, 2 * N), np.nan, np.float32)
    y = ops.dropout(x, p=0.5, scale=1, **PLACE)
    kept = reference.dropout_mask(x.shape, 0.5, **PLACE)
    assert_exact(y, np.where(kept, np.float32(np.nan), 0))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"p": 1.0}, r"^p is 1.*below 1"),
        ({"p": -0.1}, r"^p is -0.1"),
        ({"p": float("nan")}, r"^p is nan"),
        ({"x": ONES.astype(np.float64)}, r"^x .*dtype"),
        ({"x": ONES.T}, r"^x .*contiguous"),
        ({"x": ONES[:, 1:].copy()}, r"^x .*multiple"),
        ({"out": ONES[:5].copy()}, r"^y .*\(5, .*\(37, "),
        ({"out": ONES.astype(np.float64)}, r"^y .*dtype"),
        ({"mask": ONES[:5].copy()}, r"^mask .*\(5, .*\(37, "),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.dropout(**{"x": ONES, "p": 0.5, "scale": 1.0, **PLACE, **args})
