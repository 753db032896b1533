"""Learning rate schedules (paper, section 5)."""

from __future__ import annotations

from typing import Any

from pyalexnet.errors import UserError


class Schedule:
    """Decides after each epoch how often the rate has been divided by ten; this one never does.

    Attributes
    ----------
    drops : int
        How often it has been divided.
    """

    drops = 0

    @property
    def factor(self) -> float:
        """Multiplies the initial learning rate."""
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
    """Divides the rate by ten after each of these epochs."""

    def __init__(self, epochs: tuple[int, ...]) -> None:
        self.epochs = epochs

    def after_epoch(self, epoch: int, error: float) -> None:
        self.drops = sum(epoch >= at for at in self.epochs)


class Plateau(Schedule):
    """Divides the rate by ten when `patience` epochs in a row have not lowered the error."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best: float | None = None
        self.stalled = 0

    def after_epoch(self, epoch: int, error: float) -> None:
        if self.best is None or error < self.best:
            self.best, self.stalled = error, 0
            return
        self.stalled += 1
        if self.stalled == self.patience:
            self.drops, self.stalled = self.drops + 1, 0

    def state(self) -> dict[str, Any]:
        return {"drops": self.drops, "best": self.best, "stalled": self.stalled}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best = None if state["best"] is None else float(state["best"])
        self.stalled = int(state["stalled"])


def schedule(text: str) -> Schedule:
    """The schedule of a specification: "constant", "plateau:3" or "epochs:20,40".

    Raises
    ------
    UserError
        `text` is none of these.
    """
    kind, _, rest = text.partition(":")
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in rest.split(",")]
    if text == "constant":
        return Schedule()
    if kind == "plateau" and len(numbers) == 1 and numbers[0] > 0:
        return Plateau(numbers[0])
    if kind == "epochs" and min(numbers) > 0 and sorted(set(numbers)) == numbers:
        return AtEpochs(tuple(numbers))
    raise UserError(
        f"schedule is {text!r}; expected constant, plateau:N (÷10 when N epochs have not lowered "
        "the validation error) or epochs:A,B,… (÷10 after these, ascending)"
    )
