"""A net on a device: gradients against central differences, batches, bits, state, errors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from helpers import target
from helpers.target import DEVICE, assign, download
from pyalexnet import nets, ops
from pyalexnet.errors import CheckpointError, DataError
from pyalexnet.layers import KINDS, LRN, Conv, Dropout, Linear, MaxPool, ReLU, Tanh
from pyalexnet.model import Model
from pyalexnet.nets import Net

MULTIPLE = DEVICE.images_multiple

# Every kind of layer; both roundings, padding, groups, a stride that does not divide.
ALL_KINDS = Net(
    "all kinds",
    (3, 13, 12),
    (
        Conv(8, 4, stride=2, ceil=True, activation="tanh", bias=0.1),
        LRN(size=3, k=1.0, alpha=0.5, beta=0.75, groups=2),
        MaxPool(3, 2, ceil=True),
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
    scale=(1 / 50, 1 / 64, 1 / 80),
)
TINY = Net("tiny", (3, 8, 8), (Conv(8, 3), MaxPool(), Linear(16), Linear(4, activation="")), 1 / 64)
NO_MEAN = np.float32(120)


def make_batch(net, count, seed=0, stored=2):
    """Images larger than the net's input by `stored`, labels, crops, and fitting mean image."""
    rng = np.random.default_rng(seed)
    channels, height, width = net.input
    shape = (height + stored, width + stored, channels)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(0, net.classes, count).astype(np.int32)
    crops = np.stack([rng.integers(0, stored + 1, count)] * 2 + [rng.integers(0, 2, count)], 1)
    return images, labels, crops.astype(np.int32)


def make_model(net, batch, seed=0, stored=2):
    model = Model(net, target.NAME, batch, seed=seed)
    channels, height, width = net.input
    model.set_mean(np.full((height + stored, width + stored, channels), 120, np.float32))
    return model


def arenas(model):
    """Copies of the flat arrays of weights, gradients and momenta."""
    [tower] = model.towers
    return [download(arena.flat) for arena in (tower.weights, tower.gradients, tower.momenta)]


def descend(model, rate=0.05, momentum=0.9):
    [tower] = model.towers
    count = len(tower.weights.names)
    ops.sgd(
        tower.weights.flat,
        tower.gradients.flat,
        tower.momenta.flat,
        DEVICE.upload(tower.weights.starts),
        DEVICE.upload(np.full(count, rate, np.float32)),
        DEVICE.upload(np.zeros(count, np.float32)),
        momentum=momentum,
    )


@pytest.mark.host_only("computes nothing")
def test_all_kinds_are_in_the_net_of_this_file():
    assert {type(layer) for layer in ALL_KINDS.layers} == set(KINDS.values())


@pytest.mark.parametrize("name", list(ALL_KINDS.parameters()))
def test_gradients_are_central_differences(name):
    """(L(w + h d) - L(w - h d)) / 2h = g·d for directions d of length 1.

    The sum of losses, about 60, is exact to some 1e-6 in fp32, so a step h of 1e-3 gives slopes to
    1e-3; larger steps cross more kinks of ReLU and pooling. Slopes are 0.1 to 10.
    """
    count = 30
    model = make_model(ALL_KINDS, count, seed=1)
    batch = make_batch(ALL_KINDS, count, seed=2)
    settings = {"seed": 3, "step": 4, "first_image": 5, "global_batch": 1}  # the losses' sum
    model.train_step(*batch, **settings)
    model.take_totals()
    gradient = model.gradients_state()[name].astype(np.float64)
    before = model.state()[name]
    rng = np.random.default_rng(6)
    towards = gradient / np.linalg.norm(gradient)

    def loss(at):
        assign(model.towers[0].weights[name], at)
        model.train_step(*batch, **settings)
        return model.raw_totals()[0]

    for _ in range(3):
        aside = rng.normal(size=gradient.shape)
        direction = towards + aside / np.linalg.norm(aside)
        direction /= np.linalg.norm(direction)
        h = 1e-3
        slopes = []
        for sign in (1, -1):
            slopes.append(sign * loss(before + sign * h * direction) / (2 * h))
            model.set_raw_totals(np.zeros(4))
        expected = (gradient * direction).sum()
        assert expected > 0.1
        assert sum(slopes) == pytest.approx(expected, rel=3e-3, abs=3e-3)


