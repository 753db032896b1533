"""The alarm about a net that does not learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from helpers import tiny
from pyalexnet.model import Totals
from pyalexnet.training.chance import ChanceWatch

ADVICE = "the loss has been at chance, ln 3 = 1.099, for "


def told_after(
    losses: list[float], steps: int, classes: int = 4, look: int = 1, images: int = 16
) -> list[int]:
    """After which steps `ChanceWatch` tells, given each step's loss, looking every `look` steps."""
    watch, told, totals = ChanceWatch(classes, steps), [], Totals()
    for done, loss in enumerate(losses, 1):
        position = (done - 1) % steps + 1
        if position == 1:
            totals = Totals()
            watch.begin(totals, 0)
        totals = Totals(totals.loss + images * loss, 0, 0, totals.images + images)
        if (position % look == 0 or position == steps) and watch.look(totals, position):
            told.append(done)
    return told


@pytest.mark.host_only("computes nothing")
def test_told_once_after_three_epochs_or_200_steps() -> None:
    chance = math.log(4)
    assert told_after([chance] * 300, steps=10) == [100]
    assert told_after([chance] * 300, steps=10, look=4) == [100]
    assert told_after([chance] * 300, steps=40) == [120]
    assert told_after([chance] * 900, steps=10_000, look=32) == [256]  # the fourth look from 50 on
    assert told_after([chance] * 300, steps=2) == [100]


@pytest.mark.host_only("computes nothing")
def test_near_chance_is_within_two_percent() -> None:
    chance = math.log(4)
    for share, near in ((1.019, True), (0.981, True), (1.021, False), (0.979, False)):
        assert bool(told_after([share * chance] * 120, steps=10)) is near, share


@pytest.mark.host_only("computes nothing")
def test_noise_of_single_steps_does_not_matter() -> None:
    noisy = [math.log(4) + (0.3 if step % 2 else -0.3) for step in range(120)]
    assert told_after(noisy, steps=10) == [100]


@pytest.mark.host_only("computes nothing")
def test_a_net_that_passes_through_chance_is_not_accused() -> None:
    chance = math.log(4)
    learning = [chance] * 90 + [1.2 - step / 100 for step in range(40)]
    assert told_after(learning * 3, steps=10) == []


@pytest.mark.host_only("computes nothing")
def test_a_resumed_epoch_counts_its_own_steps_only() -> None:
    watch = ChanceWatch(4, 100)
    before = Totals(5000.0, 0, 0, 1600)  # far from chance
    watch.begin(before, 50)
    watch.look(Totals(before.loss + 800 * math.log(4), 0, 0, 2400), 100)
    assert watch.stayed == 50


def killed(folder: Path, **more: Any) -> None:
    """Forty epochs of four steps with a rate that kills every ReLU in the first ones."""
    tiny.run(folder, **{"epochs": 40, "schedule": "constant", "lr": 1.0, "bias_lr": 0.02, **more})


def test_a_rate_that_kills_the_net_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path)
    out = capsys.readouterr().out
    assert out.count(ADVICE) == 1, out
    [line] = [line for line in out.splitlines() if ADVICE in line]
    assert "Try --lr 0.25 (it is 1)" in line


def test_a_net_that_learns_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, lr=0.03, epochs=20)
    assert ADVICE not in capsys.readouterr().out
