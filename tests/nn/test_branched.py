"""A net with branches: a residual connection, and values that several layers read.

Its gradients are checked in test_model.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers import checks, reference, target, tiny
from helpers.kernels import ops
from helpers.target import DEVICE
from pyalexnet import ops as device_ops
from pyalexnet.errors import NetError
from pyalexnet.model import Model
from pyalexnet.nn import device_net
from pyalexnet.nn.layers import LRN, Add, Concat, Conv, Dropout, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD

NET, BATCH = tiny.BRANCHED, 9


def forward(state, images, crops, mask=0.7):
    """Computes BRANCHED's logits (classes, N) in float64; dropout multiplies by `mask`."""
    w = {name: tensor.astype(np.float64) for name, tensor in state.items()}

    def conv(name, x, pad=1):
        size = x.shape[1:3]
        return reference.conv_forward(x, w[f"{name}.weight"], w[f"{name}.bias"], size, pad=pad)

    def linear(name, x):
        return reference.linear_forward(x, w[f"{name}.weight"], w[f"{name}.bias"])

    mean = np.full(images.shape[1:], 120.0)
    x = reference.augment(images, crops, mean, np.full(3, 1 / 64), (9, 8))
    lrn = reference.lrn_forward(np.tanh(conv("stem", x)), size=3, k=1.0, alpha=0.5)
    trunk, _ = reference.maxpool_forward(lrn, (4, 3), 3, 2)
    right = np.tanh(conv("right", trunk, pad=0))
    both = np.concatenate([np.maximum(trunk + conv("left", trunk), 0), right])
    again = np.concatenate([right, np.tanh(conv("narrow", both))])
    flat = again.reshape(-1, len(images)) * mask
    return linear("logits", np.tanh(linear("hidden", flat)))


def trained(steps, seed=1):
    model = tiny.model(NET, BATCH, seed)
    sgd = SGD(model, lr=0.02)
    for step in range(steps):
        model.forward_backward(*tiny.batch(NET, BATCH), seed=seed, step=step)
        sgd.step()
    return model, sgd


def test_logits_are_those_of_the_reference():
    images, _, crops = tiny.batch(NET, BATCH)
    model = tiny.model(NET, BATCH, seed=1)
    expected = forward(model.state(), images, crops)
    np.testing.assert_allclose(model.logits(images, crops), expected.T, rtol=1e-5, atol=1e-5)


def test_the_loss_in_training_is_that_of_the_reference():
    images, labels, crops = tiny.batch(NET, BATCH)
    model = tiny.model(NET, BATCH, seed=1)
    model.forward_backward(images, labels, crops, seed=5, step=6)
    ones = np.ones((120, DEVICE.pad_images(BATCH)), np.float32)
    mask = ops.dropout(ones, p=0.3, scale=1.0, seed=5, layer=0, step=6)[:, :BATCH]
    logits = forward(model.state(), images, crops, mask)
    losses = reference.softmax_cross_entropy(logits, labels).losses
    assert model.pop_metrics().loss == pytest.approx(losses.mean(), rel=1e-5)


def test_the_loss_falls():
    batch = tiny.batch(NET, BATCH)
    losses = []
    for model in (tiny.model(NET, BATCH, seed=1), trained(20)[0]):
        model.pop_metrics()
        model.evaluate(*batch)
        losses.append(model.pop_metrics().loss)
    assert losses[1] < losses[0] / 2


def test_state_continues_in_another_model():
    model, sgd = trained(2)
    other = tiny.model(NET, BATCH, seed=7)
    other_sgd = SGD(other, lr=0.02)
    other.load_state(model.state())
    other_sgd.load_state(sgd.state())
    for m, optimiser in ((model, sgd), (other, other_sgd)):
        m.forward_backward(*tiny.batch(NET, BATCH), seed=1, step=2)
        optimiser.step()
    assert other.checksums() == model.checksums()
    assert other.checksums() == trained(3)[0].checksums()


def test_two_runs_have_the_same_bits():
    def bits(**how):
        with checks.execution(**how):
            return trained(3)[0].checksums()

    expected = bits(order="forward", threads=1)
    for way in checks.WAYS:
        assert bits(**way) == expected, way
    assert trained(3, seed=2)[0].checksums() != expected


def test_a_small_batch_after_a_large_one_is_clean():
    images, labels, crops = tiny.batch(NET, BATCH)
    used, fresh = (tiny.model(NET, BATCH, seed=1) for _ in range(2))
    used.forward_backward(images, labels, crops)
    used.pop_metrics()
    for model in (used, fresh):
        model.forward_backward(images[:2], labels[:2], crops[:2], step=1)
    assert used.pop_metrics() == fresh.pop_metrics()
    expected = fresh.gradients()
    for name, gradient in used.gradients().items():
        np.testing.assert_array_equal(gradient, expected[name], err_msg=name)