def test_padded_images_change_no_bit():
    """A batch of 5 is as if the others were there and had no label."""
    images, labels, crops = make_batch(ALL_KINDS, MULTIPLE + 3)
    few = make_model(ALL_KINDS, MULTIPLE + 3)
    few.train_step(images[:5], labels[:5], crops[:5], seed=1, step=2)
    full = make_model(ALL_KINDS, MULTIPLE + 3)
    labels[5:] = -1
    full.train_step(images, labels, crops, seed=1, step=2, global_batch=5)
    assert few.take_totals() == full.take_totals()
    expected = full.gradients_state()
    for name, gradient in few.gradients_state().items():
        np.testing.assert_array_equal(gradient, expected[name], err_msg=name)
    np.testing.assert_array_equal(few.logits(images[:5], crops[:5]), full.logits(images, crops)[:5])


def test_a_small_batch_after_a_large_one_is_clean():
    images, labels, crops = make_batch(ALL_KINDS, MULTIPLE)
    used, fresh = make_model(ALL_KINDS, MULTIPLE), make_model(ALL_KINDS, MULTIPLE)
    used.train_step(images, labels, crops, seed=1, step=2)
    used.take_totals()
    for model in (used, fresh):
        model.train_step(images[:3], labels[:3], crops[:3], seed=1, step=3)
    assert used.take_totals() == fresh.take_totals()
    np.testing.assert_array_equal(arenas(used)[1], arenas(fresh)[1])


def test_the_largest_batch_does_not_matter():
    batch = make_batch(ALL_KINDS, 5)
    small, large = make_model(ALL_KINDS, 5), make_model(ALL_KINDS, 3 * MULTIPLE + 1)
    for model in (small, large):
        model.train_step(*batch, seed=1, step=2)
    others = large.gradients_state()
    for name, gradient in small.gradients_state().items():
        np.testing.assert_allclose(
            gradient, others[name], rtol=1e-4, atol=1e-5 * abs(gradient).max(), err_msg=name
        )


def test_parts_of_a_global_batch_add_up():
    """Halves of a batch, as replicas see them: their gradients sum to the whole's, with dropout."""
    images, labels, crops = make_batch(ALL_KINDS, 2 * MULTIPLE)
    whole, half = make_model(ALL_KINDS, 2 * MULTIPLE), make_model(ALL_KINDS, MULTIPLE)
    whole.train_step(images, labels, crops, seed=1, step=2)
    total = {name: np.zeros_like(gradient) for name, gradient in half.gradients_state().items()}
    for first in (0, MULTIPLE):
        part = slice(first, first + MULTIPLE)
        half.train_step(
            images[part],
            labels[part],
            crops[part],
            seed=1,
            step=2,
            first_image=first,
            global_batch=2 * MULTIPLE,
        )
        for name, gradient in half.gradients_state().items():
            total[name] += gradient
    for name, expected in whole.gradients_state().items():
        np.testing.assert_allclose(
            total[name], expected, rtol=1e-4, atol=1e-5 * abs(expected).max(), err_msg=name
        )


def test_one_batch_is_learnt_by_heart():
    images, labels, crops = make_batch(TINY, 16)
    model = make_model(TINY, 16)
    for step in range(120):
        model.train_step(images, labels, crops, seed=0, step=step)
        descend(model, rate=0.01)
    model.take_totals()
    model.eval_step(images, labels, crops)
    totals = model.take_totals()
    assert (totals.top1, totals.images) == (0, 16)
    assert totals.loss < 0.05


def test_small_learns_from_the_start():
    """Its initial weights neither stall nor blow up: one batch, by heart in a few steps."""
    net = nets.small(input=(1, 28, 28))
    batch = make_batch(net, 16, stored=0)
    model = make_model(net, 16, stored=0)
    model.eval_step(*batch)
    assert model.take_totals().loss < 2 * math.log(10)
    images, steps = (4, 20) if target.EMULATED else (16, 40)
    batch, model = [array[:images] for array in batch], make_model(net, images, stored=0)
    for step in range(steps):
        model.train_step(*batch, seed=0, step=step)
        descend(model, rate=0.005)
    model.take_totals()
    model.eval_step(*batch)
    assert model.take_totals().loss < 0.5


