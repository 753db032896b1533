"""ReLU and tanh."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import (
    assert_accurate,
    assert_exact,
    assert_gradient,
    assert_same_bits,
    floats,
    integers,
    lattice,
)
from helpers.kernels import ops
from helpers.ulps import granted

pytestmark = pytest.mark.usefixtures("tiles")

KINDS = ["relu", "tanh"]
#: Numbers of elements, among them one more than a block's.
SHAPES = [(), (1,), (7, 33), (3, 5, 7, 16), (256 * 4 + 1,), (256 * 512 + 3,)]


@pytest.mark.parametrize("shape", SHAPES)
def test_relu_of_integers(shape, rng):
    x, dy = integers(rng, *shape), integers(rng, *shape)
    y = ops.activation_forward(x, "relu")
    assert_exact(y, reference.activation_forward(x, "relu"))
    dx = ops.activation_backward(dy, y, "relu")
    assert_exact(dx, reference.activation_backward(dy, y, "relu"))


@pytest.mark.parametrize("shape", [(7, 33), (3, 5, 7, 16), (256 * 512 + 3,)])
def test_tanh_errors(shape, rng):
    x, dy = 3 * floats(rng, *shape), floats(rng, *shape)
    y = ops.activation_forward(x, "tanh")
    exact = reference.activation_forward(x.astype(float), "tanh")
    plain = reference.activation_forward(x, "tanh")
    assert_accurate(y, exact, plain, np.abs(exact), granted("tanhf"))
    dx = ops.activation_backward(dy, y, "tanh")
    dy64, y64 = dy.astype(float), y.astype(float)
    exact = reference.activation_backward(dy64, y64, "tanh")
    plain = reference.activation_backward(dy, y, "tanh")
    assert_accurate(dx, exact, plain, np.abs(dy64) * (1 + y64**2))


def test_tanh_ends(rng):
    x = np.array([0, -0.0, 1e-30, -1e-10, 20, -100, np.inf, -np.inf], np.float32)
    y = ops.activation_forward(x, "tanh")
    assert_exact(y, np.array([0, 0, 1e-30, -1e-10, 1, -1, 1, -1], np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_central_differences(kind, rng):
    x, dy = lattice(rng, 5, 7) / 8, floats(rng, 5, 7)
    assert_gradient(
        lambda x: ops.activation_forward(x, kind),
        lambda dy: ops.activation_backward(dy, ops.activation_forward(x, kind), kind),
        *(x, dy),
        step=2.0**-6,
        atol=5e-4,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [5, 256 * 512 + 3])
def test_bits(kind, size, rng):
    x, dy = floats(rng, size), floats(rng, size)
    assert_same_bits(lambda x: ops.activation_forward(x, kind), x)
    assert_same_bits(lambda dy, y: ops.activation_backward(dy, y, kind), dy, np.tanh(x))


@pytest.mark.parametrize("kind", KINDS)
def test_in_place(kind, rng):
    x, dy = floats(rng, 1000), floats(rng, 1000)
    y = ops.activation_forward(x, kind)
    dx = ops.activation_backward(dy, y, kind)
    assert ops.activation_backward(dy, y, kind, out=dy) is dy
    assert_exact(dy, dx)
    assert ops.activation_forward(x, kind, out=x) is x
    assert_exact(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_where_it_is(kind):
    x = np.ones(21, np.float32)
    x[[3, 20]] = np.nan
    y = ops.activation_forward(x, kind)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    dx = ops.activation_backward(x, np.full(21, 0.5, np.float32), kind)
    np.testing.assert_array_equal(np.isnan(dx), np.isnan(x))


def test_relu_gradient_is_zero_where_the_output_is():
    zeros = np.zeros(5, np.float32)
    assert_exact(ops.activation_backward(np.full(5, np.inf, np.float32), zeros, "relu"), zeros)


X = np.zeros((4, 16), np.float32)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"x": X.astype(float)}, r"^x .*dtype.*<f8.*<f4"),
        ({"x": X[:, ::2]}, r"^x .*contiguous"),
        ({"out": X[:2].copy()}, r"^y .*\(2, 16\).*\(4, 16\)"),
        ({"kind": "sigmoid"}, r"sigmoid.*relu.*tanh"),
        ({"kind": ""}, r"''.*relu.*tanh"),
    ],
)
def test_forward_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.activation_forward(**{"x": X, "kind": "relu", **args})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"dy": X.astype(np.int32)}, r"^dy .*dtype"),
        ({"dy": X[:3]}, r"shape \(.*\(.*"),
        ({"y": X.T}, r"^y .*contiguous"),
        ({"out": X.astype(float)}, r"^dx .*dtype"),
        ({"kind": "gelu"}, r"gelu.*relu"),
    ],
)
def test_backward_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        ops.activation_backward(**{"dy": X, "y": X, "kind": "tanh", **args})
