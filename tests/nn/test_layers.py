"""Layers: shapes, parameters, costs, errors; the passes of dropout and of merging layers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import re

import numpy as np
import pytest

from helpers import reference
from helpers.target import DEVICE, download
from pyalexnet import ops
from pyalexnet.errors import NetError
from pyalexnet.nn.layers import (
    KINDS,
    LRN,
    Add,
    Concat,
    Conv,
    Dropout,
    LayerBuffers,
    Linear,
    MaxPool,
    Parameter,
    ReLU,
    StepContext,
    Tanh,
    TensorSpec,
)

#: Powers of two around which sizes are tried.
BITS = (3, 13, 15, 16, 27, 28, 29, 30, 31, 32, 62, 63, 64)


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
    assert ops.output_size(size, window, stride, pad, ceil_mode=True) == ceil


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("layer", "shape", "output"),
    [
        (Conv(96, 11, stride=4, ceil_mode=True), (3, 224, 224), (96, 55, 55)),
        (Conv(8, 3), (4, 9, 7), (8, 7, 5)),
        (Conv(8, 5, pad=2, groups=2), (4, 9, 7), (8, 9, 7)),
        (MaxPool(), (8, 32, 15), (8, 15, 7)),
        (MaxPool(ceil_mode=True), (8, 32, 15), (8, 16, 7)),
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
def test_output_shapes_of_layers_with_several_inputs():
    assert Add().output_shape((8, 4, 5), (8, 4, 5), (8, 4, 5)) == (8, 4, 5)
    assert Concat().output_shape((8, 4, 5), (3, 4, 5), (8, 4, 5)) == (19, 4, 5)
    assert Concat().output_shape((8,), (3,)) == (11,)


@pytest.mark.host_only("computes nothing")
def test_what_layers_save():
    assert MaxPool().saved((8, 9, 7), images=4) == {"argmax": TensorSpec((8, 4, 3, 4), np.uint16)}
    for layer in (Conv(4, 3), LRN(), ReLU(), Tanh(), Linear(3), Dropout()):
        assert layer.saved((8, 9, 9), images=4) == layer.buffers((8, 9, 9)) == {}


@pytest.mark.host_only("computes nothing")
def test_parameters_of_conv():
    parameters = Conv(6, 5, groups=2, bias=0.5, std=0.03).parameters((8, 20, 20))
    assert parameters == {
        "weight": Parameter((4, 5, 5, 6), std=0.03),
        "bias": Parameter((6,), std=0.0, constant=0.5, is_bias=True, decays=False),
    }
    assert parameters["weight"].size == 600


@pytest.mark.host_only("computes nothing")
def test_parameters_of_linear():
    parameters = Linear(6, bias=1).parameters((8, 3, 2))
    assert parameters["weight"] == Parameter((48, 6), std=math.sqrt(2 / 48))
    assert parameters["bias"] == Parameter((6,), constant=1, is_bias=True, decays=False)


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
        ("Conv", {"filters": 0, "size": 3}, "Conv: filters is 0; expected a whole number from 1"),
        ("Conv", {"filters": 8, "size": 3.0}, "Conv: size is 3.0; expected a whole"),
        ("Conv", {"filters": True, "size": 3}, "Conv: filters is True"),
        ("Conv", {"filters": 8, "size": 3, "stride": 0}, "stride is 0"),
        ("Conv", {"filters": 8, "size": 3, "pad": -1}, "pad is -1; expected a whole number from 0"),
        ("Conv", {"filters": 8, "size": 3, "groups": "2"}, "groups is '2'"),
        ("Conv", {"filters": 8, "size": 3, "ceil_mode": 1}, "ceil_mode is 1; expected true or"),
        ("Conv", {"filters": 8, "size": 3, "activation": "gelu"}, "activation is 'gelu'"),
        ("Conv", {"filters": 8, "size": 3, "activation": ["relu"]}, "activation is"),
        ("Conv", {"filters": 8, "size": 3, "bias": math.nan}, "bias is nan"),
        ("Conv", {"filters": 8, "size": 3, "std": -1.0}, "std is -1.0"),
        ("Linear", {"features": -2}, "Linear: features is -2"),
        ("Linear", {"features": 2, "std": "x"}, "std is 'x'"),
        ("LRN", {"size": 4}, "LRN: size is 4; expected an odd number"),
        ("LRN", {"k": 0}, "k is 0; expected a number above 0"),
        ("LRN", {"alpha": -1e-4}, "alpha is -0.0001"),
        ("LRN", {"beta": math.inf}, "beta is inf"),
        ("LRN", {"beta": -0.5}, "beta is -0.5; expected a number from 0 (float32)"),
        ("LRN", {"k": 1e-39}, "beta is 0.75; expected k^(-beta - 1) and 2 alpha beta to be"),
        ("LRN", {"k": 0.1, "beta": 400.0}, "beta is 400.0; expected k^(-beta - 1) and"),
        ("LRN", {"alpha": 3e38, "beta": 1.0}, "beta is 1.0; expected k^(-beta - 1) and"),
        ("LRN", {"groups": 65536}, "groups is 65536; expected a whole number from 1 to 65535"),
        ("Conv", {"filters": 65536, "size": 1, "groups": 65536}, "groups is 65536; expected a"),
        ("Conv", {"filters": 2**31, "size": 1}, "filters is 2147483648; expected a whole number"),
        ("Conv", {"filters": 1, "size": 2**64}, "size is 18446744073709551616; expected a whole"),
        ("MaxPool", {"size": 256}, "MaxPool: size is 256; expected at most 255"),
        ("MaxPool", {"size": 3, "pad": 3}, "pad is 3; expected less than the size, 3"),
        ("Dropout", {"p": 1}, "Dropout: p is 1; expected a number from 0, less than 1"),
        ("Dropout", {"p": -0.1}, "p is -0.1"),
        ("Dropout", {"inverted": "no"}, "inverted is 'no'; expected true or false"),
        ("Add", {"activation": "gelu"}, "Add: activation is 'gelu'; expected one of"),
    ],
)
def test_arguments_out_of_range(kind, arguments, message):
    with pytest.raises(NetError, match=re.escape(message)):
        KINDS[kind](**arguments)


#: Every number of every layer.
NUMBERS = [
    ("Conv", {"filters": 8, "size": 3}, "bias"),
    ("Conv", {"filters": 8, "size": 3}, "std"),
    ("Linear", {"features": 2}, "bias"),
    ("Linear", {"features": 2}, "std"),
    ("LRN", {}, "k"),
    ("LRN", {}, "alpha"),
    ("LRN", {}, "beta"),
    ("Dropout", {}, "p"),
]


@pytest.mark.host_only("computes nothing")
def test_every_number_is_here():
    numbers = {
        (name, field.name)
        for name, kind in KINDS.items()
        for field in dataclasses.fields(kind)
        if "float" in str(field.type)
    }
    assert numbers == {(kind, name) for kind, _, name in NUMBERS}


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(("kind", "arguments", "name"), NUMBERS)
@pytest.mark.parametrize("value", [1e-50, -1e-50, 1e39, 1e300, 10**400, math.nan, -math.inf, "1"])
def test_numbers_are_those_of_float32(kind, arguments, name, value):
    with pytest.raises(NetError, match=f"^{kind}: {name} is .*; expected .*float32"):
        KINDS[kind](**arguments, **{name: value})


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("size", [0, -1, *(2**bits + more for bits in BITS for more in (-1, 0, 1))])
def test_sizes_of_any_magnitude_are_taken_or_refused(size):
    """What a layer takes, so do the kernels: they are asked for the workspace."""
    fields = ("filters", "size", "stride", "pad", "groups")
    for one, other in itertools.combinations(fields, 2):
        for shape in [(4, 8, 8), (1, 8, 8), (4, 1, 2**27), (2**20, 1, 1)]:
            for more in ({}, {"ceil_mode": True}):
                values = {"filters": 4, "size": 1, one: size, other: size} | more
                with contextlib.suppress(NetError):
                    layer = Conv(**values)
                    layer.output_shape(shape)
                    layer.workspace(DEVICE, shape, images=DEVICE.images_multiple)
    for kind in (MaxPool, LRN, Linear):
        for name in ("size", "stride", "pad", "groups", "features"):
            if name in {field.name for field in dataclasses.fields(kind)}:
                with contextlib.suppress(NetError):
                    kind(**{name: size}).output_shape((4, 8, 8))


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv(1, 65536, stride=65536, pad=65536),
            (1, 8, 8),
            "Conv: window x channels is 65536 x 65536 x 1; expected at most 2147479551",
        ),
        (Conv(2**28, 3), (1, 8, 8), "Conv: window x filters is 3 x 3 x 268435472; expected"),
        (Conv(1, 1), (1, 2**14, 2**14), "Conv: input is 16384 x 16384 x 16; expected at most"),
        (Conv(1, 1, pad=2**13), (1, 8, 8), "Conv: output is 16392 x 16392 x 16; expected at most"),
        (Conv(1, 1, pad=2**28, stride=2**28), (1, 1, 1), "Conv: it has 805306368 rows or columns"),
        (Conv(1, 1, stride=9, ceil_mode=True), (1, 5, 5), "Conv: its last window lies outside"),
        (MaxPool(1, 1), (1, 2**16, 2**15), "MaxPool: input with border is 65536 x 32768; expected"),
        (LRN(size=1025), (600, 8, 8), "LRN: size is 1025; expected at most 1023 of 600 channels"),
        (Linear(3), (2**16, 2**15, 1), "Linear: input is 65536 x 32768 x 1; expected at most"),
        (Linear(2**31 - 4100), (3,), "Linear: features and a vector is 2147479564; expected at"),
        (
            Conv(8, 5),
            (3, 4, 9),
            "Conv: its input is 4×9 padded by 0; expected at least",
        ),
        (Conv(8, 3), (9,), "Conv: its input is (9,); expected maps (C, H, W)"),
        (
            Conv(8, 3, groups=3),
            (9, 9, 9),
            "groups is 3; expected a divisor of both 9 input",
        ),
        (
            Conv(9, 3, groups=3),
            (8, 9, 9),
            "divisor of both 8 input channels and 9 filters",
        ),
        (LRN(groups=2), (3, 9, 9), "LRN: groups is 2; expected a divisor of 3 channels"),
        (LRN(), (9,), "LRN: its input is (9,); expected maps"),
        (MaxPool(), (9,), "MaxPool: its input is (9,); expected maps"),
        (MaxPool(), (3, 2, 2), "MaxPool: its input is 2×2 padded by 0; expected at least"),
        (
            MaxPool(1, 4, ceil_mode=True),
            (3, 9, 6),
            "last window lies outside the input of 6",
        ),
    ],
)
def test_impossible_inputs(layer, shape, message):
    with pytest.raises(NetError, match=re.escape(message)):
        layer.output_shape(shape)


def buffers_of(x, **more):
    """Returns the buffers of a layer whose output has the shape of its input `x`; dy is x, too."""
    arrays = {"xs": [DEVICE.upload(x)], "dy": DEVICE.upload(x), "dxs": [DEVICE.empty(x.shape)]}
    arrays |= {"y": DEVICE.empty(x.shape), "in_place": [False]}
    return LayerBuffers(device=DEVICE, **(arrays | more))


def training(images=DEVICE.images_multiple, **counters):
    return StepContext(True, images, **counters)


@pytest.mark.parametrize("inverted", [False, True])
def test_dropout_in_training_and_in_a_test(inverted):
    shape = 500, DEVICE.images_multiple
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = Dropout(0.25, inverted=inverted)
    buffers = buffers_of(x, stream=1)

    layer.forward(buffers, StepContext(False, shape[1]))
    np.testing.assert_array_equal(download(buffers.y), x if inverted else x * np.float32(0.75))

    step = training(seed=7, step=3, first_image=2)
    layer.forward(buffers, step)
    y = download(buffers.y)
    kept = y != 0
    assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / x.size)
    scale = np.float32(1 / 0.75) if inverted else np.float32(1)
    np.testing.assert_array_equal(y, np.where(kept, x * scale, 0))
    layer.backward(buffers, step)  # dy is x, so dx must be y
    np.testing.assert_array_equal(download(buffers.dx), y)


def test_dropout_drops_by_seed_step_layer_and_image():
    ones = np.ones((64, DEVICE.images_multiple), np.float32)

    def mask(layer=0, **counters):
        buffers = buffers_of(ones, stream=layer)
        Dropout().forward(buffers, training(**counters))
        return download(buffers.y)

    first = mask()
    for other in (mask(seed=1), mask(seed=1 << 32), mask(step=1), mask(layer=1)):
        assert 0.3 < (first != other).mean() < 0.7
    np.testing.assert_array_equal(mask(first_image=1)[:, :-1], first[:, 1:])


@pytest.mark.parametrize("wanted", [(True, True, True), (False, True, False)])
@pytest.mark.parametrize("activation", ["", "relu", "tanh"])
def test_add_sums_any_number_of_inputs(activation, wanted, rng):
    shape = 2, 3, 1, DEVICE.images_multiple
    xs, dy = rng.normal(size=(3, *shape)).astype(np.float32), rng.normal(size=shape)
    buffers = buffers_of(
        xs[0],
        xs=[DEVICE.upload(x) for x in xs],
        dxs=[DEVICE.empty(shape) if want else None for want in wanted],
        dy=DEVICE.upload(dy.astype(np.float32)),
        in_place=[False] * 3,
    )
    layer = Add(activation)
    layer.forward(buffers, training())
    y = reference.activation_forward(xs.sum(0), activation)
    np.testing.assert_allclose(download(buffers.y), y, rtol=1e-5, atol=1e-6)
    layer.backward(buffers, training())
    expected = reference.activation_backward(dy, y, activation) if activation else dy
    for dx in buffers.dxs:
        if dx is not None:
            np.testing.assert_allclose(download(dx), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("in_place", [(False, False, False), (True, False, True)])
def test_concat_copies_what_is_not_in_place(in_place, rng):
    images, channels = DEVICE.images_multiple, (2, 1, 3)
    xs = [rng.normal(size=(c, 3, 2, images)).astype(np.float32) for c in channels]
    dy = rng.normal(size=(6, 3, 2, images)).astype(np.float32)
    y = DEVICE.zeros(dy.shape)
    shapes = [x.shape for x in xs]
    places = Concat().input_views(y, *shapes)
    assert [place.shape for place in places] == shapes
    inputs = [
        place if there else DEVICE.upload(x)
        for place, x, there in zip(places, xs, in_place, strict=True)
    ]
    for array, x in zip(inputs, xs, strict=True):
        DEVICE.copy_in(array, x)
    buffers = LayerBuffers(
        device=DEVICE,
        xs=inputs,
        y=y,
        dxs=[DEVICE.empty(shapes[0]), None, DEVICE.empty(shapes[2])],
        dy=DEVICE.upload(dy),
        in_place=list(in_place),
    )
    Concat().forward(buffers, training())
    np.testing.assert_array_equal(download(y), np.concatenate(xs))
    Concat().backward(buffers, training())
    np.testing.assert_array_equal(download(buffers.dxs[0]), dy[:2])
    np.testing.assert_array_equal(download(buffers.dxs[2]), dy[3:])


def test_no_data_gradient_is_computed_where_none_is_wanted():
    images = DEVICE.images_multiple
    rng = np.random.default_rng(0)

    def array(*shape):
        return DEVICE.upload(rng.normal(size=shape).astype(np.float32))

    conv = Conv(2, 3)
    floats = conv.workspace(DEVICE, (1, 3, 3), images=images)
    buffers = LayerBuffers(
        device=DEVICE,
        xs=[array(1, 3, 3, images)],
        y=DEVICE.empty((2, 1, 1, images)),
        dxs=[None],
        dy=array(2, 1, 1, images),
        in_place=[False],
        parameters={"weight": array(1, 3, 3, 2), "bias": array(2)},
        gradients={"weight": DEVICE.empty((1, 3, 3, 2)), "bias": DEVICE.empty((2,))},
        workspace=DEVICE.empty((max(1, floats),)),
    )
    conv.forward(buffers, training())
    dy = download(buffers.dy) * (download(buffers.y) > 0)
    conv.backward(buffers, training())
    conv.backward_parameters(buffers, training())
    assert buffers.dx is None
    db, dw = (download(buffers.gradients[kind]) for kind in ("bias", "weight"))
    np.testing.assert_allclose(db, dy.sum((1, 2, 3)), rtol=1e-5)
    expected = np.einsum("crsn,kn->crsk", download(buffers.x), dy[:, 0, 0])
    np.testing.assert_allclose(dw, expected, rtol=1e-4, atol=1e-5)