def test_same_seed_same_bits():
    batch = make_batch(ALL_KINDS, 9)

    def train(init, seed):
        model = make_model(ALL_KINDS, 9, seed=init)
        for step in range(3):
            model.train_step(*batch, seed=seed, step=step)
            descend(model)
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
    model.set_mean(mean)
    scale = np.array(net.scale, np.float32)
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
        zero.set_mean(np.zeros(images.shape[1:], np.float32))
        np.testing.assert_array_equal(model.logits(images, crops), zero.logits(images, crops))


def test_probabilities_are_the_softmax_of_logits_in_test_mode():
    images, _, crops = make_batch(ALL_KINDS, 7)
    model = make_model(ALL_KINDS, 9)
    logits = model.logits(images, crops).astype(np.float64)
    probabilities = model.probabilities(images, crops)
    assert probabilities.shape == (7, 7) and probabilities.dtype == np.float32
    powers = np.exp(logits)
    np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(probabilities, model.probabilities(images, crops))
    assert model.take_totals().images == 0


def test_totals_count_errors_and_images():
    images, labels, crops = make_batch(ALL_KINDS, 9)
    model = make_model(ALL_KINDS, 9)
    probabilities = model.probabilities(images, crops).astype(np.float64)
    labels[4] = -1
    seen = labels >= 0
    places = (-probabilities).argsort(1).argsort(1)[np.arange(9), labels][seen]
    model.eval_step(images, labels, crops)
    model.eval_step(images[: 0 + 1], labels[:1], crops[:1])
    raw = model.raw_totals()
    totals = model.take_totals()
    again = 10 - 1
    losses = -np.log(probabilities[np.arange(9), labels])
    assert totals.images == raw[3] == again
    assert totals.loss == pytest.approx((losses[seen].sum() + losses[0]) / again, rel=1e-5)
    assert totals.top1 == pytest.approx(((places >= 1).sum() + (places[0] >= 1)) / again)
    assert totals.top5 == pytest.approx(((places >= 5).sum() + (places[0] >= 5)) / again)
    nothing = model.take_totals()
    assert nothing.images == 0 and math.isnan(nothing.loss)
    model.set_raw_totals(raw)
    assert model.take_totals() == totals


def test_top5_of_fewer_classes_is_all_of_them():
    images, labels, crops = make_batch(TINY, 8)
    model = make_model(TINY, 8)
    model.eval_step(images, labels, crops)
    assert model.take_totals().top5 == 0


