"""Learning-rate schedules."""

from __future__ import annotations

import json

import pytest

from pyalexnet.errors import UserError
from pyalexnet.nn.schedules import schedule, warm_up

pytestmark = pytest.mark.host_only("computes nothing")


def drops(text: str, errors: list[float], *, cut: int | None = None) -> list[int]:
    """Counts drops after each epoch; after epoch `cut`, the state goes through JSON."""
    plan, seen = schedule(text, len(errors)), []
    for epoch, error in enumerate(errors, 1):
        plan.after_epoch(epoch, error)
        seen.append(plan.drops)
        if epoch == cut:
            state = json.loads(json.dumps(plan.state()))
            plan = schedule(text, len(errors))
            plan.load_state(state)
    return seen


def factors(text: str, epochs: int, steps: int) -> list[float]:
    """The factor of every step of a run."""
    plan = schedule(text, epochs)
    return [plan.factor(epoch + i / steps) for epoch in range(epochs) for i in range(steps)]


def test_constant_never_drops() -> None:
    assert drops("constant", [0.5, 0.5, 0.9]) == [0, 0, 0]
    assert factors("constant", 3, 2) == [1] * 6


def test_epochs_drops_after_the_listed_epochs() -> None:
    assert drops("epochs:2,3", [0.5] * 4) == [0, 1, 2, 2]
    assert factors("epochs:2,3", 4, 2) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("epochs", [7, 28, 70])
def test_step_keeps_the_full_rate_for_six_sevenths_of_any_run(epochs: int) -> None:
    full = factors("step", epochs, 3)
    at = 3 * epochs * 6 // 7
    assert full == [1.0] * at + [0.1] * (len(full) - at)
    assert factors("step", 7, 3) == factors("epochs:6", 7, 3)


def test_step_may_drop_within_an_epoch() -> None:
    assert factors("step", 1, 14) == [1.0] * 12 + [0.1] * 2


def test_cosine_falls_to_nothing_over_any_run() -> None:
    for epochs in (1, 30):
        falling = factors("cosine", epochs, 60)
        assert falling[0] == 1
        assert falling == sorted(falling, reverse=True)
        assert falling[len(falling) // 2] == pytest.approx(0.5)
        assert 0 < falling[-1] < 0.001
    assert schedule("cosine", 4).factor(5) == 0


def test_warm_up_rises_in_equal_steps() -> None:
    rising = [warm_up((i + 1) / 4, 0.75) for i in range(6)]
    assert rising == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])
    assert [warm_up((i + 1) / 4, 0) for i in range(2)] == [1, 1]


def test_plateau_drops_when_the_lowest_error_does_not_fall() -> None:
    #         new  new  equal higher→drop, lower than the last only, equal→drop, new, stalls
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops("plateau:2", errors) == [0, 0, 0, 1, 1, 2, 2, 2]


def test_plateau_counts_epochs_in_a_row() -> None:
    assert drops("plateau:2", [0.5, 0.6, 0.4, 0.45, 0.39]) == [0] * 5


def test_plateau_divides_three_times_and_then_ends_the_run() -> None:
    plan, seen = schedule("plateau:2", 90), []
    for epoch in range(1, 10):
        plan.after_epoch(epoch, 0.5)
        seen.append((plan.factor(epoch), plan.ended))
    assert [factor for factor, _ in seen] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001]
    )
    assert [ended for _, ended in seen] == [False] * 8 + [True]
    again = schedule("plateau:2", 90)
    again.load_state(json.loads(json.dumps(plan.state())))
    assert again.ended


def test_plateau_goes_on_where_the_error_falls_after_the_third_division() -> None:
    plan = schedule("plateau:1", 90)
    for epoch, error in enumerate([0.5, 0.5, 0.5, 0.5, 0.4], 1):
        plan.after_epoch(epoch, error)
    assert (plan.drops, plan.ended) == (3, False)
    plan.after_epoch(6, 0.4)
    assert (plan.drops, plan.ended) == (3, True)


@pytest.mark.parametrize("text", ["constant", "step", "cosine", "epochs:1,2"])
def test_others_do_not_end_the_run(text: str) -> None:
    plan = schedule(text, 3)
    for epoch in range(1, 4):
        plan.after_epoch(epoch, 0.5)
        assert not plan.ended


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("text", ["constant", "plateau:2", "epochs:2,5", "step", "cosine"])
def test_a_restored_schedule_continues_unchanged(text: str, cut: int) -> None:
    errors = [0.5, 0.4, 0.4, 0.6, 0.5, 0.4, 0.3, 0.35]
    assert drops(text, errors, cut=cut) == drops(text, errors)


@pytest.mark.parametrize(
    "text",
    [
        *("", "cosine:3", "stall", "plateau:", "plateau:0", "plateau:2,3", "plateau:x"),
        *("constant:1", "step:", "step:30,60"),
        *("epochs:", "epochs:0", "epochs:5,3", "epochs:5,5", "epochs:5,", "epochs:1.5", "epochs:²"),
    ],
)
def test_unknown_schedules(text: str) -> None:
    with pytest.raises(UserError, match="expected constant, plateau:N"):
        schedule(text)
