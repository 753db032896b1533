"""Arenas of parameters; which gradients share a buffer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import DEVICE, assign, download
from pyalexnet.device import HostDevice
from pyalexnet.nn import zoo
from pyalexnet.nn.arena import Arena, Lifetime, Plan, plan_buffers
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.nn.layers import Concat, Conv, Linear, ReLU
from pyalexnet.nn.net import Net


def test_tensors_of_an_arena_are_views_of_one_array():
    shapes = {"a": (3, 5), "b": (1,), "c": (8, 8), "d": (65,)}
    arena = Arena(DEVICE, shapes)
    assert (arena.names, list(arena), len(arena)) == (tuple(shapes), list(shapes), 4)
    np.testing.assert_array_equal(arena.starts, [0, 64, 128, 192, 320])
    assert not download(arena.flat).any() and arena.flat.shape == (320,)
    for index, (name, shape) in enumerate(shapes.items()):
        assert arena[name].shape == shape
        assign(arena[name], index + 1)
        segment = download(arena.flat)[arena.starts[index] : arena.starts[index + 1]]
        assert (segment[: math.prod(shape)] == index + 1).all()
        assert not segment[math.prod(shape) :].any()
    other = arena.like()
    np.testing.assert_array_equal(other.starts, arena.starts)
    assert not download(other.flat).any()


def check_plan(lifetimes: list[Lifetime]) -> Plan:
    """Returns the plan; no two arrays may share a buffer at a time, and each must fit."""
    plan = plan_buffers(lifetimes)
    assert len(plan.buffers) == len(lifetimes)
    assert set(plan.buffers) == set(range(len(plan.sizes)))
    for one, other in itertools.combinations(range(len(lifetimes)), 2):
        a, b = lifetimes[one], lifetimes[other]
        if plan.buffers[one] == plan.buffers[other]:
            assert a.last < b.first or b.last < a.first, (a, b)
    for buffer, size in enumerate(plan.sizes):
        held = [
            lifetime.size
            for lifetime, own in zip(lifetimes, plan.buffers, strict=True)
            if own == buffer
        ]
        assert size == max(held)
    return plan


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("seed", range(100))
def test_arrays_that_are_alive_at_once_never_share_a_buffer(seed):
    rng = np.random.default_rng(seed)
    lifetimes = []
    for first in rng.integers(0, 20, rng.integers(1, 40)):
        last, size = first + rng.integers(0, 6), rng.integers(1, 1000)
        lifetimes.append(Lifetime(int(first), int(last), int(size)))
    plan = check_plan(lifetimes)
    alive = [sum(t.first <= step <= t.last for t in lifetimes) for step in range(30)]
    # In order of first use, the number of buffers is the least that is possible.
    assert len(plan.sizes) == max(alive)
    assert sum(plan.sizes) <= sum(lifetime.size for lifetime in lifetimes)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("seed", range(10))
def test_a_chain_has_two_buffers(seed):
    sizes = np.random.default_rng(seed).integers(1, 1000, 9).tolist()
    plan = check_plan([Lifetime(step, step + 1, size) for step, size in enumerate(sizes)])
    assert plan.buffers == [0, 1] * 4 + [0]
    assert plan.sizes == [max(sizes[0::2]), max(sizes[1::2])]


@pytest.mark.host_only("computes nothing")
def test_the_smallest_buffer_that_is_large_enough_is_taken():
    lifetimes = [
        *(Lifetime(0, 0, size) for size in (10, 30, 20)),
        *(Lifetime(1, 1, size) for size in (15, 31, 5)),
    ]
    # 15 is put into 20, then 31 into 30, which grows, then 5 into 10.
    assert check_plan(lifetimes) == Plan([0, 1, 2, 2, 1, 0], [10, 31, 20])
    assert plan_buffers([]) == Plan([], [])


# Gradients of nets


def requested(monkeypatch, make):
    """Returns the sizes of the arrays that `make` has from the host, in elements."""
    sizes = []
    empty = HostDevice.empty

    def counting(self, shape, dtype=np.float32):
        sizes.append(math.prod(shape))
        return empty(self, shape, dtype)

    monkeypatch.setattr(HostDevice, "empty", counting)
    make()
    return sizes


def memory_of(array):
    """Returns the address of the allocation that a host array is a view of."""
    while array.base is not None:
        array = array.base
    return array.ctypes.data


@pytest.mark.host_only("looks at addresses")
def test_alexnets_gradients_take_two_buffers(monkeypatch):
    """Two buffers hold all of them; their sizes are those of conv1's output and of lrn1's."""
    net, images = zoo.alexnet(), DEVICE.images_multiple
    conv1, pool1 = 96 * 55 * 55 * images, 96 * 27 * 27 * images
    made = []
    sizes = requested(monkeypatch, lambda: made.append(DeviceNet(net, DEVICE, images)))
    [part] = made
    gradients = [own.dy for own in part.layers]
    buffers = {memory_of(dy) for dy in gradients}
    assert len(buffers) == 2
    assert [memory_of(dy) for dy in gradients[::2]] == [memory_of(gradients[0])] * 8
    # Both of the two largest outputs, and both gradient buffers.
    assert sizes.count(conv1) == 4
    assert pool1 < conv1
    # The input, the outputs, pooling's positions, gradients, workspace, transforms, the loss.
    assert sum(sizes) == sum(math.prod(shape) for shape in net.shapes()) * images + (
        (96 * 27 * 27 + 256 * 13 * 13 + 256 * 6 * 6) * images
        + 2 * conv1
        + max(floats(net, images, "workspace"))
        + sum(floats(net, images, "weight_transform"))
        + (1000 + 1 + 1) * images
        + 3  # scale
    )


def floats(net, images, what):
    shapes = (net.input_shapes(i) for i in range(len(net.layers)))
    pairs = zip(net.layers, shapes, strict=True)
    return [getattr(layer, what)(DEVICE, *own, images=images) for layer, own in pairs]


@pytest.mark.host_only("looks at addresses")
def test_gradients_of_branches_share_buffers_over_time():
    part = DeviceNet(tiny.BRANCHED, DEVICE, 1)
    arrays = [dx for own in part.layers for dx in own.dxs if dx is not None]
    buffers = {memory_of(array) for array in (*arrays, part.layers[-1].dy)}
    assert 3 <= len(buffers) < len(arrays) / 2
    for name, own in zip(tiny.BRANCHED.names, part.layers, strict=True):
        places = [memory_of(array) for array in (*own.dxs, own.dy) if array is not None]
        assert len(set(places)) == len(places), name


def test_only_layers_above_parameters_have_gradients():
    net = Net(
        "a",
        (3, 6, 6),
        (
            ReLU(name="below"),
            Conv(3, 1, name="above"),
            Concat(inputs=("below", "above", "input")),
            Linear(2, activation=""),
        ),
    )
    below, above, concat, last = DeviceNet(net, DEVICE, 1).layers
    assert below.dy is None and below.dxs == [None]
    assert above.dy is not None and above.dxs == [None]
    assert [dx is None for dx in concat.dxs] == [True, False, True]
    assert last.dxs[0] is concat.dy


def test_inputs_of_a_concatenation_are_parts_of_its_output():
    model = tiny.model(tiny.BRANCHED, 4)
    layers = dict(zip(tiny.BRANCHED.names, model.parts[0].layers, strict=True))
    assert layers["both"].in_place == [True, False]  # "right" is part of "again"
    assert layers["again"].in_place == [True, True]
    model.logits(*tiny.batch(tiny.BRANCHED, 4)[::2])
    for name, inputs in {"both": ("sum", "right"), "again": ("right", "narrow")}.items():
        parts = [download(layers[source].y) for source in inputs]
        np.testing.assert_array_equal(download(layers[name].y), np.concatenate(parts))
    sizes = dict(zip(tiny.BRANCHED.names, model.parts[0].activation_bytes(), strict=True))
    images = DEVICE.pad_images(4)
    assert sizes["both"] == 4 * 4 * 4 * 3 * images  # the copy of "right" alone
    assert sizes["again"] == 0


@pytest.mark.parametrize("devices", [target.NAME, target.PAIR])
def test_whole_tensors_are_split_over_the_devices(devices):
    model = tiny.model(tiny.NET, 1, devices=devices)
    state = model.state()
    assert {name: v.shape for name, v in state.items()} == {
        name: p.shape for name, p in tiny.NET.parameters().items()
    }
    if len(model.parts) == 2:
        halves = [download(part.weights["fc2.weight"]) for part in model.parts]
        np.testing.assert_array_equal(np.concatenate(halves, -1), state["fc2.weight"])
        assert "fc3.weight" not in model.parts[1].weights
