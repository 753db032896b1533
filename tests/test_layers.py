"""Layers as descriptions: shapes, parameters, costs, what they refuse; dropout's two modes."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from helpers.target import DEVICE, download
from pyalexnet import ops
from pyalexnet.errors import NetError
from pyalexnet.layers import (
    KINDS,
    LRN,
    Conv,
    Dropout,
    Linear,
    MaxPool,
    Parameter,
    Pass,
    ReLU,
    Slot,
    Tanh,
)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("size", "window", "stride", "pad", "floor", "ceil"),
    [
        (224, 11, 4, 0, 54, 55),  # the paper's conv1: its code counts 55
        (227, 11, 4, 0, 55, 55),
        (224, 11, 4, 2, 55, 56),
        (55, 3, 2, 0, 27, 27),
        (32, 3, 2, 0, 15, 16),
        (13, 3, 1, 1, 13, 13),
        (10, 11, 4, 0, 0, 1),
        (3, 11, 4, 0, -1, -1),
        (1, 1, 7, 0, 1, 1),
    ],
)
def test_output_size(size, window, stride, pad, floor, ceil):
    assert ops.output_size(size, window, stride, pad) == floor
    assert ops.output_size(size, window, stride, pad, ceil=True) == ceil


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("layer", "shape", "output"),
    [
        (Conv(96, 11, stride=4, ceil=True), (3, 224, 224), (96, 55, 55)),
        (Conv(8, 3), (4, 9, 7), (8, 7, 5)),
        (Conv(8, 5, pad=2, groups=2), (4, 9, 7), (8, 9, 7)),
        (MaxPool(), (8, 32, 15), (8, 15, 7)),
        (MaxPool(ceil=True), (8, 32, 15), (8, 16, 7)),
        (MaxPool(2, 2, pad=1), (8, 4, 4), (8, 3, 3)),
        (LRN(groups=4), (8, 4, 5), (8, 4, 5)),
        (ReLU(), (8, 4, 5), (8, 4, 5)),
        (Tanh(), (9,), (9,)),
        (Dropout(), (9,), (9,)),
        (Linear(10), (8, 4, 5), (10,)),
        (Linear(10), (9,), (10,)),
    ],
)
def test_output_shapes(layer, shape, output):
    assert layer.output_shape(shape) == output


@pytest.mark.host_only("computes nothing")
def test_parameters_of_conv():
    parameters = Conv(6, 5, groups=2, bias=0.5, std=0.03).parameters((8, 20, 20))
    assert parameters == {
        "weight": Parameter((4, 5, 5, 6), std=0.03, decayed=True),
        "bias": Parameter((6,), std=0.0, constant=0.5, decayed=False),
    }
    assert parameters["weight"].size == 600


@pytest.mark.host_only("computes nothing")
def test_parameters_of_linear():
    parameters = Linear(6, bias=1).parameters((8, 3, 2))
    assert parameters["weight"] == Parameter((48, 6), std=math.sqrt(2 / 48))
    assert parameters["bias"] == Parameter((6,), constant=1, decayed=False)


@pytest.mark.host_only("computes nothing")
def test_default_std_is_by_fan_in():
    assert Conv(6, 5, groups=2).parameters((8, 20, 20))["weight"].std == math.sqrt(2 / 100)


@pytest.mark.host_only("computes nothing")
def test_other_layers_have_no_parameters():
    for layer in (LRN(), MaxPool(), ReLU(), Tanh(), Dropout()):
        assert layer.parameters((8, 9, 9)) == {}
        assert layer.macs((8, 9, 9)) == 0


@pytest.mark.host_only("computes nothing")
def test_costs():
    assert Conv(6, 5, groups=2).macs((8, 20, 20)) == 16 * 16 * 6 * 4 * 25
    assert Linear(10).macs((8, 3, 2)) == 480


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Conv", {"filters": 0, "size": 3}, "Conv: filters is 0, not a whole number from 1"),
        ("Conv", {"filters": 8, "size": 3.0}, "Conv: size is 3.0, not a whole"),
        ("Conv", {"filters": True, "size": 3}, "Conv: filters is True"),
        ("Conv", {"filters": 8, "size": 3, "stride": 0}, "stride is 0"),
        ("Conv", {"filters": 8, "size": 3, "pad": -1}, "pad is -1, not a whole number from 0"),
        ("Conv", {"filters": 8, "size": 3, "groups": "2"}, "groups is '2'"),
        ("Conv", {"filters": 8, "size": 3, "ceil": 1}, "ceil is 1, not true or false"),
        ("Conv", {"filters": 8, "size": 3, "activation": "gelu"}, "activation is 'gelu'"),
        ("Conv", {"filters": 8, "size": 3, "activation": ["relu"]}, "activation is"),
        ("Conv", {"filters": 8, "size": 3, "bias": math.nan}, "bias is nan"),
        ("Conv", {"filters": 8, "size": 3, "std": -1.0}, "std is -1.0"),
        ("Linear", {"features": -2}, "Linear: features is -2"),
        ("Linear", {"features": 2, "std": "x"}, "std is 'x'"),
        ("LRN", {"size": 4}, "LRN: size is 4, not odd"),
        ("LRN", {"k": 0}, "k is 0, not a number above 0"),
        ("LRN", {"alpha": -1e-4}, "alpha is -0.0001"),
        ("LRN", {"beta": math.inf}, "beta is inf"),
        ("MaxPool", {"size": 257}, "MaxPool: size is 257, not at most 256"),
        ("MaxPool", {"size": 3, "pad": 3}, "pad is 3, not below the size, 3"),
        ("Dropout", {"p": 1}, "Dropout: p is 1, not a number from 0, below 1"),
        ("Dropout", {"p": -0.1}, "p is -0.1"),
        ("Dropout", {"inverted": "no"}, "inverted is 'no'"),
    ],
)
def test_arguments_out_of_range(kind, arguments, message):
    with pytest.raises(NetError, match=re.escape(message)):
        KINDS[kind](**arguments)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv(8, 5), (3, 4, 9), "Conv: 5×5 windows do not fit into an input of 4×9 padded by 0"),
        (Conv(8, 3), (9,), "Conv needs maps (C, H, W), its input is (9,)"),
        (Conv(8, 3, groups=3), (9, 9, 9), "3 groups do not divide both 9 input channels and 8"),
        (Conv(9, 3, groups=3), (8, 9, 9), "3 groups do not divide both 8 input channels and 9"),
        (LRN(groups=2), (3, 9, 9), "LRN: 2 groups do not divide 3 channels"),
        (LRN(), (9,), "LRN needs maps"),
        (MaxPool(), (9,), "MaxPool needs maps"),
        (MaxPool(), (3, 2, 2), "MaxPool: 3×3 windows do not fit"),
        (MaxPool(1, 4, ceil=True), (3, 9, 6), "last window lies outside the input of 6 pixels"),
    ],
)
def test_impossible_inputs(layer, shape, message):
    with pytest.raises(NetError, match=re.escape(message)):
        layer.output_shape(shape)


@pytest.mark.parametrize("inverted", [False, True])
def test_dropout_in_training_and_in_a_test(inverted):
    shape = 500, DEVICE.images_multiple
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = Dropout(0.25, inverted=inverted)
    slot = Slot(
        device=DEVICE,
        x=DEVICE.upload(x),
        y=DEVICE.empty(shape),
        dx=DEVICE.empty(shape),
        dy=DEVICE.upload(x),
        dropout=1,
    )

    layer.forward(slot, Pass(training=False))
    np.testing.assert_array_equal(download(slot.y), x if inverted else x * np.float32(0.75))

    run = Pass(training=True, seed=7, step=3, first_image=2)
    layer.forward(slot, run)
    y = download(slot.y)
    kept = y != 0
    assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / x.size)
    scale = np.float32(1 / 0.75) if inverted else np.float32(1)
    np.testing.assert_array_equal(y, np.where(kept, x * scale, 0))
    layer.backward(slot, run)  # dy is x, so the same must come out
    np.testing.assert_array_equal(download(slot.dx), y)


def test_dropout_drops_by_seed_step_layer_and_image():
    x = DEVICE.upload(np.ones((64, DEVICE.images_multiple), np.float32))

    def mask(layer=0, **values):
        slot = Slot(device=DEVICE, x=x, y=DEVICE.empty(x.shape), dropout=layer)
        Dropout().forward(slot, Pass(training=True, **values))
        return download(slot.y)

    first = mask()
    for other in (mask(seed=1), mask(seed=1 << 32), mask(step=1), mask(layer=1)):
        assert 0.3 < (first != other).mean() < 0.7
    np.testing.assert_array_equal(mask(first_image=1)[:, :-1], first[:, 1:])


def test_no_data_gradient_is_computed_where_none_is_wanted():
    images = DEVICE.images_multiple
    rng = np.random.default_rng(0)

    def array(*shape):
        return DEVICE.upload(rng.normal(size=shape).astype(np.float32))

    conv = Conv(2, 3)
    slot = Slot(
        device=DEVICE,
        x=array(1, 3, 3, images),
        y=DEVICE.empty((2, 1, 1, images)),
        dy=array(2, 1, 1, images),
        parameters={"weight": array(1, 3, 3, 2), "bias": array(2)},
        gradients={"weight": DEVICE.empty((1, 3, 3, 2)), "bias": DEVICE.empty((2,))},
        workspace=DEVICE.empty((max(1, conv.workspace(DEVICE, (1, 3, 3), images)),)),
    )
    conv.forward(slot, Pass(training=True))
    dy = download(slot.dy) * (download(slot.y) > 0)
    conv.backward(slot, Pass(training=True))
    assert slot.dx is None
    db, dw = (download(slot.gradients[kind]) for kind in ("bias", "weight"))
    np.testing.assert_allclose(db, dy.sum((1, 2, 3)), rtol=1e-5)
    expected = np.einsum("crsn,kn->crsk", download(slot.x), dy[:, 0, 0])
    np.testing.assert_allclose(dw, expected, rtol=1e-4, atol=1e-5)