#: ReLUs whose outputs are read in every way; a layer's name says by what.
RELUS = Net(
    "relus",
    (3, 9, 8),
    (
        Conv(8, 3, pad=1, name="to_lrn"),
        LRN(size=3, k=1.0, alpha=0.5),
        Conv(8, 3, pad=1, name="to_pool"),
        MaxPool(3, 2),
        Conv(8, 3, pad=1, groups=2, name="to_conv"),
        Conv(8, 3, pad=1, name="to_conv_and_add"),
        Conv(8, 3, pad=1, name="to_add"),
        Add("relu", inputs=("to_conv_and_add", "to_add"), name="sum_to_conv"),
        Conv(8, 1, name="to_concat_twice"),
        Concat(inputs=("to_concat_twice", "to_concat_twice")),
        Linear(20, name="to_dropout"),
        Dropout(0.3),
        Linear(20, name="to_linear"),
        Linear(20, activation="tanh", name="tanh_to_linear"),
        Linear(3, activation="", name="logits"),
    ),
    Normalization(scale=1 / 64),
)


def test_the_reader_of_a_relu_masks_its_gradient(monkeypatch):
    """Gradients have the bits of a ReLU's own pass over them."""

    def trained(net):
        model = tiny.model(net, BATCH, seed=1)
        model.forward_backward(*tiny.batch(net, BATCH), seed=1)
        return model

    passes = []
    monkeypatch.setattr(
        "pyalexnet.ops.activation_backward",
        lambda dy, y, kind, out, own=device_ops.activation_backward: (
            passes.append(kind),
            own(dy, y, kind, out=out),
        ),
    )
    masking = trained(RELUS)
    buffers = dict(zip(RELUS.names, masking.parts[0].layers, strict=True))
    masked = [name for name, own in buffers.items() if own.dy_masked]
    expected = ["to_lrn", "to_pool", "to_conv", "sum_to_conv", "to_dropout", "to_linear"]
    assert masked == expected
    assert passes == ["tanh", "relu", "relu", "relu"]
    monkeypatch.setattr(device_net, "_masked", lambda net: [False] * (len(net.layers) + 1))
    gradients = trained(RELUS).gradients()
    for name, gradient in masking.gradients().items():
        assert np.count_nonzero(gradient) > 0, name
        np.testing.assert_array_equal(gradient, gradients[name], err_msg=name)


def test_a_layer_may_read_one_value_twice():
    """Σ over a and a, and a beside a: each gradient counts twice."""

    def model_of(*middle, **replaced):
        layers = (Conv(4, 1, name="a"), *middle, Linear(3, activation="", std=0.1, name="logits"))
        return tiny.model(Net("twice", (3, 4, 4), layers, Normalization(1 / 64)), 5, **replaced)

    batch = tiny.batch(Net("n", (3, 4, 4), (Linear(3, activation=""),)), 5)
    one, added, beside = (
        model_of(),
        model_of(Add(inputs=("a", "a"))),
        model_of(Concat(inputs=("a", "a"))),
    )
    state = one.state()
    weight = state["logits.weight"]
    added.load_state(state | {"logits.weight": weight / 2})
    beside.load_state(state | {"logits.weight": np.concatenate([weight / 2] * 2)})
    for model in (one, added, beside):
        model.forward_backward(*batch)
    for model in (added, beside):
        for name in ("a.weight", "a.bias", "logits.bias"):
            np.testing.assert_allclose(
                model.gradients()[name], one.gradients()[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.mark.host_only("computes nothing")
def test_two_towers_refuse_branches_by_the_layers_name():
    message = "net branched cannot be split, layer right: it reads trunk; expected a chain"
    with pytest.raises(NetError, match=message):
        Model(NET, target.PAIR, BATCH)
    net = Net(
        "skip",
        (3, 8, 8),
        (MaxPool(2, 2), Concat(inputs=("pool0", "pool0")), Linear(4, activation="")),
    )
    with pytest.raises(NetError, match="layer concat0: it reads pool0 and pool0"):
        Model(net, target.PAIR, BATCH)


def test_summary_lists_the_branches():
    rows = {line.split()[0]: line.split()[1] for line in Model(NET, target.NAME, 1)
            .summary().splitlines()}  # fmt: skip
    assert [rows[name] for name in ("trunk", "sum", "both", "again")] == [
        "8×4×3",
        "8×4×3",
        "12×4×3",
        "10×4×3",
    ]