def test_evaluation_changes_nothing():
    images, labels, crops = make_batch(ALL_KINDS, 4)
    model = make_model(ALL_KINDS, 4)
    model.train_step(images, labels, crops, seed=0, step=0)
    before = arenas(model)
    model.eval_step(images, labels, crops)
    model.probabilities(images, crops)
    for old, new in zip(before, arenas(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_arenas():
    model = Model(TINY, target.NAME, 1)
    parameters = TINY.parameters()
    assert model.towers[0].weights.names == tuple(parameters)
    for arena in (model.towers[0].weights, model.towers[0].gradients, model.towers[0].momenta):
        assert (arena.starts % 64 == 0).all() and arena.starts[-1] == len(arena.flat)
        assign(arena.flat, 0)
        for index, (name, parameter) in enumerate(parameters.items()):
            assert arena[name].shape == parameter.shape
            assign(arena[name], index + 1)
            segment = download(arena.flat)[arena.starts[index] : arena.starts[index + 1]]
            assert (segment[: parameter.size] == index + 1).all()
            assert not segment[parameter.size :].any()


def test_state_goes_into_another_model():
    batch = make_batch(TINY, 6)
    model, other = make_model(TINY, 6, seed=1), make_model(TINY, 6, seed=2)
    model.train_step(*batch, seed=0, step=0)
    descend(model)
    state, momenta = model.state(), model.momenta_state()
    other.load_state(state)
    other.load_momenta(momenta)
    for m in (model, other):
        m.train_step(*batch, seed=0, step=1)
        descend(m)
    np.testing.assert_array_equal(arenas(model)[0], arenas(other)[0])
    assert (state["fc2.weight"] != model.state()["fc2.weight"]).any()  # it was a copy


@pytest.mark.parametrize("which", ["state", "momenta"])
def test_a_wrong_state_changes_nothing(which):
    model = Model(TINY, target.NAME, 1)
    load = model.load_state if which == "state" else model.load_momenta
    arena = model.towers[0].weights if which == "state" else model.towers[0].momenta
    good = {name: np.full(view.shape, 7, np.float32) for name, view in arena.items()}
    before = download(arena.flat)
    for wrong, message in [
        ({n: t for n, t in good.items() if n != "fc3.bias"}, "fc3.bias is missing; net tiny"),
        (good | {"fc3.bias": np.zeros(5, np.float32)}, r"fc3.bias is \(5,\), net tiny .* \(4,\)"),
        (good | {"fc4.bias": np.zeros(5, np.float32)}, "fc4.bias: net tiny has no such"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load(wrong)
        np.testing.assert_array_equal(download(arena.flat), before)
    load(good)
    assert (download(arena["conv1.weight"]) == 7).all()


def test_magnitudes():
    model = Model(TINY, target.NAME, 1)
    assign(model.towers[0].weights["fc2.bias"], np.resize([1, -3], 16))
    assign(model.towers[0].momenta["fc2.bias"], np.resize([-0.5, 0.25], 16))
    magnitudes = model.magnitudes()
    assert magnitudes["fc2.bias"] == (2, 0.375)
    assert list(magnitudes) == list(TINY.parameters())
    assert magnitudes["fc3.weight"][1] == 0


def test_summary_lists_layers_and_totals():
    lines = Model(nets.small(), target.NAME, 2).summary().splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    kept = 4 * DEVICE.pad_images(2) / 1e6  # MB of a number for each image
    assert rows["input"] == ["3×32×32", f"{3 * 32 * 32 * kept:.1f}"]
    assert rows["conv1"] == ["24×32×32", "1,824", "3.7", f"{24 * 32 * 32 * kept:.1f}"]
    assert rows["pool1"] == ["24×15×15", f"{24 * 15 * 15 * 1.5 * kept:.1f}"]  # and the places
    total = sum(parameter.size for parameter in nets.small().parameters().values())
    assert rows["total"][0] == f"{total:,}"
    assert f"small on {target.NAME}" in lines[0]


def test_wrong_batches():
    images, labels, crops = make_batch(TINY, 4)
    model = make_model(TINY, 4)
    before = arenas(model)
    for arguments, error, message in [
        ((images[..., :1], labels, crops), DataError, "1 channels, net tiny reads 3"),
        ((images[:, 1:], labels, crops), DataError, r"mean image is \(10, 10, 3\).*\(9, 10, 3\)"),
        ((images, labels + 4, crops), DataError, "net tiny has 4 classes: expected 0 to 3"),
        ((images, labels - 5, crops), DataError, "or -1 for none"),
        ((images, labels[:3], crops), ValueError, "labels: 3 for 4 images"),
        ((images, labels, crops[:3]), ValueError, r"\(3, 3\); expected \(4, 3\)"),
        ((images.astype(np.float32), labels, crops), ValueError, "expected uint8"),
        ((images[0], labels, crops), ValueError, r"expected uint8 \(B, H, W, C\)"),
        ((images[:0], labels[:0], crops[:0]), ValueError, "images: 0, expected 1 to"),
        (make_batch(TINY, 5), ValueError, "images: 5, expected 1 to the model's batch, 4"),
    ]:
        with pytest.raises(error, match=message):
            model.train_step(*arguments, seed=0, step=0)
        assert not model.raw_totals().any()
    for old, new in zip(before, arenas(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_below_the_first_weights_get_no_gradient():
    """A net may begin with layers that have no parameters."""
    net = Net("a", (2, 9, 9), (MaxPool(), ReLU(), Conv(3, 3), Linear(3, activation="")), 1 / 64)
    batch = make_batch(net, 5)
    model = make_model(net, 5)
    first = None
    for step in range(30):
        model.train_step(*batch, seed=0, step=step)
        descend(model, rate=0.02)
        loss = model.take_totals().loss
        first = first or loss
    assert loss < first / 2
