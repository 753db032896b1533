"""SGD against its formula; schedules."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import target, tiny
from helpers.target import assign
from pyalexnet.errors import UserError
from pyalexnet.model import Model
from pyalexnet.optim import SGD, schedule


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_sgd_follows_the_papers_formula(rng: np.random.Generator, factor: float) -> None:
    model = Model(tiny.NET, target.NAME, 1)
    names = model.towers[0].weights.names
    for name in names:
        for arena in (model.towers[0].weights, model.towers[0].gradients, model.towers[0].momenta):
            assign(arena[name], rng.normal(size=arena[name].shape))
    gradients = {name: g.astype(np.float64) for name, g in model.gradients_state().items()}
    before, v = model.state(), model.momenta_state()

    sgd = SGD(model, rate=0.03, bias_rate=0.05, momentum=0.8, decay=0.3)
    sgd.factor = factor
    sgd.step()

    after, changes = model.state(), model.momenta_state()
    for name in names:
        rate, decay = (0.05, 0.0) if name.endswith(".bias") else (0.03, 0.3)
        rate *= factor
        expected = 0.8 * v[name] - decay * rate * before[name] - rate * gradients[name]
        np.testing.assert_allclose(changes[name], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(after[name], before[name] + expected, rtol=0, atol=1e-6)


def test_a_batch_can_be_learnt_by_heart(rng: np.random.Generator) -> None:
    model = Model(tiny.NET, target.NAME, 8, seed=1)
    sgd = SGD(model)
    images = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    labels = (np.arange(8) % 3).astype(np.int32)
    crops = np.zeros((8, 3), np.int32)
    model.set_mean(images.mean(axis=0).astype(np.float32))
    for step in range(200):
        model.train_step(images, labels, crops, seed=0, step=step)
        sgd.step()
    model.take_totals()
    model.eval_step(images, labels, crops)
    totals = model.take_totals()
    assert totals.top1 == 0
    assert totals.loss < 0.02


def drops(text: str, errors: list[float], *, cut: int | None = None) -> list[int]:
    """How often the rate has dropped after each epoch; at `cut`, state goes through JSON."""
    plan, seen = schedule(text), []
    for epoch, error in enumerate(errors, 1):
        plan.after_epoch(epoch, error)
        seen.append(plan.drops)
        if epoch == cut:
            state = json.loads(json.dumps(plan.state()))
            plan = schedule(text)
            plan.load_state(state)
    return seen


@pytest.mark.host_only("computes nothing")
def test_constant_never_drops() -> None:
    assert drops("constant", [0.5, 0.5, 0.9]) == [0, 0, 0]


@pytest.mark.host_only("computes nothing")
def test_epochs_drops_after_those() -> None:
    assert drops("epochs:2,3", [0.5] * 4) == [0, 1, 2, 2]


@pytest.mark.host_only("computes nothing")
def test_stall_drops_when_the_lowest_error_stands() -> None:
    #         new  new  equal higher→drop, lower than the last only, equal→drop, new, stalls
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops("stall:2", errors) == [0, 0, 0, 1, 1, 2, 2, 2]


@pytest.mark.host_only("computes nothing")
def test_stall_counts_in_a_row() -> None:
    assert drops("stall:2", [0.5, 0.6, 0.4, 0.45, 0.39]) == [0] * 5


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("text", ["constant", "stall:2", "epochs:2,5"])
def test_a_stored_schedule_goes_on_as_if_never_stopped(text: str, cut: int) -> None:
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops(text, errors, cut=cut) == drops(text, errors)


@pytest.mark.host_only("computes nothing")
def test_factor_is_a_tenth_for_each_drop() -> None:
    plan = schedule("epochs:1,2,3")
    plan.after_epoch(3, 0.5)
    assert plan.factor == pytest.approx(1e-3)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    "text",
    [
        *("", "cosine", "stall", "stall:", "stall:0", "stall:2,3", "stall:x", "constant:1"),
        *("epochs:", "epochs:0", "epochs:5,3", "epochs:5,5", "epochs:5,", "epochs:1.5", "epochs:²"),
    ],
)
def test_no_schedule(text: str) -> None:
    with pytest.raises(UserError, match="expected constant, stall:N"):
        schedule(text)
