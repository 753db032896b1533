"""Winograd's convolution, forward and data gradient, and the choice between it and the direct one.

It is a CPU's. Its results have errors of their own: those of the tests here are measured against
float64, and compared with the direct convolution's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from helpers import reference
from helpers.checks import assert_exact, assert_same_bits, execution, floats, padded
from helpers.conv_cases import Case
from helpers.kernels import ops
from helpers.target import DEVICE, IS_HOST
from pyalexnet.device import get
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Conv

pytestmark = pytest.mark.usefixtures("guarded_memory")
host = pytest.mark.host_only("a GPU's convolutions are direct")

#: Sizes that are no multiples of anything: channels, filters, tiles, images; borders; groups.
CASES = {
    "3x3": Case(9, 13, 13, 17, 3, 3, 7, pad=1),
    "one of everything": Case(1, 3, 3, 1, 3, 3, 1),
    "one pixel": Case(3, 1, 1, 5, 3, 3, 33, pad=1),
    "rows unlike columns": Case(4, 2, 11, 9, 3, 3, 7, pad=1),
    "no border": Case(5, 9, 7, 8, 3, 3, 50),
    "windows outside the image": Case(3, 4, 5, 10, 3, 3, 7, pad=4),
    "groups": Case(12, 6, 7, 30, 3, 3, 20, pad=1, groups=3),
    "a filter a group": Case(6, 5, 5, 3, 3, 3, 7, pad=1, groups=3),
    "5x5": Case(7, 11, 10, 19, 5, 5, 7, pad=2),
    "5x5, one pixel": Case(2, 1, 1, 3, 5, 5, 7, pad=2),
    "5x5 groups": Case(6, 8, 9, 20, 5, 5, 33, pad=1, groups=2),
    "5x5 without border": Case(3, 7, 9, 10, 5, 5, 7),
}
#: Cases whose errors are measured: sums of many terms.
MEASURED = {
    "3x3": Case(100, 13, 13, 40, 3, 3, 16, pad=1),
    "3x3 groups": Case(130, 9, 8, 24, 3, 3, 16, pad=1, groups=2),
    "3x3, few channels": Case(16, 12, 12, 16, 3, 3, 16, pad=1),
    "5x5": Case(70, 13, 13, 30, 5, 5, 16, pad=2),
    "5x5, few channels": Case(16, 12, 12, 16, 5, 5, 16, pad=2),
}


def parameters(cases: dict[str, Case]) -> Iterable:
    return [pytest.param(case, id=name) for name, case in cases.items()]


@pytest.fixture(params=parameters(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def forward(case: Case, x: np.ndarray, w: np.ndarray, b=None, algorithm="winograd", **how):
    return ops.conv_forward(x, w, b, algorithm=algorithm, **case.how, **how)


def backward_data(case: Case, dy: np.ndarray, w: np.ndarray, algorithm="winograd", **how):
    x_shape = (*case.x[:3], dy.shape[3])
    return ops.conv_backward_data(dy, w, x_shape, algorithm=algorithm, **case.how, **how)


def exact_forward(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return reference.conv_forward(x.astype(float), w.astype(float), None, case.out, **case.how)


def exact_backward_data(case: Case, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
    return reference.conv_backward_data(dy.astype(float), w.astype(float), case.x, **case.how)


def rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=float))))


PASSES = pytest.mark.parametrize(
    ("compute", "exact", "source"),
    [(forward, exact_forward, "x"), (backward_data, exact_backward_data, "y")],
    ids=["forward", "backward_data"],
)
Compute = Callable[..., np.ndarray]


# Errors


@host
@PASSES
def test_all_sizes(case, compute: Compute, exact: Compute, source, rng):
    given, w = floats(rng, *getattr(case, source)), floats(rng, *case.w)
    found = compute(case, padded(given), w)[..., : case.images]
    expected = exact(case, given, w)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5 * rms(expected) + 1e-30)


@host
@PASSES
@pytest.mark.parametrize("case", parameters(MEASURED))
def test_errors_are_near_the_direct_ones(case, compute: Compute, exact: Compute, source, rng):
    given = rng.uniform(-1, 1, getattr(case, source)).astype(np.float32)
    w = rng.uniform(-1, 1, case.w).astype(np.float32)
    expected = exact(case, given, w)
    errors = {
        algorithm: compute(case, given, w, algorithm=algorithm) - expected
        for algorithm in ("direct", "winograd")
    }
    assert 0 < rms(errors["winograd"]) < (4 if case.R == 3 else 8) * rms(errors["direct"])
    assert np.abs(errors["winograd"]).max() < 6e-5 * rms(expected)


@host
def test_bias_and_activation(rng):
    case = CASES["groups"]
    x, w, b = padded(floats(rng, *case.x)), floats(rng, *case.w), floats(rng, case.K)
    plain = forward(case, x, w)
    assert_exact(forward(case, x, w, np.zeros(case.K, np.float32)), plain)
    for kind in ("", "relu", "tanh"):
        y = forward(case, x, w, b, activation=kind)
        sums = plain + b[:, None, None, None]
        assert_exact(y, ops.activation_forward(sums, kind) if kind else sums)
    b[3] = np.nan
    y = forward(case, x, w, b, activation="relu")
    assert np.isnan(y[3]).all() and np.isfinite(np.delete(y, 3, axis=0)).all()


@host
def test_a_mask_is_applied_to_the_data_gradient(case, rng):
    dy, w, mask = padded(floats(rng, *case.y)), floats(rng, *case.w), padded(floats(rng, *case.x))
    plain = backward_data(case, dy, w)
    masked = backward_data(case, dy, w, mask=mask)
    assert_exact(masked, np.where(mask > 0, plain, np.float32(0)))


# What does not change the bits


@host
@PASSES
def test_bits(case, compute: Compute, exact: Compute, source, rng):
    given, w = padded(floats(rng, *getattr(case, source))), floats(rng, *case.w)
    assert_same_bits(lambda given, w: compute(case, given, w), given, w)


@host
@PASSES
@pytest.mark.parametrize("name", ["3x3", "5x5"])
def test_bits_do_not_depend_on_the_cache(name, compute: Compute, exact: Compute, source, rng):
    """Its size decides how many channels and filters are multiplied at a time."""
    case = CASES[name]._replace(C=130, K=150)
    given, w = padded(floats(rng, *getattr(case, source))), floats(rng, *case.w)
    expected = compute(case, given, w)
    for cache in (1, 1 << 18, 1 << 20, 1 << 30):
        with execution(l2_bytes=cache):
            assert_exact(compute(case, given, w), expected)


@host
@PASSES
def test_images_do_not_meet(case, compute: Compute, exact: Compute, source, rng):
    given, w = padded(floats(rng, *getattr(case, source))), floats(rng, *case.w)
    others = np.full((*given.shape[:3], 3 * DEVICE.images_multiple), np.nan, np.float32)
    both = np.concatenate([given, others], axis=3)
    assert_exact(compute(case, both, w)[..., : given.shape[3]], compute(case, given, w))


# Memory


@host
@PASSES
def test_a_workspace_of_the_stated_size_is_enough(
    case, compute: Compute, exact: Compute, source, rng
):
    given, w = padded(floats(rng, *getattr(case, source))), floats(rng, *case.w)
    shapes = [(*s[:3], given.shape[3]) for s in (case.x, case.y)]
    plan = ops.conv_plan(DEVICE, shapes[0], case.w, shapes[1], algorithm="winograd", **case.how)
    needed = plan.workspace[compute is backward_data]
    memory = np.full(needed + 64, np.nan, np.float32)
    memory[needed:] = np.pi
    result = compute(case, given, w, workspace=memory[:needed])
    assert_exact(result, compute(case, given, w))
    assert (memory[needed:] == np.float32(np.pi)).all()
    with pytest.raises(ValueError, match=f"workspace has {needed - 1} floats; expected at least"):
        compute(case, given, w, workspace=memory[: needed - 1])


@host
def test_filters_are_kept(case, rng):
    x, w = padded(floats(rng, *case.x)), floats(rng, *case.w)
    y_shape = (*case.y[:3], x.shape[3])
    plan = ops.conv_plan(DEVICE, x.shape, case.w, y_shape, algorithm="winograd", **case.how)
    kept = np.full(plan.filters, np.nan, np.float32)
    expected = forward(case, x, w, filters=kept)
    w[...] = np.nan  # is not read again
    assert_exact(forward(case, x, w, filters=kept, transformed=True), expected)
    with pytest.raises(ValueError, match=f"filters has {plan.filters - 1} floats; expected at"):
        forward(case, x, w, filters=kept[1:])


# Infinities and NaN


@host
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_nonfinite_pixel_reaches_the_tiles_that_read_it(value, rng):
    """Tiles of 13 pixels begin at 0, 4, 7 and 10, and read a pixel more on either side."""
    case = Case(9, 13, 13, 17, 3, 3, 7, pad=1)
    x, w = floats(rng, *case.x), floats(rng, *case.w)
    x[1, 5, 0, 4] = value
    y = forward(case, padded(x), w)[..., :7]
    reached = np.zeros(y.shape, bool)
    reached[:, 4:7, 0:4, 4] = True  # of rows, the tile from 4 alone reads row 5
    np.testing.assert_array_equal(np.isfinite(y), ~reached)


@host
def test_a_nan_filter_changes_its_own_outputs_only(rng):
    case = CASES["3x3"]
    x, w = floats(rng, *case.x), floats(rng, *case.w)
    w[..., 16] = np.nan
    y = forward(case, padded(x), w)
    assert np.isnan(y[16]).all() and np.isfinite(y[:16]).all()


# The choice


def plan(case: Case, algorithm: str = "", images: int = DEVICE.images_multiple):
    shapes = (*case.x[:3], images), case.w, (*case.y[:3], images)
    return ops.conv_plan(DEVICE, *shapes, algorithm=algorithm, **case.how)


@host
def test_the_faster_algorithm_is_chosen(monkeypatch):
    monkeypatch.delenv("PYALEXNET_CONV", raising=False)
    large = Case(64, 13, 13, 64, 3, 3, 16, pad=1)
    assert plan(large).algorithm == "winograd"
    assert plan(large, "direct").algorithm == "direct"
    for other in (
        large._replace(stride=2),
        large._replace(R=7, S=7),
        large._replace(S=5),
        large._replace(groups=32),
        large._replace(C=3),
        large._replace(H=2, W=2),
    ):
        assert plan(other).algorithm == "direct"
    with execution(tiles="gpu"):
        assert plan(large).algorithm == "direct"


@host
def test_the_environment_chooses(monkeypatch, rng):
    large, small = Case(64, 13, 13, 64, 3, 3, 16, pad=1), CASES["one of everything"]
    strided = large._replace(stride=2)
    x, w = padded(floats(rng, *large.x)), floats(rng, *large.w)
    for name, chosen in {
        "direct": ["direct", "direct", "direct"],
        "winograd": ["winograd", "winograd", "direct"],
        "": ["winograd", "direct", "direct"],
    }.items():
        monkeypatch.setenv("PYALEXNET_CONV", name)
        assert [plan(case).algorithm for case in (large, small, strided)] == chosen
        assert plan(large, "direct").algorithm == "direct"
        assert_exact(ops.conv_forward(x, w, **large.how), forward(large, x, w, algorithm=chosen[0]))
    monkeypatch.setenv("PYALEXNET_CONV", "fast")
    with pytest.raises(ValueError, match="PYALEXNET_CONV is 'fast'; expected 'direct' or 'winogr"):
        plan(large)


def test_an_algorithm_that_cannot_be_is_refused():
    case = CASES["3x3"]
    with pytest.raises(ValueError, match="algorithm is 'fft'; expected '', 'direct' or 'winograd'"):
        plan(case, "fft")
    message = r"algorithm is 'winograd'; expected 'direct' or '' for filters of {} at stride {} \("
    with pytest.raises(ValueError, match=message.format("3 x 3", 2)):
        plan(case._replace(stride=2), "winograd")
    with pytest.raises(ValueError, match=message.format("1 x 3", 1)):
        plan(case._replace(R=1), "winograd")
    if not IS_HOST:
        with pytest.raises(ValueError, match=message.format("3 x 3", 1)):
            plan(case, "winograd")


@host
@pytest.mark.parametrize("name", ["alexnet", "alexnet-one-tower"])
def test_alexnets_convolutions_but_the_first_are_winograds(name, monkeypatch):
    monkeypatch.delenv("PYALEXNET_CONV", raising=False)
    net = zoo.get(name)
    shapes = [net.input_shapes(i) for i in range(len(net.layers))]
    found = [
        layer.algorithm(get("host"), *own, images=16)
        for layer, own in zip(net.layers, shapes, strict=True)
        if isinstance(layer, Conv)
    ]
    assert found == ["direct", *["winograd"] * 4]
    assert "PYALEXNET_CONV" not in os.environ
