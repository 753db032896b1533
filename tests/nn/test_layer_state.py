"""Layers with buffers and with saved tensors: a layer that centres its input by a running mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import DEVICE, download
from pyalexnet.errors import CheckpointError, NetError
from pyalexnet.model import Model
from pyalexnet.nn.layers import Conv, Layer, Linear, TensorSpec
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD

MOMENTUM, BATCH = 0.75, 5


@dataclass(frozen=True)
class Centre(Layer):
    """Subtracts each channel's mean over the batch in training, the running mean in a test."""

    prefix: ClassVar[str] = "centre"

    def buffers(self, *shapes):
        channels = self.one(shapes)[:1]
        return {"mean": TensorSpec(channels, value=0.5), "steps": TensorSpec((1,), np.int32)}

    def saved(self, *shapes, images):
        shape = self.one(shapes)
        return {
            "mean": TensorSpec(shape[:1], np.float64),
            "above": TensorSpec((*shape, images), np.uint8),
        }

    def forward(self, buffers, step):
        at, x = buffers.device, buffers.device.download(buffers.x)
        mean = download(buffers.buffers["mean"]).astype(np.float64)
        if step.training:
            batch = x[..., : step.images].mean((1, 2, 3), dtype=np.float64)
            at.copy_in(buffers.buffers["mean"], MOMENTUM * mean + (1 - MOMENTUM) * batch)
            at.copy_in(buffers.buffers["steps"], download(buffers.buffers["steps"]) + 1)
            mean = batch
        at.copy_in(buffers.saved["mean"], mean)
        centred = x - mean[:, None, None, None]
        at.copy_in(buffers.saved["above"], centred > 0)
        at.copy_in(buffers.y, centred)

    def backward(self, buffers, step):
        dy = buffers.device.download(buffers.output_gradient)
        assert not dy[..., step.images :].any()
        mean = dy.sum((1, 2, 3)) / dy[0, ..., : step.images].size
        dx = np.zeros_like(dy)
        dx[..., : step.images] = (dy - mean[:, None, None, None])[..., : step.images]
        buffers.device.copy_in(buffers.dx, dx)


NET = Net(
    "centred",
    (3, 5, 4),
    (Conv(4, 3, activation="tanh"), Centre(), Linear(3, activation="")),
    Normalization(1 / 64),
)
OWN = {"centre1.mean", "centre1.steps"}


def test_padding_does_not_enter_the_running_mean():
    assert DEVICE.pad_images(BATCH) > BATCH
    model, expected = tiny.model(NET, DEVICE.images_multiple + 1), np.full(4, 0.5)
    own = model.parts[0].layers[1]
    for step in range(3):
        images, labels, crops = tiny.batch(NET, BATCH, seed=step)
        model.forward_backward(images, labels, crops)
        mean = download(own.x)[..., :BATCH].mean((1, 2, 3), dtype=np.float64)
        expected = MOMENTUM * expected + (1 - MOMENTUM) * mean
        saved = download(own.saved["mean"])
        assert (saved.dtype, saved.shape) == (np.float64, (4,))
        np.testing.assert_allclose(saved, mean, rtol=1e-12)
        state = model.state()
        np.testing.assert_allclose(state["centre1.mean"], expected, rtol=1e-6)
        assert state["centre1.steps"] == [step + 1]
    above = download(own.saved["above"])
    assert (above.dtype, above.shape) == (np.uint8, own.x.shape)
    np.testing.assert_array_equal(above, download(own.y) > 0)


