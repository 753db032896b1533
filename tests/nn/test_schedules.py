"""Learning-rate schedules."""

from __future__ import annotations

import json

import pytest

from pyalexnet.errors import UserError
from pyalexnet.nn.schedules import schedule

pytestmark = pytest.mark.host_only("computes nothing")


def drops(text: str, errors: list[float], *, cut: int | None = None) -> list[int]:
    """Counts drops after each epoch; after epoch `cut`, the state goes through JSON."""
    plan, seen = schedule(text), []
    for epoch, error in enumerate(errors, 1):
        plan.after_epoch(epoch, error)
        seen.append(plan.drops)
        if epoch == cut:
            state = json.loads(json.dumps(plan.state()))
            plan = schedule(text)
            plan.load_state(state)
    return seen


def test_constant_never_drops() -> None:
    assert drops("constant", [0.5, 0.5, 0.9]) == [0, 0, 0]


def test_epochs_drops_after_the_listed_epochs() -> None:
    assert drops("epochs:2,3", [0.5] * 4) == [0, 1, 2, 2]


def test_plateau_drops_when_the_lowest_error_does_not_fall() -> None:
    #         new  new  equal higher→drop, lower than the last only, equal→drop, new, stalls
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops("plateau:2", errors) == [0, 0, 0, 1, 1, 2, 2, 2]


def test_plateau_counts_epochs_in_a_row() -> None:
    assert drops("plateau:2", [0.5, 0.6, 0.4, 0.45, 0.39]) == [0] * 5


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("text", ["constant", "plateau:2", "epochs:2,5"])
def test_a_restored_schedule_continues_unchanged(text: str, cut: int) -> None:
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops(text, errors, cut=cut) == drops(text, errors)


def test_factor_is_a_tenth_for_each_drop() -> None:
    plan = schedule("epochs:1,2,3")
    plan.after_epoch(3, 0.5)
    assert plan.factor == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "text",
    [
        *("", "cosine", "stall", "plateau:", "plateau:0", "plateau:2,3", "plateau:x", "constant:1"),
        *("epochs:", "epochs:0", "epochs:5,3", "epochs:5,5", "epochs:5,", "epochs:1.5", "epochs:²"),
    ],
)
def test_unknown_schedules(text: str) -> None:
    with pytest.raises(UserError, match="expected constant, plateau:N"):
        schedule(text)
