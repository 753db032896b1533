"""Softmax with cross-entropy, its gradient, and the counts of right answers."""

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

N = DEVICE.images_multiple
SHAPES = [(1, 200), (2, 207), (10, 333), (17, 201), (128, 256), (129, 240), (1000, 203)]


def some_labels(rng: np.random.Generator, classes: int, images: int) -> np.ndarray:
    """Makes labels, about a fifth of them -1, and pads them with -1."""
    labels = rng.integers(0, classes, images).astype(np.int32)
    labels[rng.random(images) < 0.2] = -1
    return padded(labels, -1)


@pytest.mark.parametrize(("classes", "images"), SHAPES)
def test_errors(classes, images, rng):
    logits = padded(4 * floats(rng, classes, images))
    labels = some_labels(rng, classes, images)
    k = min(5, classes)
    totals = np.array([3.5, 2, 4, 6])
    loss = ops.softmax_cross_entropy(logits, labels, k=k, scale=1 / 128, totals=totals)
    exact = reference.softmax_cross_entropy(logits.astype(float), labels, k, 1 / 128)
    plain = reference.softmax_cross_entropy(logits, labels, k, 1 / 128)
    p = exact.probabilities
    share = granted("expf", "expf")  # of the sum, too
    assert_accurate(loss.probabilities, p, plain.probabilities, p, share)
    onehot = (np.arange(classes)[:, None] == labels).astype(float)
    size = (p + onehot) * (labels >= 0) / 128
    assert_accurate(loss.dlogits, exact.dlogits, plain.dlogits, size, share)
    # A loss is log Σ exp(v - greatest) - (v_label - greatest).
    size = np.log(np.exp(logits.astype(float) - logits.max(axis=0)).sum(axis=0)) + np.ptp(logits, 0)
    size = (size + ROUNDING) * (labels >= 0)
    # An ulp of Σ is at most 1.5 of the size, which is at least log 2.
    assert_accurate(loss.losses, exact.losses, plain.losses, size, 1.5 * granted("expf", "logf"))
    assert_exact(loss.ranks, exact.ranks)
    assert_exact(totals[1:], exact.totals[1:] + np.array([2, 4, 6]))
    assert totals[0] - 3.5 == pytest.approx(loss.losses.sum(dtype=float), rel=1e-12)


def test_equal_logits_are_exact():
    """2^n equal logits have probability 2^-n each; the lower class ranks first."""
    labels = np.arange(N, dtype=np.int32) % 8
    loss = ops.softmax_cross_entropy(np.full((8, N), 3, np.float32), labels, scale=8)
    assert_exact(loss.probabilities, np.full((8, N), 1 / 8, np.float32))
    assert_exact(loss.dlogits, 1 - 8 * (np.arange(8)[:, None] == labels).astype(np.float32))
    np.testing.assert_array_max_ulp(loss.losses, np.full(N, np.log(8), np.float32), 2)
    assert_exact(loss.ranks, labels)


@pytest.mark.parametrize("classes", [3, 10, 200])
def test_ranks_with_ties(classes, rng):
    logits = rng.integers(0, 4, (classes, 2 * N)).astype(np.float32)
    labels = some_labels(rng, classes, 2 * N)
    totals = np.zeros(4)
    loss = ops.softmax_cross_entropy(logits, labels, k=2, totals=totals)
    exact = reference.softmax_cross_entropy(logits.astype(float), labels, k=2)
    assert_exact(loss.ranks, exact.ranks)
    assert_exact(totals[1:], exact.totals[1:])


def test_large_logits_do_not_overflow():
    logits = np.zeros((3, N), np.float32)
    logits[0], logits[1] = 1e4, -1e30
    labels = np.resize(np.array([0, 1, 2], np.int32), N)
    loss = ops.softmax_cross_entropy(logits, labels, k=1)
    assert_exact(loss.probabilities, np.eye(3, dtype=np.float32)[:, :1].repeat(N, axis=1))
    assert_exact(loss.losses, np.float32([0, 1e30, 1e4])[labels])
    assert_exact(loss.ranks, np.int32([0, 2, 1])[labels])