def test_the_largest_batch_does_not_matter():
    batch = tiny.batch(NET, BATCH)
    small, large = tiny.model(NET, BATCH), tiny.model(NET, 3 * DEVICE.images_multiple)
    for model in (small, large):
        model.forward_backward(*batch)
    for name, tensor in (small.state() | small.gradients()).items():
        other = (large.state() | large.gradients())[name]
        np.testing.assert_allclose(tensor, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_buffers_begin_with_their_values_and_are_no_parameters():
    model = Model(NET, target.NAME, BATCH)
    state = model.state()
    assert list(state) == [*NET.parameters(), "centre1.mean", "centre1.steps"]
    np.testing.assert_array_equal(state["centre1.mean"], np.float32([0.5] * 4))
    assert state["centre1.steps"].dtype == np.int32 and not state["centre1.steps"].any()
    assert set(NET.buffers()) == OWN
    assert not OWN & (set(model.gradients()) | set(model.parts[0].weights))
    assert SGD(model).state().keys() == {f"momentum.{name}" for name in NET.parameters()}


def test_only_training_changes_buffers():
    model = tiny.model(NET, BATCH)
    images, labels, crops = tiny.batch(NET, BATCH)
    model.forward_backward(images, labels, crops)
    before = model.state()
    model.evaluate(images, labels, crops)
    model.predict(images, crops)
    for name, tensor in model.state().items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)


def test_load_state_restores_buffers():
    batch = tiny.batch(NET, BATCH)
    model, other = tiny.model(NET, BATCH, seed=1), tiny.model(NET, BATCH, seed=2)
    model.forward_backward(*batch)
    state = model.state()
    assert (state["centre1.mean"] != 0.5).all()
    other.load_state(state)
    for name, tensor in other.state().items():
        np.testing.assert_array_equal(tensor, state[name], err_msg=name)
    # The running mean decides what a test gives.
    images, _, crops = batch
    expected = model.logits(images, crops)
    np.testing.assert_array_equal(other.logits(images, crops), expected)
    other.load_state(state | {"centre1.mean": state["centre1.mean"] + 1})
    assert (other.logits(images, crops) != expected).any()


def test_a_state_without_the_buffers_is_refused():
    model = tiny.model(NET, BATCH)
    good = model.state()
    for wrong, message in [
        ({n: t for n, t in good.items() if n != "centre1.mean"}, "centre1.mean is missing"),
        (good | {"centre1.steps": np.zeros(2, np.int32)}, r"centre1.steps is \(2,\)"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            model.load_state(wrong)
    with pytest.raises(CheckpointError, match=r"tensor conv1\.weight is missing"):
        model.load_state({name: good[name] for name in OWN})


@pytest.mark.parametrize("name", ["conv1.weight", "conv1.bias"])
def test_gradients_pass_through_the_mean(name):
    """In training the mean is a function of the input; see `test_model` for the steps."""
    batch = tiny.batch(NET, BATCH)
    model = tiny.model(NET, BATCH)
    how = {"global_batch": 1}
    model.forward_backward(*batch, **how)
    model.pop_metrics()
    gradient, state = model.gradients()[name].astype(np.float64), model.state()
    direction = np.random.default_rng(1).normal(size=gradient.shape)
    direction += gradient / np.linalg.norm(gradient) * np.linalg.norm(direction)
    direction *= 1e-3 / np.linalg.norm(direction)
    losses = []
    for sign in (1, -1):
        model.load_state(state | {name: state[name] + sign * direction})
        model.forward_backward(*batch, **how)
        losses.append(model.pop_metrics().loss * BATCH)
    expected = 2 * (gradient * direction).sum()
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-2, abs=1e-5)


@pytest.mark.host_only("computes nothing")
def test_two_layers_with_state_need_names_of_their_own():
    layers = Conv(4, 3), Centre(), Centre(), Linear(3, activation="")
    with pytest.raises(NetError, match="net a: two layers are called centre1; expected one"):
        Net("a", (3, 5, 4), layers)
    named = Conv(4, 3), Centre(), Centre(name="again"), Linear(3, activation="")
    assert list(Net("a", (3, 5, 4), named).buffers()) == [
        "centre1.mean",
        "centre1.steps",
        "again.mean",
        "again.steps",
    ]


@pytest.mark.host_only("computes nothing")
def test_two_towers_refuse_an_unknown_layer_by_its_name():
    with pytest.raises(NetError, match="layer centre1: it is Centre; expected a layer that can be"):
        Model(NET, target.PAIR, BATCH)
