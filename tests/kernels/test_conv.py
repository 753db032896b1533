"""Direct convolution and fully connected layers: forward and both gradients."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from helpers import reference
from helpers.checks import (
    assert_accurate_sum,
    assert_exact,
    assert_gradient,
    assert_same_bits,
    floats,
    integers,
    padded,
    running_with,
    tiles,
)
from helpers.conv_cases import CASES, Case
from helpers.kernels import ops
from helpers.target import DEVICE

DIRECT = {"algorithm": "direct"}
#: Cases to measure errors on: all results have hundreds of elements.
MEASURED = ["3x3 groups 4", "3x3 stride 2 ceil", "2x5", "11x11 stride 4 ceil", "long sums"]
#: Cases to run in every thread order.
FEW = ["3x3 groups 4", "2x5", "11x11 stride 4 ceil", "stride above filter, pad", "long sums"]
#: Cases that take minutes under sanitizers.
SLOW = ["long sums", "AlexNet conv1", "AlexNet conv2", "torchvision conv1"]


def params(names: Iterable[str]) -> list:
    """Returns the cases of these names as parameters of a fixture."""
    marks = {name: [pytest.mark.slow] if name in SLOW else [] for name in names}
    return [pytest.param(CASES[name], id=name, marks=marks[name]) for name in names]


@pytest.fixture(params=tiles("host", "gpu", "gpu-plain-loads"), autouse=True, name="tiles")
def all_tiles(request: pytest.FixtureRequest, guarded_memory: None):
    with running_with(request.param):
        yield request.param


@pytest.fixture(params=params(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=params(MEASURED))
def measured(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=params(FEW))
def few(request: pytest.FixtureRequest) -> Case:
    return request.param


def forward(
    case: Case, x: np.ndarray, w: np.ndarray, b=None, activation: str = "", workspace=None
) -> np.ndarray:
    how = {**DIRECT, **case.how, "ceil_mode": case.ceil_mode, "workspace": workspace}
    return ops.conv_forward(x, w, b, activation=activation, **how)


def backward_data(
    case: Case, dy: np.ndarray, w: np.ndarray, mask=None, workspace=None
) -> np.ndarray:
    x_shape = (*case.x[:3], dy.shape[3])
    how = {**DIRECT, **case.how}
    return ops.conv_backward_data(dy, w, x_shape, mask=mask, workspace=workspace, **how)


def backward_weights(case: Case, x: np.ndarray, dy: np.ndarray, workspace=None) -> np.ndarray:
    return ops.conv_backward_weights(x, dy, case.w, **DIRECT, **case.how, workspace=workspace)


# Whole numbers: exact


@pytest.mark.parametrize("activation", ["", "relu"])
def test_forward_of_integers(case, activation, rng):
    x, w, b = integers(rng, *case.x), integers(rng, *case.w), integers(rng, case.K)
    y = forward(case, padded(x), w, b, activation)
    doubles = (v.astype(float) for v in (x, w, b))
    expected = reference.conv_forward(*doubles, case.out, **case.how)
    assert_exact(y[..., : case.images], reference.activation_forward(expected, activation))


def test_backward_data_of_integers(case, tiles, rng):
    if case == CASES["AlexNet conv1"] and tiles != "host":
        pytest.skip("takes seconds, and no net needs the gradient of its input")
    dy, w = integers(rng, *case.y), integers(rng, *case.w)
    dx = backward_data(case, padded(dy), w)
    expected = reference.conv_backward_data(dy.astype(float), w.astype(float), case.x, **case.how)
    assert_exact(dx[..., : case.images], expected)


def test_backward_weights_of_integers(case, rng):
    x, dy = integers(rng, *case.x), integers(rng, *case.y)
    dw = backward_weights(case, padded(x), padded(dy))
    expected = reference.conv_backward_weights(
        x.astype(float), dy.astype(float), case.w, **case.how
    )
    assert_exact(dw, expected)


def test_backward_data_with_the_mask_of_a_relu(few, rng):
    dy, w, x = padded(floats(rng, *few.y)), floats(rng, *few.w), padded(floats(rng, *few.x))
    x[rng.random(x.shape) < 0.2] = 0
    x[rng.random(x.shape) < 0.01] = np.nan
    x[rng.random(x.shape) < 0.01] = np.inf
    dx = backward_data(few, dy, w)
    assert_exact(backward_data(few, dy, w, x), np.where(x > 0, dx, 0))


# Floats: errors


def test_forward_errors(measured, rng):
    x, w, b = floats(rng, *measured.x), floats(rng, *measured.w), floats(rng, measured.K)
    y = forward(measured, padded(x), w, b)
    assert_accurate_sum(
        y[..., : measured.images],
        lambda x, w, b: reference.conv_forward(x, w, b, measured.out, **measured.how),
        *(x, w, b),
    )


def test_backward_data_errors(measured, rng):
    dy, w = floats(rng, *measured.y), floats(rng, *measured.w)
    dx = backward_data(measured, padded(dy), w)
    assert_accurate_sum(
        dx[..., : measured.images],
        lambda dy, w: reference.conv_backward_data(dy, w, measured.x, **measured.how),
        *(dy, w),
    )


def test_backward_weights_errors(measured, rng):
    x, dy = floats(rng, *measured.x), floats(rng, *measured.y)
    dw = backward_weights(measured, padded(x), padded(dy))
    assert_accurate_sum(
        dw, lambda x, dy: reference.conv_backward_weights(x, dy, measured.w, **measured.how), x, dy
    )


@pytest.mark.parametrize("terms", [127, 129, 5000])
def test_errors_of_long_reductions(terms, rng):
    case = Case(terms, 1, 1, 17, 1, 1, 33)
    x, w = floats(rng, *case.x), floats(rng, *case.w)
    assert_accurate_sum(
        forward(case, padded(x), w)[..., :33],
        lambda x, w: reference.conv_forward(x, w, None, (1, 1)),
        *(x, w),
    )


# Gradients: a convolution is linear in x and in w, so differences of any step are exact


def test_gradients_are_central_differences(tiles, rng):
    case = Case(4, 4, 3, 6, 2, 3, DEVICE.images_multiple, stride=2, pad=1, groups=2, ceil_mode=True)
    x, w, dy = integers(rng, *case.x), integers(rng, *case.w), integers(rng, *case.y)

    by_weights = (lambda w: forward(case, x, w), lambda dy: backward_weights(case, x, dy))
    assert_gradient(*by_weights, w, dy, step=1)
    by_data = (lambda x: forward(case, x, w), lambda dy: backward_data(case, dy, w))
    assert_gradient(*by_data, x, dy, step=1, images=2)


# Equivalences


def test_forward_bits(few, rng):
    x, w, b = padded(floats(rng, *few.x)), floats(rng, *few.w), floats(rng, few.K)
    assert_same_bits(lambda x, w, b: forward(few, x, w, b, "relu"), x, w, b)


def test_backward_data_bits(few, rng):
    dy, w = padded(floats(rng, *few.y)), floats(rng, *few.w)
    assert_same_bits(lambda dy, w: backward_data(few, dy, w), dy, w)


def test_backward_weights_bits(few, rng):
    x, dy = padded(floats(rng, *few.x)), padded(floats(rng, *few.y))
    assert_same_bits(lambda x, dy: backward_weights(few, x, dy), x, dy)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_fused_activation_is_the_unfused(few, kind, rng):
    x, w, b = padded(floats(rng, *few.x)), floats(rng, *few.w), floats(rng, few.K)
    assert_exact(forward(few, x, w, b, kind), ops.activation_forward(forward(few, x, w, b), kind))


def test_no_bias_is_a_bias_of_zeros(few, rng):
    x, w = padded(floats(rng, *few.x)), floats(rng, *few.w)
    assert_exact(forward(few, x, w), forward(few, x, w, np.zeros(few.K, np.float32)))


def test_images_do_not_meet(few, rng):
    """An image's results do not depend on the other images or, sums being exact, their number.

    On a GPU, the order of a sum depends on the number of images.
    """
    x, w, dy = padded(integers(rng, *few.x)), integers(rng, *few.w), padded(integers(rng, *few.y))
    n = few.images
    others = np.full((*few.x[:3], 2 * DEVICE.images_multiple), np.nan, np.float32)
    y = forward(few, x, w)
    larger = np.concatenate([x[..., :n], others[..., : x.shape[3] - n], others], axis=3)
    assert_exact(forward(few, larger, w)[..., :n], y[..., :n])
    others = np.full((*few.y[:3], 2 * DEVICE.images_multiple), np.inf, np.float32)
    larger = np.concatenate([dy[..., :n], others[..., : dy.shape[3] - n], others], axis=3)
    assert_exact(backward_data(few, larger, w)[..., :n], backward_data(few, dy, w)[..., :n])


def test_images_of_zeros_add_nothing_to_weights(few, rng):
    x, dy = padded(integers(rng, *few.x)), padded(integers(rng, *few.y))
    dw = backward_weights(few, x, dy)
    zeros = [np.zeros((*v.shape[:3], 2 * DEVICE.images_multiple), np.float32) for v in (x, dy)]
    x, dy = (np.concatenate(pair, axis=3) for pair in zip((x, dy), zeros, strict=True))
    assert_exact(backward_weights(few, x, dy), dw)


@pytest.mark.parametrize("product", [forward, backward_data, backward_weights])
def test_a_workspace_of_the_stated_size_is_enough(few, product, rng):
    x, dy = padded(floats(rng, *few.x)), padded(floats(rng, *few.y))
    w = floats(rng, *few.w)
    given = {forward: (x, w), backward_data: (dy, w), backward_weights: (x, dy)}[product]
    expected = product(few, *given)
    needed = ops.conv_workspace(DEVICE, x.shape, few.w, dy.shape, **DIRECT, **few.how)
    memory = np.full(needed + 64, np.pi, np.float32)
    workspace = memory[:needed] if needed else None
    assert_exact(product(few, *given, workspace=workspace), expected)
    assert (memory[needed:] == np.float32(np.pi)).all()


def test_sums_of_few_results_are_split_on_a_gpu(tiles, rng):
    """fc6 of the paper at batch 128 has 32 tiles, and an H100 132 multiprocessors."""
    n = DEVICE.pad_images(128)
    shapes = (9216, 1, 1, n), (9216, 1, 1, 4096), (4096, 1, 1, n)
    forward, data, weights = ops.conv_plan(DEVICE, *shapes).workspace
    if tiles == "host":
        assert (forward, data) == (0, 0)
    else:
        assert forward > 2 * 4096 * n
        assert forward % (4096 * n) == 0
        assert data % (9216 * n) == 0
    assert weights == 0


@pytest.mark.parametrize("activation", ["", "relu", "tanh"])
def test_split_sums_get_biases_and_activations_once(activation, rng):
    case = Case(700, 1, 1, 20, 1, 1, DEVICE.images_multiple)
    x, w, b = integers(rng, *case.x), integers(rng, *case.w), integers(rng, 20)
    w /= 64  # so that tanh does not saturate
    y = forward(case, x, w, b, activation)
    doubles = (v.astype(float) for v in (x, w, b))
    expected = reference.activation_forward(
        reference.conv_forward(*doubles, case.out, **case.how), activation
    )
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)


# NaN reaches the elements that depend on it, and no others


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_pixels_reach_their_windows_only(value, rng):
    case = Case(3, 6, 7, 17, 3, 2, 7, stride=2, pad=1)
    x, w, dy = floats(rng, *case.x), floats(rng, *case.w), floats(rng, *case.y)
    x[1, 2, 3, 4] = value
    y = forward(case, padded(x), w)[..., :7]
    expected = reference.conv_forward(x.astype(float), w.astype(float), None, case.out, **case.how)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    dw = backward_weights(case, padded(x), padded(dy))
    expected = reference.conv_backward_weights(
        x.astype(float), dy.astype(float), case.w, **case.how
    )
    np.testing.assert_array_equal(np.isfinite(dw), np.isfinite(expected))
    assert not np.isfinite(y).all() and not np.isfinite(dw).all()


def test_nan_gradients_reach_their_windows_only(rng):
    case = Case(3, 6, 7, 17, 3, 2, 7, stride=2)
    dy, w, x = floats(rng, *case.y), floats(rng, *case.w), floats(rng, *case.x)
    dy[5, 1, 2, 4] = np.nan
    dx = backward_data(case, padded(dy), w)[..., :7]
    expected = reference.conv_backward_data(dy.astype(float), w.astype(float), case.x, **case.how)
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(expected))
    dw = backward_weights(case, padded(x), padded(dy))
    assert np.isnan(dw[..., 5]).all() and np.isfinite(np.delete(dw, 5, axis=3)).all()


def test_a_nan_filter_changes_its_own_outputs_only(rng):
    case = Case(3, 6, 7, 17, 3, 2, 7)
    x, w = floats(rng, *case.x), floats(rng, *case.w)
    w[..., 16] = np.nan
    y = forward(case, padded(x), w)
    assert np.isnan(y[16]).all() and np.isfinite(y[:16]).all()


def test_fused_relu_keeps_nan(rng):
    case = CASES["3x3"]
    x, w = padded(floats(rng, *case.x)), floats(rng, *case.w)
    b = np.full(case.K, np.nan, np.float32)
    assert np.isnan(forward(case, x, w, b, "relu")).all()


# Fully connected layers

LINEARS = [(1, 1, 1), (3, 10, 7), (17, 130, 33), (130, 17, 1), (300, 48, 7), (1000, 3, 33)]


@pytest.mark.parametrize(("inputs", "outputs", "images"), LINEARS)
def test_linear_of_integers(inputs, outputs, images, rng):
    x, w = integers(rng, inputs, images), integers(rng, inputs, outputs)
    b, dy = integers(rng, outputs), integers(rng, outputs, images)
    y = ops.linear_forward(padded(x), w, b, activation="relu")
    x64, w64, b64, dy64 = (v.astype(float) for v in (x, w, b, dy))
    expected = reference.linear_forward(x64, w64, b64)
    assert_exact(y[:, :images], reference.activation_forward(expected, "relu"))
    dx = ops.linear_backward_data(padded(dy), w)
    assert_exact(dx[:, :images], reference.linear_backward_data(dy64, w64))
    dw = ops.linear_backward_weights(padded(x), padded(dy))
    assert_exact(dw, reference.linear_backward_weights(x64, dy64))


@pytest.mark.parametrize(
    ("inputs", "outputs", "images"), [(20, 33, 33), (17, 130, 33), (300, 48, 7), (1000, 30, 330)]
)
def test_linear_errors(inputs, outputs, images, rng):
    x, w = floats(rng, inputs, images), floats(rng, inputs, outputs)
    b, dy = floats(rng, outputs), floats(rng, outputs, images)
    y = ops.linear_forward(padded(x), w, b)
    assert_accurate_sum(y[:, :images], reference.linear_forward, x, w, b)
    dx = ops.linear_backward_data(padded(dy), w)
    assert_accurate_sum(dx[:, :images], reference.linear_backward_data, dy, w)
    dw = ops.linear_backward_weights(padded(x), padded(dy))
    assert_accurate_sum(dw, reference.linear_backward_weights, x, dy)


def test_linear_bits(rng):
    x, w, b = padded(floats(rng, 300, 33)), floats(rng, 300, 70), floats(rng, 70)
    dy = padded(floats(rng, 70, 33))
    assert_same_bits(lambda x, w, b: ops.linear_forward(x, w, b, activation="tanh"), x, w, b)
    assert_same_bits(lambda dy, w: ops.linear_backward_data(dy, w), dy, w)
    assert_same_bits(lambda x, dy: ops.linear_backward_weights(x, dy), x, dy)


def test_linear_workspace_is_that_of_its_convolution():
    n = DEVICE.images_multiple
    assert ops.linear_workspace(DEVICE, (30, n), (7, n)) == ops.conv_workspace(
        DEVICE, (30, 1, 1, n), (30, 1, 1, 7), (7, 1, 1, n)
    )


# Gradient of the biases


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 33), (17, 3, 5, 7), (2, 55, 55, 1)])
def test_bias_backward_of_integers(shape, rng):
    dy = integers(rng, *shape)
    assert_exact(ops.bias_backward(padded(dy)), reference.bias_backward(dy.astype(float)))


@pytest.mark.parametrize("shape", [(300, 1), (200, 7, 5, 33), (200, 5000), (1100, 3)])
def test_bias_backward_errors(shape, rng):
    dy = floats(rng, *shape)
    assert_accurate_sum(ops.bias_backward(padded(dy)), reference.bias_backward, dy)


@pytest.mark.parametrize(
    "shape", [(3, 7), (17, 13, 13, 33), pytest.param((1100, 33), marks=pytest.mark.slow)]
)
def test_bias_backward_bits(shape, rng):
    assert_same_bits(ops.bias_backward, padded(floats(rng, *shape)))


# Bad arguments

N = DEVICE.images_multiple


def maps(*shape: int) -> np.ndarray:
    return np.zeros((*shape, N), np.float32)


W_SHAPE = (2, 3, 3, 6)
W = np.zeros(W_SHAPE, np.float32)
READ_ONLY = maps(6, 5, 5)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": maps(4, 5, 5).astype(np.float64)}, "^x .*dtype.*<f8.*<f4"),
        ({"x": maps(4, 5, 5)[..., :-1].copy()}, "^x .*multiple"),
        ({"x": maps(4, 5, 10)[:, :, ::2]}, "^x .*contiguous"),
        ({"x": maps(4, 25)}, "x.* 4 dimensions"),
        ({"w": W.astype(np.float16)}, "^w .*dtype"),
        ({"w": W.swapaxes(1, 2)[:, ::-1]}, "^w .*contiguous"),
        ({"w": np.zeros((4, 3, 3, 6), np.float32)}, "^w .*first dimension.* 2"),
        ({"b": np.zeros(5, np.float32)}, r"^b .*\(5,\).*\(6,\)"),
        ({"b": np.zeros(6, np.int32)}, "^b .*dtype"),
        ({"out": maps(5, 5, 5)}, "^y .* 6 channels"),
        ({"out": np.zeros((6, 5, 5, 2 * N), np.float32)}, f"^y .* {N} images"),
        ({"out": maps(6, 5, 9)}, "^y .*last window"),
        ({"out": maps(6, 0, 5)}, "extents"),
        ({"out": READ_ONLY}, "^y .*read-only"),
        ({"stride": 0}, "^stride is 0.*at least 1"),
        ({"stride": -1}, "^stride is -1"),
        ({"pad": -1}, "^pad is -1.*at least 0"),
        ({"groups": 0}, "^groups is 0"),
        ({"groups": 3}, "^groups is 3.*divisor"),
        ({"activation": "gelu"}, "^activation is 'gelu'.*'relu'"),
    ],
)
def test_forward_refuses(changed, message):
    good = {"x": maps(4, 5, 5), "w": W, "pad": 1, "groups": 2, "out": maps(6, 5, 5)}
    ops.conv_forward(**good)
    with pytest.raises(ValueError, match=message):
        ops.conv_forward(**{**good, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dy": maps(6, 5, 5).astype(np.int32)}, "^dy .*dtype"),
        ({"dy": maps(7, 5, 5)}, "channels"),
        ({"w": np.zeros((2, 3, 3, 8), np.float32)}, " 8 channels"),
        ({"out": maps(5, 5, 5)}, "groups"),
        ({"out": maps(4, 5, 5).astype(np.float64)}, "^dx .*dtype"),
        ({"mask": maps(6, 5, 5)}, "^mask has shape"),
        ({"stride": -2}, "^stride is -2"),
    ],
)
def test_backward_data_refuses(changed, message):
    good = {"dy": maps(6, 5, 5), "w": W, "x_shape": (4, 5, 5, N), "pad": 1, "groups": 2}
    ops.conv_backward_data(**good)
    with pytest.raises(ValueError, match=message):
        ops.conv_backward_data(**{**good, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": maps(4, 16, 16)[..., ::-1]}, "^x .*contiguous"),
        ({"dy": maps(6, 16, 16).astype(np.float64)}, "^dy .*dtype"),
        ({"out": np.zeros((2, 3, 3, 8), np.float32)}, " 8 channels"),
        ({"out": np.zeros((2, 3, 3, 6))}, "^dw .*dtype"),
        ({"workspace": np.zeros(1, np.float32)}, "^workspace has 1 floats.*at least"),
        ({"workspace": np.zeros(10**6)}, "^workspace .*dtype"),
        ({"pad": -1}, "^pad is -1"),
    ],
)
def test_backward_weights_refuses(changed, message):
    good = {"x": maps(4, 16, 16), "dy": maps(6, 16, 16), "w_shape": W_SHAPE, "pad": 1, "groups": 2}
    ops.conv_backward_weights(**good)
    with pytest.raises(ValueError, match=message):
        ops.conv_backward_weights(**{**good, **changed})


def test_bias_backward_refuses():
    with pytest.raises(ValueError, match=r"^db .*\(7,\).*\(6,\)"):
        ops.bias_backward(maps(6, 5), out=np.zeros(7, np.float32))
    with pytest.raises(ValueError, match=r"^dy .*dtype"):
        ops.bias_backward(maps(6, 5).astype(np.float64))
