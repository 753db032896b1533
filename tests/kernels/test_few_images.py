"""Fully connected layers that are told how many of their images are wanted."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.checks import assert_exact, assert_same_bits, floats, running_with, tiles
from helpers.kernels import ops
from helpers.target import DEVICE, IS_HOST

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


@pytest.mark.skipif(not IS_HOST, reason="a GPU's sums depend on the number of images")
def test_a_convolution_computes_all_images(rng):
    x, w = floats(rng, 3, 5, 5, N), floats(rng, 3, 3, 3, 8)
    assert_exact(ops.conv_forward(x, w, images=1), ops.conv_forward(x, w))