def test_masked_images_count_nowhere():
    logits = np.full((4, 2 * N), np.nan, np.float32)
    totals = np.zeros(4)
    loss = ops.softmax_cross_entropy(logits, np.full(2 * N, -1, np.int32), k=2, totals=totals)
    assert not loss.dlogits.any() and not loss.losses.any() and not totals.any()
    assert (loss.ranks == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_nonfinite_logits_spoil_their_own_image(value, place, rng):
    logits, labels = floats(rng, 5, N), np.full(N, 2, np.int32)
    logits[place, 1] = value
    totals = np.zeros(4)
    loss = ops.softmax_cross_entropy(logits, labels, k=5, totals=totals)
    spoilt = np.arange(N) == 1
    np.testing.assert_array_equal(~np.isfinite(loss.losses), spoilt)
    np.testing.assert_array_equal(loss.ranks == 5, spoilt)
    np.testing.assert_array_equal(np.isnan(loss.dlogits).any(axis=0), spoilt)
    assert not np.isfinite(totals[0])
    assert_exact(totals[2:], np.array([N - 1.0, N]))


def test_an_impossible_label_is_seen():
    """A logit of -inf gives its label an infinite loss."""
    logits = np.zeros((3, N), np.float32)
    logits[1] = -np.inf
    loss = ops.softmax_cross_entropy(logits, np.ones(N, np.int32), k=3)
    assert_exact(loss.losses, np.full(N, np.inf, np.float32))
    assert (loss.ranks == 3).all()
    assert_exact(loss.probabilities, np.float32([0.5, 0, 0.5])[:, None].repeat(N, axis=1))


def test_gradient_is_central_differences(rng):
    logits, labels = floats(rng, 6, N), some_labels(rng, 6, N)
    assert_gradient(
        lambda logits: ops.softmax_cross_entropy(logits, labels).losses,
        lambda _: ops.softmax_cross_entropy(logits, labels, scale=0.25).dlogits,
        *(logits, np.full(N, 0.25)),
        step=2.0**-7,
        atol=1e-4,
    )


@pytest.mark.parametrize(("classes", "images"), [(10, 7), (1000, 33), (3, 300)])
def test_bits(classes, images, rng):
    logits, labels = padded(floats(rng, classes, images)), some_labels(rng, classes, images)

    def compute(logits, labels):
        totals = np.zeros(4)
        return *ops.softmax_cross_entropy(logits, labels, k=2, totals=totals), totals

    assert_same_bits(compute, logits, labels)


def test_images_do_not_meet(rng):
    logits, labels = floats(rng, 50, 7), np.arange(7, dtype=np.int32)
    clean = ops.softmax_cross_entropy(padded(logits), padded(labels, -1))
    beside = ops.softmax_cross_entropy(padded(logits, np.nan), padded(labels, -1))
    for a, b in zip(clean, beside, strict=True):
        assert_exact(a[..., :7], b[..., :7])


@pytest.mark.parametrize("wanted", ["probabilities", "dlogits", ""])
def test_results_nobody_wants(wanted, rng):
    logits, labels = floats(rng, 20, N), some_labels(rng, 20, N)
    whole = ops.softmax_cross_entropy(logits, labels)
    out = ops.Loss(None, None, np.empty(N, np.float32), np.empty(N, np.int32))
    if wanted:
        out = out._replace(**{wanted: np.empty_like(logits)})
        assert ops.softmax_cross_entropy(logits, labels, out=out) is out
        assert_exact(getattr(out, wanted), getattr(whole, wanted))
    ops.softmax_cross_entropy(logits, labels, out=out)
    assert_exact(out.losses, whole.losses)
    assert_exact(out.ranks, whole.ranks)


LOGITS, LABELS = np.zeros((10, N), np.float32), np.zeros(N, np.int32)


def loss(**changed: np.ndarray) -> ops.Loss:
    good = ops.Loss(LOGITS.copy(), LOGITS.copy(), np.zeros(N, np.float32), LABELS.copy())
    return good._replace(**changed)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"logits": LOGITS.astype(np.float64)}, r"^logits .*dtype"),
        ({"logits": LOGITS[None]}, r"^logits .*2 dimensions"),
        ({"logits": LOGITS[::2]}, r"^logits .*contiguous"),
        ({"logits": LOGITS[:, 1:].copy()}, r"^logits .*multiple"),
        ({"labels": LABELS.astype(np.int64)}, r"^labels .*dtype.*<i4"),
        ({"labels": LABELS[1:]}, r"^labels .*shape"),
        ({"k": 0}, r"^k is 0"),
        ({"k": 11}, r"^k is 11.*10"),
        ({"totals": np.zeros(4, np.float32)}, r"^totals .*dtype.*<f8"),
        ({"totals": np.zeros(3)}, r"^totals .*\(3,\).*\(4,\)"),
        ({"out": loss(probabilities=LOGITS[:9].copy())}, r"^probabilities .*\(9, "),
        ({"out": loss(dlogits=LOGITS.astype(np.float64))}, r"^dlogits .*dtype"),
        ({"out": loss(losses=np.zeros(N + 1, np.float32))}, r"^losses .*shape"),
        ({"out": loss(ranks=np.zeros(N, np.int64))}, r"^ranks .*dtype"),
    ],
)
def test_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.softmax_cross_entropy(**{"logits": LOGITS, "labels": LABELS, "out": loss(), **args})
