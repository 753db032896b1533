"""How pixels become a net's input: mean image, numbers for each channel, errors."""

from __future__ import annotations

import re

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import download
from pyalexnet.errors import DataError, NetError
from pyalexnet.model import Model
from pyalexnet.nn.layers import Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def net_of(normalization):
    return Net("a", (3, 4, 5), (Linear(2, activation=""),), normalization)


def input_of(model, images, crops):
    """Returns the net's input (N, H, W, C) for these images."""
    model.logits(images, crops)
    return download(model.parts[0].input.out)[..., : len(images)].transpose(3, 1, 2, 0)


def cropped(images, crops):
    """Cuts 4×5 pixels out of each image (H, W, C); the third number of a crop mirrors it."""
    parts = []
    for image, (row, column, mirror) in zip(images, crops, strict=True):
        part = image[row : row + 4, column : column + 5]
        parts.append(part[:, ::-1] if mirror else part)
    return np.array(parts)


@pytest.mark.parametrize("scale", [0.25, (0.5, 0.25, 2.0)])
def test_the_mean_image_is_subtracted_where_the_pixel_was(scale, rng):
    net = net_of(Normalization(scale))
    images, _, crops = tiny.batch(net, 3)
    mean = rng.uniform(0, 255, images.shape[1:]).astype(np.float32)
    model = Model(net, target.NAME, 3)
    # Until it is set, the mean image is zero.
    before = input_of(model, images, crops)
    np.testing.assert_allclose(before, cropped(images * np.array(scale), crops), rtol=1e-6)
    model.set_mean_image(mean)
    expected = cropped((images - mean) * np.array(scale), crops)
    np.testing.assert_allclose(input_of(model, images, crops), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", [127.5, 0.0, (120.0, 100.0, 90.0)])
def test_a_fixed_mean_ignores_the_mean_image(mean):
    net = net_of(Normalization(0.5, mean))
    images, _, crops = tiny.batch(net, 3)
    model = Model(net, target.NAME, 3)
    expected = cropped((images - np.array(mean)) * 0.5, crops)
    np.testing.assert_allclose(input_of(model, images, crops), expected, rtol=1e-6)
    model.set_mean_image(np.full((1, 1, 3), 9, np.float32))  # of another size
    np.testing.assert_allclose(input_of(model, images, crops), expected, rtol=1e-6)
    # Stored images of another size have the same mean.
    larger, _, crops = tiny.batch(net, 3, stored=5)
    expected = cropped((larger - np.array(mean)) * 0.5, crops)
    np.testing.assert_allclose(input_of(model, larger, crops), expected, rtol=1e-6)


def test_per_channel_is_torchvisions_formula():
    net = net_of(Normalization.per_channel(*IMAGENET))
    images, _, crops = tiny.batch(net, 3)
    model = Model(net, target.NAME, 3)
    mean, std = map(np.array, IMAGENET)
    expected = cropped((images / 255 - mean) / std, crops)
    np.testing.assert_allclose(input_of(model, images, crops), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.host_only("computes nothing")
def test_numbers_are_for_all_channels_or_for_each():
    single = Normalization(0.5, 3)
    np.testing.assert_array_equal(single.scales(3), np.float32([0.5] * 3))
    assert single.scales(3).dtype == np.float32
    each = Normalization((0.5, 2.0), (1.0, 4.0))
    np.testing.assert_array_equal(each.scales(2), [0.5, 2])
    means = each.means((2, 3, 2), None)
    assert means.shape == (2, 3, 2) and means.dtype == np.float32
    np.testing.assert_array_equal(means, np.broadcast_to([1, 4], (2, 3, 2)))
    assert not single.uses_mean_image and Normalization().uses_mean_image
    assert Normalization(0.0, 0).mean == 0 and not Normalization(mean=0).uses_mean_image


@pytest.mark.host_only("computes nothing")
def test_a_mean_image_of_another_size_is_refused():
    image = np.zeros((4, 5, 3), np.float32)
    np.testing.assert_array_equal(Normalization().means((4, 5, 3), image), image)
    assert not Normalization().means((4, 5, 3), None).any()
    with pytest.raises(
        DataError, match=r"mean image is \(4, 5, 3\); expected the images' \(4, 6, 3\)"
    ):
        Normalization().means((4, 6, 3), image)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        (Normalization((1.0, 2.0)), "scale is (1.0, 2.0); expected one number, or one for each"),
        (Normalization(None), "scale is None"),
        (Normalization("x"), "scale is 'x'"),
        (Normalization(True), "scale is True"),
        (Normalization(float("nan")), "scale is nan"),
        (Normalization((1.0, 2.0, float("inf"))), "scale is (1.0, 2.0, inf)"),
        (Normalization(()), "scale is ()"),
        (Normalization([1.0, 1.0, 1.0]), "scale is [1.0, 1.0, 1.0]"),
        (Normalization(1.0, (1.0,)), "mean is (1.0,); expected one number, or one for each of 3"),
        (Normalization(1.0, "image"), "mean is 'image'"),
        (Normalization(1.0, (1.0, None, 2.0)), "mean is (1.0, None, 2.0)"),
    ],
)
def test_errors_name_the_net_and_the_number(normalization, message):
    with pytest.raises(NetError, match=re.escape(f"net a: {message}")):
        net_of(normalization)
