"""Winograd's weight gradient: errors, equivalences, all sizes. Its sums are not exact."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import assert_exact, assert_same_bits, floats, padded
from helpers.conv_cases import CASES, Case
from helpers.kernels import ops
from helpers.target import DEVICE
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Conv

pytestmark = pytest.mark.host_only("Winograd's kernels are a CPU's")

#: Root mean square of the errors, relative to the gradient's, of any sum of products of normal
#: numbers; and against the direct kernel's where sums are long. By the filters' size.
ERROR = {3: 1e-5, 5: 3e-5}
TIMES_DIRECT = {3: 4, 5: 8}

#: Sizes that are no multiples of a tile, a vector, a panel or a block, beside those of `CASES`.
SIZES = {name: case for name, case in CASES.items() if case.stride == 1 and case.R == case.S}
SIZES = {name: case for name, case in SIZES.items() if case.R in (3, 5)} | {
    "one output": Case(3, 3, 3, 5, 3, 3, 7),
    "one row": Case(9, 3, 14, 50, 3, 3, 33),
    "one column, 5x5": Case(9, 14, 5, 18, 5, 5, 33),
    "large pad, 5x5": Case(9, 6, 7, 49, 5, 5, 7, pad=4),
    "tiles of several images": Case(9, 9, 10, 65, 3, 3, 100, pad=1),
    "blocks of channels and filters": Case(300, 5, 5, 500, 3, 3, 7, pad=1),
    "blocks of channels, groups": Case(1400, 4, 4, 20, 3, 3, 7, pad=1, groups=2),
    "pieces": Case(9, 14, 13, 60, 3, 3, 130, pad=1),
    "pieces, 5x5": Case(9, 27, 26, 20, 5, 5, 33, pad=2),
}
#: Cases with long sums.
LONG = {
    "3x3": Case(40, 13, 13, 50, 3, 3, 128, pad=1),
    "3x3 groups": Case(24, 15, 12, 100, 3, 3, 100, pad=1, groups=2),
    "5x5": Case(20, 27, 27, 50, 5, 5, 48, pad=2),
}
#: Cases to run in every order.
FEW = ["3x3 groups 4", "5x5 groups 2", "tiles of several images", "pieces", "pieces, 5x5"]


def layers() -> dict[str, Case]:
    """The built-in nets' layers that Winograd's kernels compute, with one vector of images."""
    found = {}
    for name in zoo.NAMES:
        net = zoo.get(name)
        for named, layer, shape in zip(net.names, net.layers, net.shapes(), strict=False):
            if isinstance(layer, Conv) and layer.stride == 1 and layer.size in (3, 5):
                channels, height, width = shape
                how = {"pad": layer.pad, "groups": layer.groups}
                sizes = channels, height, width, layer.filters, layer.size, layer.size, 7
                found.setdefault(Case(*sizes, **how), f"{name} {named}")
    return {name: case for case, name in found.items()}


def gradient(case: Case, x: np.ndarray, dy: np.ndarray, algorithm="winograd", **how) -> np.ndarray:
    how |= {"pad": case.pad, "groups": case.groups}
    return ops.conv_backward_weights(x, dy, case.w, algorithm=algorithm, **how)


def arrays(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return padded(floats(rng, *case.x)), padded(floats(rng, *case.y))


def exact(case: Case, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return reference.conv_backward_weights(
        x.astype(float), dy.astype(float), case.w, pad=case.pad, groups=case.groups
    )


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def assert_close(dw: np.ndarray, expected: np.ndarray) -> None:
    assert dw.shape == expected.shape
    assert rms(dw - expected) <= ERROR[dw.shape[1]] * rms(expected)
    assert np.abs(dw - expected).max() <= 10 * ERROR[dw.shape[1]] * rms(expected)


@pytest.fixture(autouse=True)
def all_tests(guarded_memory: None) -> None:
    pass


@pytest.fixture(params=FEW)
def few(request: pytest.FixtureRequest) -> Case:
    return SIZES[request.param]


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name, rng):
    case = SIZES[name]
    x, dy = arrays(case, rng)
    assert_close(gradient(case, x, dy), exact(case, x, dy))


@pytest.mark.parametrize("name", layers())
def test_layers_of_the_nets(name, rng):
    case = layers()[name]
    x, dy = arrays(case, rng)
    assert_close(gradient(case, x, dy), exact(case, x, dy))


@pytest.mark.parametrize("name", LONG)
def test_errors_of_long_sums_are_a_few_times_the_direct_kernels(name, rng):
    case = LONG[name]
    x, dy = arrays(case, rng)
    expected = exact(case, x, dy)
    direct = rms(gradient(case, x, dy, "direct") - expected)
    assert direct < rms(gradient(case, x, dy) - expected) <= TIMES_DIRECT[case.R] * direct


def test_bits(few, rng):
    assert_same_bits(lambda x, dy: gradient(few, x, dy), *arrays(few, rng))


def test_images_of_zeros_add_nothing(few, rng):
    """The order of the sums depends on the number of images, and so do the last bits."""
    x, dy = arrays(few, rng)
    larger = [np.pad(v, [(0, 0)] * 3 + [(0, DEVICE.images_multiple)]) for v in (x, dy)]
    assert_close(gradient(few, *larger), exact(few, x, dy))


def test_a_workspace_of_the_stated_size_is_enough(few, rng):
    """Nothing is read of it, or of the result, before it is written."""
    x, dy = arrays(few, rng)
    how = {"pad": few.pad, "groups": few.groups}
    plan = ops.conv_plan(DEVICE, x.shape, few.w, dy.shape, algorithm="winograd", **how)
    memory = np.full(plan.workspace[2] + 64, np.nan, np.float32)
    memory[-64:] = np.pi
    out = np.full(few.w, np.nan, np.float32)
    dw = gradient(few, x, dy, workspace=memory[:-64], out=out)
    assert_exact(dw, gradient(few, x, dy))
    assert (memory[-64:] == np.float32(np.pi)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_numbers_reach_their_channel_or_filter_only(few, value, rng):
    x, dy = arrays(few, rng)
    channel, filter_ = len(x) - 1, len(dy) - 2
    for array, at in ((x, channel), (dy, filter_)):
        kept = array[at, 2, 2, 3]
        array[at, 2, 2, 3] = value
        finite = np.isfinite(gradient(few, x, dy))
        array[at, 2, 2, 3] = kept
        expected = np.ones(few.w, bool)
        if array is x:
            group = slice(few.K // few.groups * (few.groups - 1), None)
            expected[channel % few.w[0], ..., group] = False
        else:
            expected[..., filter_] = False
        assert_exact(finite, expected)
