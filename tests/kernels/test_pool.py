"""Max pooling."""

from __future__ import annotations

from typing import NamedTuple

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
    lattice,
    padded,
)
from helpers.kernels import ops
from helpers.target import DEVICE

pytestmark = pytest.mark.usefixtures("tiles")


class Case(NamedTuple):
    C: int
    H: int
    W: int
    images: int
    size: int
    stride: int
    pad: int = 0
    ceil_mode: bool = False

    @property
    def how(self) -> dict[str, int]:
        return {"size": self.size, "stride": self.stride, "pad": self.pad}

    @property
    def x(self) -> tuple[int, ...]:
        return self.C, self.H, self.W, self.images

    @property
    def out(self) -> tuple[int, int]:
        P, Q = (
            ops.output_size(v, self.size, self.stride, self.pad, self.ceil_mode)
            for v in (self.H, self.W)
        )
        return P, Q


CASES = {
    "one of everything": Case(1, 1, 1, 1, 1, 1),
    "2x2": Case(3, 6, 8, 7, 2, 2),
    "2x2 floor leaves a row": Case(3, 7, 5, 7, 2, 2),
    "2x2 ceil": Case(3, 7, 5, 7, 2, 2, ceil_mode=True),
    "overlapping": Case(5, 9, 7, 33, 3, 2),
    "overlapping, ceil": Case(5, 8, 6, 33, 3, 2, ceil_mode=True),
    "stride 1": Case(3, 5, 6, 7, 3, 1),
    "stride above size": Case(3, 9, 11, 7, 2, 3),
    "pad": Case(3, 6, 7, 7, 3, 2, pad=1),
    "pad, ceil": Case(16, 6, 7, 1, 3, 2, pad=1, ceil_mode=True),
    "much pad": Case(3, 4, 5, 7, 4, 1, pad=3),
    "the window is the image": Case(17, 6, 6, 7, 6, 1),
    "the window is larger than the image": Case(3, 3, 2, 7, 5, 2, pad=2),
    "many images": Case(3, 7, 6, 77, 3, 2, pad=1),
    "AlexNet pool1": Case(3, 55, 55, 1, 3, 2, ceil_mode=True),
    "AlexNet pool2": Case(5, 27, 27, 7, 3, 2, ceil_mode=True),
    "AlexNet pool5": Case(10, 13, 13, 33, 3, 2, ceil_mode=True),
    "largest window": Case(1, 255, 255, 1, 255, 1),
}
FEW = ["overlapping, ceil", "pad", "many images", "AlexNet pool5"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=FEW)
def few(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def forward(case: Case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ops.maxpool_forward(x, **case.how, ceil_mode=case.ceil_mode)


def backward(case: Case, dy: np.ndarray, argmax: np.ndarray) -> np.ndarray:
    x_shape = (*case.x[:3], dy.shape[3])
    return ops.maxpool_backward(dy, argmax, x_shape, **case.how)


@pytest.mark.parametrize("values", [integers, floats])
def test_forward(case, values, rng):
    x = values(rng, *case.x)  # whole numbers tie, and the first of them wins
    y, argmax = forward(case, padded(x))
    expected, place = reference.maxpool_forward(x, case.out, **case.how)
    assert_exact(y[..., : case.images], expected)
    assert argmax.dtype == np.uint16
    assert_exact(argmax[..., : case.images], place)


def test_forward_of_negative_numbers(few, rng):
    """Pixels outside the image do not count, not even as zeros."""
    x = -1 - np.abs(floats(rng, *few.x))
    y, _ = forward(few, padded(x, -1))
    assert_exact(y[..., : few.images], reference.maxpool_forward(x, few.out, **few.how)[0])


def test_forward_of_infinities(few):
    x = np.full((*few.x[:3], DEVICE.images_multiple), -np.inf, np.float32)
    y, argmax = forward(few, x)
    assert_exact(y, np.full(y.shape, -np.inf, np.float32))
    assert_exact(argmax, reference.maxpool_forward(x, few.out, **few.how)[1])


def test_the_first_nan_wins(few, rng):
    x = floats(rng, *few.x)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[rng.random(x.shape) < 0.1] = np.inf
    y, argmax = forward(few, padded(x))
    expected, place = reference.maxpool_forward(x, few.out, **few.how)
    assert_exact(y[..., : few.images], expected)
    assert_exact(argmax[..., : few.images], place)


def test_backward_of_integers(case, rng):
    x = integers(rng, *case.x)
    _, argmax = forward(case, padded(x))
    dy = integers(rng, case.C, *case.out, case.images)
    dx = backward(case, padded(dy), argmax)[..., : case.images]
    place = argmax[..., : case.images]
    assert_exact(dx, reference.maxpool_backward(dy.astype(float), place, case.x, **case.how))


@pytest.mark.parametrize("values", [integers, floats])
def test_the_mask_of_a_relu(case, values, rng):
    x = padded(values(rng, *case.x))
    x[rng.random(x.shape) < 0.01] = np.nan
    y, argmax = forward(case, x)
    masked = ops.maxpool_forward(x, **case.how, ceil_mode=case.ceil_mode, masked=True)
    assert_exact(masked[0], y)
    assert_exact(masked[1], np.where(y > 0, argmax, 0xFFFF))
    dy = padded(floats(rng, case.C, *case.out, case.images))
    assert_exact(backward(case, dy, masked[1]), np.where(x > 0, backward(case, dy, argmax), 0))


def test_backward_errors(few, rng):
    x, dy = integers(rng, *few.x), floats(rng, few.C, *few.out, few.images)
    _, argmax = forward(few, padded(x))
    dx = backward(few, padded(dy), argmax)[..., : few.images]
    place = argmax[..., : few.images]
    assert_accurate_sum(dx, lambda dy: reference.maxpool_backward(dy, place, few.x, **few.how), dy)


@pytest.mark.parametrize("pad", [0, 1])
def test_gradient_is_central_differences(pad, rng):
    case = Case(2, 4, 5, DEVICE.images_multiple, 3, 2, pad, ceil_mode=True)
    x, dy = lattice(rng, *case.x), integers(rng, 2, *case.out, case.images)
    assert_gradient(
        lambda x: forward(case, x)[0],
        lambda dy: backward(case, dy, forward(case, x)[1]),
        *(x, dy),
        step=0.25,
        images=2,
    )


def test_bits(few, rng):
    x, dy = padded(floats(rng, *few.x)), padded(floats(rng, few.C, *few.out, few.images))
    assert_same_bits(lambda x: forward(few, x), x)
    _, argmax = forward(few, x)
    assert_same_bits(lambda dy, argmax: backward(few, dy, argmax), dy, argmax)


def test_images_do_not_meet(few, rng):
    x, dy = floats(rng, *few.x), floats(rng, few.C, *few.out, few.images)
    n = few.images
    y, argmax = forward(few, padded(x))
    y_beside_nan, argmax_beside_nan = forward(few, padded(x, np.nan))
    assert_exact(y_beside_nan[..., :n], y[..., :n])
    assert_exact(argmax_beside_nan[..., :n], argmax[..., :n])
    dx = backward(few, padded(dy), argmax)
    assert_exact(backward(few, padded(dy, np.nan), argmax)[..., :n], dx[..., :n])


def test_a_nan_gradient_reaches_its_maximum_only(rng):
    case = CASES["overlapping"]
    x, dy = padded(floats(rng, *case.x)), padded(floats(rng, case.C, *case.out, case.images))
    dy[2, 1, 1, 5] = np.nan
    _, argmax = forward(case, x)
    dx = backward(case, dy, argmax)
    r, s = divmod(int(argmax[2, 1, 1, 5]), case.size)
    assert np.argwhere(np.isnan(dx)).tolist() == [[2, case.stride + r, case.stride + s, 5]]


N = DEVICE.images_multiple


def maps(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros((*shape, N), dtype)


SIZES = [
    ({"size": 0}, r"^size is 0"),
    ({"size": 256}, r"^size is 256.*255"),
    ({"stride": 0}, r"^stride is 0.*at least 1"),
    ({"stride": -2}, r"^stride is -2"),
    ({"pad": -1}, r"^pad is -1"),
    ({"pad": 3}, r"^pad is 3.*below size"),
]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        *SIZES,
        ({"x": maps(3, 6, 6, dtype=np.float64)}, r"^x .*dtype"),
        ({"x": maps(3, 6, 12)[:, :, ::2]}, r"^x .*contiguous"),
        ({"x": maps(3, 36)}, r"^x .*4 dimensions"),
        ({"x": maps(3, 6, 6)[..., :-1].copy()}, r"^x .*multiple"),
        ({"out": maps(4, 3, 3)}, r"^y .*\(4, .*\(3, "),
        ({"out": maps(3, 5, 3), "argmax": maps(3, 5, 3, dtype=np.uint16)}, r"^y .*contain a pixel"),
        ({"argmax": maps(3, 3, 3, dtype=np.int32)}, r"^argmax .*dtype.*<u2"),
        ({"argmax": maps(3, 3, 2, dtype=np.uint16)}, r"^argmax .*shape"),
    ],
)
def test_forward_refuses(args, message):
    good = {"x": maps(3, 6, 6), "size": 3, "stride": 2, "out": maps(3, 3, 3)}
    ops.maxpool_forward(**good)
    with pytest.raises(ValueError, match=message):
        ops.maxpool_forward(**{**good, **args})


@pytest.mark.parametrize(
    ("args", "message"),
    [
        *SIZES,
        ({"dy": maps(3, 3, 3, dtype=np.float64)}, r"^dy .*dtype"),
        ({"dy": maps(2, 3, 3)}, r"^dy .*\(2, .*\(3, "),
        ({"argmax": maps(3, 3, 3)}, r"^argmax .*dtype"),
        ({"argmax": maps(3, 2, 3, dtype=np.uint16)}, r"^argmax .*shape"),
        ({"out": maps(3, 6, 12)[:, :, ::2]}, r"^dx .*contiguous"),
    ],
)
def test_backward_refuses(args, message):
    good = {"dy": maps(3, 3, 3), "argmax": maps(3, 3, 3, dtype=np.uint16), "size": 3, "stride": 2}
    good |= {"x_shape": (3, 6, 6, N)}
    ops.maxpool_backward(**good)
    with pytest.raises(ValueError, match=message):
        ops.maxpool_backward(**{**good, **args})
