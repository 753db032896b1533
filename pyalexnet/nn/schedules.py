"""Learning rate schedules (paper, section 5)."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any

from pyalexnet.errors import UserError

#: The specifications that `schedule` takes.
FORMS = (
    "constant, plateau:N (÷10 when N epochs have not lowered the validation error; after three "
    "times, the run ends), epochs:A,B,… (÷10 after these, ascending), step (÷10 after 6/7 of the "
    "run) or cosine (to 0 over the run)"
)

_NUMBER = re.compile("[0-9]{1,9}")  # of epochs
_DIVISIONS = 3  # of plateau, as in the paper
_FULL_RATE = Fraction(6, 7)  # of the run, with step; exact, so that 6/7 of 7 epochs are 6


class Schedule:
    """Decides by what the learning rate is multiplied; here, by 1 from the first epoch to the last.

    Parameters
    ----------
    epochs : int
        Of the whole run.

    Attributes
    ----------
    drops : int
        How often the rate has been divided by ten.
    """

    drops = 0

    def __init__(self, epochs: int = 1) -> None:
        self.epochs = epochs

    @property
    def ended(self) -> bool:
        """Whether the run ends now, before its last epoch."""
        return False

    def factor(self, done: float) -> float:
        """Multiplies the initial learning rate after `done` epochs, such as 2.5."""
        return float(10.0**-self.drops)

    def after_epoch(self, epoch: int, error: float) -> None:
        """Takes note of the validation top-1 error after `epoch` epochs."""

    def state(self) -> dict[str, Any]:
        """The state that `load_state` restores, as JSON values."""
        return {"drops": self.drops}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores the `state` of a schedule with the same specification."""
        self.drops = int(state["drops"])


class AtEpochs(Schedule):
    """Divides the rate by ten after each of these epochs, which may be fractions."""

    def __init__(self, epochs: int, at: tuple[float, ...]) -> None:
        super().__init__(epochs)
        self.at = at

    def factor(self, done: float) -> float:
        return float(10.0 ** -sum(done >= at for at in self.at))

    def after_epoch(self, epoch: int, error: float) -> None:
        self.drops = sum(epoch >= at for at in self.at)


class Cosine(Schedule):
    """Lowers the rate along half a cosine, to 0 at the end of the run."""

    def factor(self, done: float) -> float:
        return 0.5 + 0.5 * math.cos(math.pi * min(done / self.epochs, 1))


class Plateau(Schedule):
    """Divides the rate by ten when `patience` epochs in a row have not lowered the error.

    It does so three times, as the paper's authors did; where it would divide once more, the run
    ends.
    """

    def __init__(self, epochs: int, patience: int) -> None:
        super().__init__(epochs)
        self.patience = patience
        self.best: float | None = None
        self.stalled = 0

    @property
    def ended(self) -> bool:
        return self.stalled >= self.patience

    def after_epoch(self, epoch: int, error: float) -> None:
        if self.best is None or error < self.best:
            self.best, self.stalled = error, 0
            return
        self.stalled += 1
        if self.stalled == self.patience and self.drops < _DIVISIONS:
            self.drops, self.stalled = self.drops + 1, 0

    def state(self) -> dict[str, Any]:
        return {"drops": self.drops, "best": self.best, "stalled": self.stalled}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best = None if state["best"] is None else float(state["best"])
        self.stalled = int(state["stalled"])


def schedule(text: str, epochs: int = 1) -> Schedule:
    """The schedule of a specification for a run of so many epochs.

    Parameters
    ----------
    text : str
        "constant", "step", "cosine", "plateau:3" or "epochs:20,40".
    epochs : int
        To which "step" and "cosine" are relative.

    Raises
    ------
    UserError
        `text` is none of these.
    """
    kind, _, rest = text.partition(":")
    numbers = [int(part) if _NUMBER.fullmatch(part) else 0 for part in rest.split(",")]
    if text == "constant":
        return Schedule(epochs)
    if text == "step":
        return AtEpochs(epochs, (float(epochs * _FULL_RATE),))
    if text == "cosine":
        return Cosine(epochs)
    if kind == "plateau" and len(numbers) == 1 and numbers[0] > 0:
        return Plateau(epochs, numbers[0])
    if kind == "epochs" and min(numbers) > 0 and sorted(set(numbers)) == numbers:
        return AtEpochs(epochs, tuple(numbers))
    raise UserError(f"schedule is {repr(text)}; expected {FORMS}")


def warm_up(done: float, epochs: float) -> float:
    """Multiplies the rate of the step that ends after `done` epochs: it rises to 1 in `epochs`."""
    return min(done / epochs, 1.0) if epochs else 1.0
