"""Forward passes that are told how many of their images are wanted."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.checks import assert_exact, assert_same_bits, floats, running_with, tiles
from helpers.conv_cases import CASES, Case
from helpers.kernels import ops
from helpers.target import DEVICE

N = DEVICE.images_multiple
#: Features, filters: no multiples of a vector, a block's width and less, several blocks.
SIZES = [(1, 1), (7, 17), (130, 128), (33, 300), (300, 40)]


@pytest.fixture(params=tiles("host", "gpu"), autouse=True, name="tiles")
def all_tiles(request: pytest.FixtureRequest, guarded_memory: None):
    with running_with(request.param):
        yield request.param


def layer(rng: np.random.Generator, features: int, filters: int, images: int, extent: int):
    """x, of which the images past the first ones are zeros, w and b."""
    x = np.zeros((features, extent), np.float32)
    x[:, :images] = floats(rng, features, images)
    return x, floats(rng, features, filters), floats(rng, filters)


@pytest.mark.parametrize(("features", "filters"), SIZES)
@pytest.mark.parametrize("images", [1, 2, 3, 4, 5])
def test_bits_are_those_of_all_images(features, filters, images, rng):
    for extent in (N, 3 * N):
        if images <= extent:
            x, w, b = layer(rng, features, filters, images, extent)
            for activation in ("", "relu", "tanh"):
                expected = ops.linear_forward(x, w, b, activation=activation)
                found = ops.linear_forward(x, w, b, activation=activation, images=images)
                assert_exact(found, expected)


def test_bits(rng):
    x, w, b = layer(rng, 33, 300, 2, N)
    assert_same_bits(lambda x, w, b: ops.linear_forward(x, w, b, images=2), x, w, b)


@pytest.mark.host_only("a GPU computes all images")
def test_other_images_count_as_zeros(tiles, rng):
    x, w, b = layer(rng, 33, 300, 3, 2 * N)
    expected = ops.linear_forward(x, w, b)
    x[:, 3:] = np.nan
    found = ops.linear_forward(x, w, b, images=3)
    assert_exact(found[:, :3], expected[:, :3])
    if tiles == "host":
        assert_exact(found, expected)


def test_a_wrong_number_of_images_is_refused(rng):
    x, w, b = layer(rng, 5, 6, 1, N)
    for images in (0, -1, N + 1):
        message = f"images is {images}; expected 1 to {N}, the last extent of x"
        with pytest.raises(ValueError, match=message):
            ops.linear_forward(x, w, b, images=images)


host = pytest.mark.host_only("a GPU computes all images")


def x_of(case: Case, images: int, rng: np.random.Generator, extent: int = N) -> np.ndarray:
    x = np.zeros((*case.x[:3], extent), np.float32)
    x[..., :images] = floats(rng, *case.x[:3], images)
    return x


@host
@pytest.mark.parametrize("images", [1, 2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_convolutions_bits_are_the_direct_ones(name, images, rng):
    case = CASES[name]
    x, w, b = x_of(case, images, rng), floats(rng, *case.w), floats(rng, case.K)
    how = {**case.how, "ceil_mode": case.ceil_mode, "activation": "relu"}
    found = ops.conv_forward(x, w, b, images=images, **how)
    assert_exact(found, ops.conv_forward(x, w, b, algorithm="direct", **how))


@host
def test_a_convolutions_bits_in_any_order(rng):
    case = CASES["3x3 groups 4"]
    x, w = x_of(case, 3, rng), floats(rng, *case.w)
    assert_same_bits(lambda x, w: ops.conv_forward(x, w, images=3, **case.how), x, w)


@host
def test_a_workspace_of_the_stated_size_is_enough(tiles, rng):
    case = CASES["5x5"]
    x, w = x_of(case, 4, rng), floats(rng, *case.w)
    plan = ops.conv_plan(DEVICE, x.shape, case.w, (*case.y[:3], N), **case.how)
    memory = np.full(plan.workspace[0] + 64, np.pi, np.float32)
    workspace = memory[: plan.workspace[0]]
    expected = ops.conv_forward(x, w, images=4, **case.how)
    given = ops.conv_forward(x, w, images=4, workspace=workspace, **case.how)
    assert_exact(given, expected)
    assert (memory[len(workspace) :] == np.float32(np.pi)).all()
    if tiles == "host":
        with pytest.raises(ValueError, match="workspace has 9 floats; expected at least"):
            ops.conv_forward(x, w, images=4, workspace=workspace[:9], **case.how)


@host
def test_winograd_that_is_asked_for_computes_all_images(tiles, rng):
    case = CASES["3x3"]
    x, w = x_of(case, 1, rng), floats(rng, *case.w)
    if tiles == "host":
        how = {**case.how, "algorithm": "winograd"}
        assert_exact(ops.conv_forward(x, w, images=1, **how), ops.conv_forward(x, w, **how))


@host
def test_images_that_are_much_smaller_than_their_border_take_no_memory_for_it():
    shapes = (3, 2, 2, N), (3, 3, 3, 8), (8, 1000, 1000, N)
    assert ops.conv_plan(DEVICE, *shapes, pad=500).workspace[0] < 1 << 20
