"""A net on a device: gradients against central differences, batches, bits, state, errors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import DEVICE, assign, download
from pyalexnet.errors import CheckpointError, DataError, NetError
from pyalexnet.model import Model, Totals
from pyalexnet.nn import zoo
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.nn.layers import KINDS, LRN, Conv, Dropout, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD

MULTIPLE = DEVICE.images_multiple

# Every kind of layer of a chain; both roundings, padding, groups, a stride that does not divide.
ALL_KINDS = Net(
    "all kinds",
    (3, 13, 12),
    (
        Conv(8, 4, stride=2, ceil_mode=True, activation="tanh", bias=0.1),
        LRN(size=3, k=1.0, alpha=0.5, beta=0.75, groups=2),
        MaxPool(3, 2, ceil_mode=True),
        Conv(6, 3, pad=1, groups=2, activation=""),
        Tanh(),
        LRN(k=2.0, alpha=0.3),
        MaxPool(2, 2, pad=1),
        Conv(8, 3, pad=1, activation="", bias=0.2),
        ReLU(),
        Linear(20, bias=0.3),
        Dropout(0.3, inverted=True),
        Linear(12, activation="tanh"),
        Dropout(0.4),
        Linear(7, activation=""),
    ),
    Normalization(scale=(1 / 50, 1 / 64, 1 / 80)),
)
TINY = Net(
    "tiny",
    (3, 8, 8),
    (Conv(8, 3), MaxPool(), Linear(16), Linear(4, activation="")),
    Normalization(scale=1 / 64),
)

make_batch, make_model = tiny.batch, tiny.model


def arenas(model):
    """Copies the flat arrays of weights and gradients."""
    [part] = model.parts
    return [download(arena.flat) for arena in (part.weights, part.gradients)]


def optimiser(model, lr=0.05):
    """Returns SGD with one learning rate and no decay."""
    return SGD(model, lr=lr, bias_lr=lr, weight_decay=0)


@pytest.mark.host_only("computes nothing")
def test_the_nets_of_this_file_have_all_kinds_of_layers():
    layers = ALL_KINDS.layers + tiny.BRANCHED.layers
    assert {type(layer) for layer in layers} == set(KINDS.values())


@pytest.mark.parametrize(
    ("net", "name"),
    [(net, name) for net in (ALL_KINDS, tiny.BRANCHED) for name in net.parameters()],
    ids=lambda value: getattr(value, "name", value),
)
def test_gradients_are_central_differences(net, name):
    """(L(w + h d) - L(w - h d)) / 2h = g·d for directions d of length 1.

    The sum of losses, about 60, is exact to some 1e-6 in fp32, so a step h of 1e-3 gives slopes to
    1e-3; larger steps cross more kinks of ReLU and pooling. Slopes are 0.1 to 10.
    """
    # The other net has more kinks, which matter less with fewer images.
    count = 30 if net is ALL_KINDS else 10
    model = make_model(net, count, seed=1)
    batch = make_batch(net, count, seed=2)
    settings = {"seed": 3, "step": 4, "first_image": 5, "global_batch": 1}  # the losses' sum
    model.forward_backward(*batch, **settings)
    model.pop_metrics()
    gradient = model.gradients()[name].astype(np.float64)
    before = model.state()[name]
    rng = np.random.default_rng(6)
    towards = gradient / np.linalg.norm(gradient)

    def loss(at):
        assign(model.parts[0].weights[name], at)
        model.forward_backward(*batch, **settings)
        return model.totals().loss

    for _ in range(3):
        aside = rng.normal(size=gradient.shape)
        direction = towards + aside / np.linalg.norm(aside)
        direction /= np.linalg.norm(direction)
        h = 1e-3
        slopes = []
        for sign in (1, -1):
            slopes.append(sign * loss(before + sign * h * direction) / (2 * h))
            model.set_totals(Totals())
        expected = (gradient * direction).sum()
        assert expected > 0.1
        assert sum(slopes) == pytest.approx(expected, rel=3e-3, abs=3e-3)


def test_padded_images_change_no_bit():
    """Padding acts like images without a label."""
    images, labels, crops = make_batch(ALL_KINDS, MULTIPLE + 3)
    few = make_model(ALL_KINDS, MULTIPLE + 3)
    few.forward_backward(images[:5], labels[:5], crops[:5], seed=1, step=2)
    full = make_model(ALL_KINDS, MULTIPLE + 3)
    labels[5:] = -1
    full.forward_backward(images, labels, crops, seed=1, step=2, global_batch=5)
    assert few.pop_metrics() == full.pop_metrics()
    expected = full.gradients()
    for name, gradient in few.gradients().items():
        np.testing.assert_array_equal(gradient, expected[name], err_msg=name)
    np.testing.assert_array_equal(few.logits(images[:5], crops[:5]), full.logits(images, crops)[:5])


def test_a_small_batch_after_a_large_one_is_clean():
    images, labels, crops = make_batch(ALL_KINDS, MULTIPLE)
    used, fresh = make_model(ALL_KINDS, MULTIPLE), make_model(ALL_KINDS, MULTIPLE)
    used.forward_backward(images, labels, crops, seed=1, step=2)
    used.pop_metrics()
    for model in (used, fresh):
        model.forward_backward(images[:3], labels[:3], crops[:3], seed=1, step=3)
    assert used.pop_metrics() == fresh.pop_metrics()
    np.testing.assert_array_equal(arenas(used)[1], arenas(fresh)[1])


def test_the_largest_batch_does_not_matter():
    batch = make_batch(ALL_KINDS, 5)
    small, large = make_model(ALL_KINDS, 5), make_model(ALL_KINDS, 3 * MULTIPLE + 1)
    for model in (small, large):
        model.forward_backward(*batch, seed=1, step=2)
    others = large.gradients()
    for name, gradient in small.gradients().items():
        np.testing.assert_allclose(
            gradient, others[name], rtol=1e-4, atol=1e-5 * abs(gradient).max(), err_msg=name
        )


def test_parts_of_a_global_batch_add_up():
    """The gradients of two halves of a batch sum to those of the batch, with dropout."""
    images, labels, crops = make_batch(ALL_KINDS, 2 * MULTIPLE)
    whole, half = make_model(ALL_KINDS, 2 * MULTIPLE), make_model(ALL_KINDS, MULTIPLE)
    whole.forward_backward(images, labels, crops, seed=1, step=2)
    total = {name: np.zeros_like(gradient) for name, gradient in half.gradients().items()}
    for first in (0, MULTIPLE):
        part = slice(first, first + MULTIPLE)
        half.forward_backward(
            images[part],
            labels[part],
            crops[part],
            seed=1,
            step=2,
            first_image=first,
            global_batch=2 * MULTIPLE,
        )
        for name, gradient in half.gradients().items():
            total[name] += gradient
    for name, expected in whole.gradients().items():
        np.testing.assert_allclose(
            total[name], expected, rtol=1e-4, atol=1e-5 * abs(expected).max(), err_msg=name
        )


def test_one_batch_is_memorised():
    images, labels, crops = make_batch(TINY, 16)
    model = make_model(TINY, 16)
    sgd = optimiser(model, lr=0.01)
    for step in range(120):
        model.forward_backward(images, labels, crops, seed=0, step=step)
        sgd.step()
    model.pop_metrics()
    model.evaluate(images, labels, crops)
    totals = model.pop_metrics()
    assert (totals.top1_error, totals.images) == (0, 16)
    assert totals.loss < 0.05


def test_small_learns_from_the_start():
    """Its initial weights neither stall nor diverge: it memorises a batch in a few steps."""
    net = zoo.small(input=(1, 28, 28))
    batch = make_batch(net, 16, stored=0)
    model = make_model(net, 16, stored=0)
    model.evaluate(*batch)
    assert model.pop_metrics().loss < 2 * math.log(10)
    images, steps = (4, 20) if target.EMULATED else (16, 40)
    batch, model = [array[:images] for array in batch], make_model(net, images, stored=0)
    sgd = optimiser(model, lr=0.005)
    for step in range(steps):
        model.forward_backward(*batch, seed=0, step=step)
        sgd.step()
    model.pop_metrics()
    model.evaluate(*batch)
    assert model.pop_metrics().loss < 0.5


def test_same_seed_same_bits():
    batch = make_batch(ALL_KINDS, 9)

    def train(init, seed):
        model = make_model(ALL_KINDS, 9, seed=init)
        sgd = optimiser(model)
        for step in range(3):
            model.forward_backward(*batch, seed=seed, step=step)
            sgd.step()
        return arenas(model)[0]

    first = train(1, 2)
    np.testing.assert_array_equal(first, train(1, 2))
    assert (first != train(1, 3)).mean() > 0.5  # dropout
    assert (first != train(2, 2)).mean() > 0.5  # initial weights


def test_initial_weights():
    net = Net("a", (3, 40, 40), (Linear(50, bias=0.5, std=0.02), Linear(9, activation="")))
    weights = Model(net, target.NAME, 1, seed=-1).state()
    first = weights["fc1.weight"]
    assert first.mean() == pytest.approx(0, abs=4 * 0.02 / math.sqrt(first.size))
    assert first.std() == pytest.approx(0.02, rel=0.01)
    assert (weights["fc1.bias"] == 0.5).all() and (weights["fc2.bias"] == 0).all()
    assert weights["fc2.weight"].std() == pytest.approx(math.sqrt(2 / 50), rel=0.15)
    scaled = weights["fc2.weight"].ravel() / math.sqrt(2 / 50)
    assert abs(np.corrcoef(scaled, first.ravel()[: scaled.size])[0, 1]) < 0.2


def test_the_input_is_cropped_mirrored_less_the_mean_and_scaled():
    images, _, crops = make_batch(ALL_KINDS, 5)
    mean = np.random.default_rng(1).uniform(0, 255, images.shape[1:]).astype(np.float32)
    last = Linear(4, activation="", std=1.0)
    net = dataclasses.replace(ALL_KINDS, layers=(last,))
    model = Model(net, target.NAME, 5)
    model.set_mean_image(mean)
    scale = np.array(net.normalization.scale, np.float32)
    x = []
    for image, (row, column, mirror) in zip(images, crops, strict=True):
        crop = ((image - mean) * scale)[row : row + 13, column : column + 12]
        x.append((crop[:, ::-1] if mirror else crop).transpose(2, 0, 1).ravel())
    expected = np.array(x, np.float64) @ model.state()["fc1.weight"]
    np.testing.assert_allclose(model.logits(images, crops), expected, rtol=1e-4, atol=1e-3)


def test_without_a_mean_nothing_is_subtracted_and_sizes_may_change():
    model = Model(TINY, target.NAME, 4)
    zero = Model(TINY, target.NAME, 4)
    for stored in (0, 3, 1):
        images, _, crops = make_batch(TINY, 4, stored=stored)
        zero.set_mean_image(np.zeros(images.shape[1:], np.float32))
        np.testing.assert_array_equal(model.logits(images, crops), zero.logits(images, crops))


def test_predictions_are_the_softmax_of_logits_in_test_mode():
    images, _, crops = make_batch(ALL_KINDS, 7)
    model = make_model(ALL_KINDS, 9)
    logits = model.logits(images, crops).astype(np.float64)
    probabilities = model.predict(images, crops)
    assert probabilities.shape == (7, 7) and probabilities.dtype == np.float32
    powers = np.exp(logits)
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(probabilities, model.predict(images, crops))
    assert model.pop_metrics().images == 0


def test_totals_count_errors_and_images():
    images, labels, crops = make_batch(ALL_KINDS, 9)
    model = make_model(ALL_KINDS, 9)
    probabilities = model.predict(images, crops).astype(np.float64)
    labels[4] = -1
    seen = labels >= 0
    places = (-probabilities).argsort(1).argsort(1)[np.arange(9), labels][seen]
    model.evaluate(images, labels, crops)
    model.evaluate(images[:1], labels[:1], crops[:1])
    raw = model.totals()
    totals = model.pop_metrics()
    again = 10 - 1
    losses = -np.log(probabilities[np.arange(9), labels])
    assert totals.images == raw.images == again
    assert totals == raw.metrics()
    assert totals.loss == pytest.approx((losses[seen].sum() + losses[0]) / again, rel=1e-5)
    assert totals.top1_error == pytest.approx(((places >= 1).sum() + (places[0] >= 1)) / again)
    assert totals.top5_error == pytest.approx(((places >= 5).sum() + (places[0] >= 5)) / again)
    nothing = model.pop_metrics()
    assert nothing.images == 0 and math.isnan(nothing.loss)
    model.set_totals(raw)
    assert model.pop_metrics() == totals


def test_top5_of_fewer_classes_is_all_of_them():
    images, labels, crops = make_batch(TINY, 8)
    model = make_model(TINY, 8)
    model.evaluate(images, labels, crops)
    assert model.pop_metrics().top5_error == 0


def test_evaluation_changes_nothing():
    images, labels, crops = make_batch(ALL_KINDS, 4)
    model = make_model(ALL_KINDS, 4)
    model.forward_backward(images, labels, crops, seed=0, step=0)
    before = arenas(model)
    model.evaluate(images, labels, crops)
    model.predict(images, crops)
    for old, new in zip(before, arenas(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_state_continues_in_another_model():
    batch = make_batch(TINY, 6)
    model, other = make_model(TINY, 6, seed=1), make_model(TINY, 6, seed=2)
    state = model.state()
    other.load_state(state)
    for m in (model, other):
        m.forward_backward(*batch)
        optimiser(m).step()
    np.testing.assert_array_equal(arenas(model)[0], arenas(other)[0])
    assert model.checksums() == other.checksums()
    assert (state["fc2.weight"] != model.state()["fc2.weight"]).any()  # it was a copy


def test_a_wrong_state_changes_nothing():
    model = Model(TINY, target.NAME, 1)
    arena = model.parts[0].weights
    good = {name: np.full(view.shape, 7, np.float32) for name, view in arena.items()}
    before = download(arena.flat)
    for wrong, message in [
        (
            {n: t for n, t in good.items() if n != "fc3.bias"},
            "tensor fc3.bias is missing; net tiny needs it",
        ),
        (
            good | {"fc3.bias": np.zeros(5, np.float32)},
            r"tensor fc3.bias is \(5,\); net tiny expected \(4,\)",
        ),
        (
            good | {"fc4.bias": np.zeros(5, np.float32)},
            "tensor fc4.bias is unknown; net tiny has no such tensor",
        ),
    ]:
        with pytest.raises(CheckpointError, match=message):
            model.load_state(wrong)
        np.testing.assert_array_equal(download(arena.flat), before)
    model.load_state(good)
    assert (download(arena["conv1.weight"]) == 7).all()


@pytest.mark.host_only("a GPU's filters are not transformed")
def test_transformed_filters_follow_the_weights(monkeypatch):
    monkeypatch.setenv("PYALEXNET_CONV", "winograd")
    model, same, other = (Model(TINY, target.NAME, 8, seed=seed) for seed in (1, 1, 2))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 8, 8, 3), np.uint8)
    labels = rng.integers(0, 4, 8).astype(np.int32)
    [part], fresh = model.parts, same.predict(images)

    assert part.layers[0].weight_transform is not None
    few = same.predict(images[:1])  # transforms no filters
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(images[:1]), few)
        assert part.layers[0].transformed_version == -1
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(images), fresh)
        assert part.layers[0].transformed_version == part.weights.version

    model.load_state(other.state())
    np.testing.assert_array_equal(model.predict(images), other.predict(images))

    model.forward_backward(images, labels)
    SGD(model).step()
    other.load_state(model.state())
    np.testing.assert_array_equal(model.predict(images), other.predict(images))


def test_summary_lists_layers_and_totals():
    lines = Model(zoo.small(), target.NAME, 2).summary().splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    kept = 4 * DEVICE.pad_images(2) / 1e6  # MB of a number for each image
    assert rows["input"] == ["3×32×32", f"{3 * 32 * 32 * kept:.1f}"]
    assert rows["conv1"] == ["24×32×32", "1,824", "3.7", f"{24 * 32 * 32 * kept:.1f}", "direct"]
    assert rows["pool1"] == ["24×15×15", f"{24 * 15 * 15 * 1.5 * kept:.1f}"]  # and the places
    total = sum(parameter.size for parameter in zoo.small().parameters().values())
    assert rows["total"][0] == f"{total:,}"
    assert f"small on {target.NAME}" in lines[0]


def test_summary_counts_the_optimisers_memory():
    model = Model(TINY, target.NAME, 2)
    size = model.parts[0].weights.flat.nbytes
    assert f"weights and gradients: {2 * size / 1e6:.1f} MB" in model.summary()
    assert f"weights, gradients and momenta: {3 * size / 1e6:.1f} MB" in model.summary(SGD(model))


def test_wrong_batches():
    images, labels, crops = make_batch(TINY, 4)
    model = make_model(TINY, 4)
    before = arenas(model)
    for arguments, error, message in [
        (
            (images[..., :1], labels, crops),
            DataError,
            "images have 1 channels; net tiny exp",
        ),
        ((images[:, 1:], labels, crops), DataError, r"mean image is \(10, 10, 3\).*\(9, 10, 3\)"),
        (
            (images, labels + 4, crops),
            DataError,
            "labels are from .*; net tiny expected 0 to 3",
        ),
        ((images, labels - 5, crops), DataError, "or -1 for none"),
        ((images, labels[:3], crops), ValueError, "labels are 3; expected 4, one for each"),
        ((images, labels, crops[:3]), ValueError, r"\(3, 3\); expected \(4, 3\)"),
        ((images.astype(np.float32), labels, crops), ValueError, "expected uint8"),
        ((images[0], labels, crops), ValueError, r"expected uint8 \(N, H, W, C\)"),
        ((images[:0], labels[:0], crops[:0]), ValueError, "images are 0; expected 1 to"),
        (make_batch(TINY, 5), ValueError, "images are 5; expected 1 to batch_size, 4"),
    ]:
        with pytest.raises(error, match=message):
            model.forward_backward(*arguments, seed=0, step=0)
        assert model.totals() == Totals()
    for old, new in zip(before, arenas(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_below_the_first_weights_get_no_gradient():
    """A net may begin with layers that have no parameters."""
    layers = MaxPool(), ReLU(), Conv(3, 3), Linear(3, activation="")
    net = Net("a", (2, 9, 9), layers, Normalization(scale=1 / 64))
    batch = make_batch(net, 5)
    model = make_model(net, 5)
    sgd = optimiser(model, lr=0.02)
    first = None
    for step in range(30):
        model.forward_backward(*batch, seed=0, step=step)
        sgd.step()
        loss = model.pop_metrics().loss
        first = first or loss
    assert loss < first / 2


def test_a_batch_that_the_kernels_cannot_count_names_the_layer():
    part = object.__new__(DeviceNet)
    part.net, part.device, part.images = tiny.NET, DEVICE, 2**26
    message = "net tiny, layer conv1: a batch of 67108864 images is too large: conv: P Q N is 8 x 8"
    with pytest.raises(NetError, match=message):
        part._floats("workspace", 0)


@pytest.mark.skipif(target.EMULATED, reason="takes the emulator minutes")
def test_more_maps_than_a_grid_has_rows():
    layers = (Conv(70_000, 1), LRN(), MaxPool(2, 1), Dropout(), Linear(2, activation=""))
    model = Model(Net("wide", (1, 3, 3), layers), target.NAME, 1)
    before = model.state()
    images, labels = np.full((1, 3, 3, 1), 99, np.uint8), np.zeros(1, np.int32)
    model.forward_backward(images, labels, np.zeros((1, 3), np.int32), seed=0, step=0)
    SGD(model, lr=1e-3).step()
    for name, weights in model.state().items():
        assert np.isfinite(weights).all()
        assert (weights[..., -9:] != before[name][..., -9:]).any(), name
