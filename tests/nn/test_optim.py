"""SGD: its formula, its state, its checksums and statistics."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import assign, download
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.model import Model
from pyalexnet.nn.optim import SGD


def momentum_of(sgd: SGD) -> dict[str, np.ndarray]:
    """Returns v by the parameters' names."""
    return {name.removeprefix("momentum."): v for name, v in sgd.state().items()}


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_sgd_follows_the_papers_formula(rng: np.random.Generator, factor: float) -> None:
    model = Model(tiny.NET, target.NAME, 1)
    sgd = SGD(model, lr=0.03, bias_lr=0.05, momentum=0.8, weight_decay=0.3)
    [part], shapes = model.parts, {n: p.shape for n, p in tiny.NET.parameters().items()}
    model.load_state({name: rng.normal(size=shape) for name, shape in shapes.items()})
    sgd.load_state({f"momentum.{name}": rng.normal(size=shape) for name, shape in shapes.items()})
    for name, shape in shapes.items():
        assign(part.gradients[name], rng.normal(size=shape))
    gradients = {name: g.astype(np.float64) for name, g in model.gradients().items()}
    before, v = model.state(), momentum_of(sgd)

    sgd.factor = factor
    sgd.step()

    after, changes = model.state(), momentum_of(sgd)
    for name in shapes:
        rate, decay = (0.05, 0.0) if name.endswith(".bias") else (0.03, 0.3)
        rate *= factor
        expected = 0.8 * v[name] - decay * rate * before[name] - rate * gradients[name]
        np.testing.assert_allclose(changes[name], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(after[name], before[name] + expected, rtol=0, atol=1e-6)


def test_default_rates_are_those_of_the_paper() -> None:
    sgd = SGD(Model(tiny.NET, target.NAME, 1))
    assert (sgd.lr, sgd.bias_lr, sgd.momentum, sgd.factor) == (0.01, 0.02, 0.9, 1.0)
    assert all(not v.any() for v in sgd.state().values())


@pytest.mark.parametrize("devices", [target.NAME, target.PAIR])
def test_state_continues_in_another_optimiser(devices: str) -> None:
    batch = tiny.batch(tiny.NET, 6)
    models = [tiny.model(tiny.NET, 6, seed, devices=devices) for seed in (1, 2)]
    first, second = (SGD(model, lr=0.05) for model in models)
    models[0].forward_backward(*batch)
    first.step()
    state = first.state()
    assert list(state) == [f"momentum.{name}" for name in tiny.NET.parameters()]
    models[1].load_state(models[0].state())
    second.load_state(state)
    for model, sgd in zip(models, (first, second), strict=True):
        model.forward_backward(*batch, step=1)
        sgd.step()
    assert models[0].checksums() == models[1].checksums()
    assert first.checksums() == second.checksums()
    changed = first.state()["momentum.fc2.weight"]
    assert (state["momentum.fc2.weight"] != changed).any()  # `state` was a copy


def test_a_wrong_state_changes_nothing() -> None:
    sgd = SGD(Model(tiny.NET, target.NAME, 1))
    good = {name: np.full(v.shape, 7, np.float32) for name, v in sgd.state().items()}
    last, last_shape = "momentum.fc3.bias", np.zeros(5, np.float32)
    for wrong, message in [
        (
            {name: v for name, v in good.items() if name != last},
            "tensor momentum.fc3.bias is missing; SGD of net tiny needs it",
        ),
        (
            good | {last: last_shape},
            r"fc3.bias is \(5,\); SGD of net tiny expected \(3,\)",
        ),
        (
            good | {"momentum.fc4.bias": last_shape},
            "fc4.bias is unknown; SGD of net tiny has no such tensor",
        ),
        (
            {name.removeprefix("momentum."): v for name, v in good.items()},
            "tensor momentum.conv1.weight is missing",
        ),
    ]:
        with pytest.raises(CheckpointError, match=message):
            sgd.load_state(wrong)
        assert not any(v.any() for v in sgd.state().values())
    sgd.load_state(good)
    assert (sgd.state()["momentum.conv1.weight"] == 7).all()


@pytest.mark.parametrize("devices", [target.NAME, target.PAIR])
def test_checksums_and_sizes_are_those_of_the_momentum(devices: str) -> None:
    model = Model(tiny.NET, devices, 1)
    sgd = SGD(model)
    before = sgd.checksums()
    for part, checksum in zip(model.parts, before, strict=True):
        assert sgd.state_bytes(part) == part.weights.flat.nbytes
        assert checksum == zlib.crc32(bytes(part.weights.flat.nbytes))
    weights = model.checksums()
    assert weights == [zlib.crc32(download(part.weights.flat).tobytes()) for part in model.parts]
    sgd.load_state({name: v + 1 for name, v in sgd.state().items()})
    assert all(old != new for old, new in zip(before, sgd.checksums(), strict=True))
    assert model.checksums() == weights


def test_weight_stats_are_mean_magnitudes() -> None:
    model = Model(tiny.NET, target.NAME, 1)
    sgd = SGD(model)
    name = "fc2.bias"
    model.load_state(model.state() | {name: np.resize(np.float32([1, -3]), 16)})
    momentum = {f"momentum.{name}": np.resize(np.float32([-0.5, 0.25]), 16)}
    sgd.load_state(sgd.state() | momentum)
    stats = sgd.weight_stats()
    assert stats[name] == (2, 0.375)
    assert list(stats) == list(tiny.NET.parameters())
    assert stats["fc3.weight"][1] == 0


def test_one_batch_is_memorised(rng: np.random.Generator) -> None:
    model = Model(tiny.NET, target.NAME, 8, seed=1)
    sgd = SGD(model)
    images = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    labels = (np.arange(8) % 3).astype(np.int32)
    crops = np.zeros((8, 3), np.int32)
    model.set_mean_image(images.mean(axis=0).astype(np.float32))
    for step in range(200):
        model.forward_backward(images, labels, crops, seed=0, step=step)
        sgd.step()
    model.pop_metrics()
    model.evaluate(images, labels, crops)
    totals = model.pop_metrics()
    assert totals.top1_error == 0
    assert totals.loss < 0.02


@pytest.mark.parametrize("name", ["lr", "bias_lr", "momentum", "weight_decay"])
@pytest.mark.parametrize("value", [1e-50, 1e39, 10**400, float("nan"), float("-inf")])
def test_numbers_are_those_of_float32(name, value):
    model = Model(tiny.NET, target.NAME, 2)
    with pytest.raises(UserError, match=f"^{name} is .*; expected a number that float32 holds$"):
        SGD(model, **{name: value})
