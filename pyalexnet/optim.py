"""SGD with momentum and weight decay, and how its rate falls (the paper, section 5)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet import ops
from pyalexnet.device import Array
from pyalexnet.errors import UserError
from pyalexnet.model import Model
from pyalexnet.towers import Tower


class _Segments(NamedTuple):
    """A tower's parameters, each a segment of its arenas with a rate and a decay of its own."""

    tower: Tower
    base: npt.NDArray[np.float32]  #: the rates at a factor of 1
    starts: Array
    rates: Array
    decays: Array


class SGD:
    """Changes a model's weights by their gradients: one launch for all parameters of a device.

    v ← momentum·v - decay·ε·w - ε·gradient; w ← w + v. Weights and biases have rates of their own;
    biases do not decay.

    Parameters
    ----------
    model : Model
    rate, bias_rate : float
        ε of the weights and of the biases, both multiplied by `factor`.
    momentum, decay : float
    """

    def __init__(
        self,
        model: Model,
        *,
        rate: float = 0.01,
        bias_rate: float = 0.02,
        momentum: float = 0.9,
        decay: float = 0.0005,
    ) -> None:
        parameters = model.net.parameters()
        self.rate, self.bias_rate = rate, bias_rate
        self.momentum = momentum
        self._segments = []
        for tower in model.towers:
            names = tower.weights.names
            base = [bias_rate if name.endswith(".bias") else rate for name in names]
            decays = [decay if parameters[name].decayed else 0.0 for name in names]
            self._segments.append(
                _Segments(
                    tower,
                    np.array(base, np.float32),
                    starts=tower.device.upload(tower.weights.starts),
                    rates=tower.device.upload(np.array(base, np.float32)),
                    decays=tower.device.upload(np.array(decays, np.float32)),
                )
            )
        self._factor = 1.0

    @property
    def factor(self) -> float:
        """What the rates are multiplied by; a schedule changes it."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor = factor
        for own in self._segments:
            own.tower.device.copy_in(own.rates, own.base * np.float32(factor))

    def step(self) -> None:
        """Changes weights and momenta by the gradients of `Model.train_step`."""
        for own in self._segments:
            tower = own.tower
            ops.sgd(
                tower.weights.flat,
                tower.gradients.flat,
                tower.momenta.flat,
                own.starts,
                own.rates,
                own.decays,
                momentum=self.momentum,
            )


class Schedule:
    """Decides after each epoch by how many tens the rate has been divided; this one: never.

    Attributes
    ----------
    drops : int
        How often the rate has been divided by ten.
    """

    drops = 0

    @property
    def factor(self) -> float:
        """What the initial rate is multiplied by."""
        return float(10.0**-self.drops)

    def after_epoch(self, epoch: int, error: float) -> None:
        """Takes note that `epoch` epochs are done, the last with this validation top-1 error."""

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on as if nothing had happened; JSON can hold it."""
        return {"drops": self.drops}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of a schedule with the same specification."""
        self.drops = int(state["drops"])


class AtEpochs(Schedule):
    """Divides the rate by ten once each of `epochs` many epochs are done."""

    def __init__(self, epochs: tuple[int, ...]) -> None:
        self.epochs = epochs

    def after_epoch(self, epoch: int, error: float) -> None:
        self.drops = sum(epoch >= at for at in self.epochs)


class Stall(Schedule):
    """Divides the rate by ten when `patience` epochs in a row have not lowered the lowest error."""

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
    """The schedule of a specification: "constant", "stall:3" or "epochs:20,40".

    Raises
    ------
    UserError
        `text` is none of these.
    """
    kind, _, rest = text.partition(":")
    numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in rest.split(",")]
    if text == "constant":
        return Schedule()
    if kind == "stall" and len(numbers) == 1 and numbers[0] > 0:
        return Stall(numbers[0])
    if kind == "epochs" and min(numbers) > 0 and sorted(set(numbers)) == numbers:
        return AtEpochs(tuple(numbers))
    raise UserError(
        f"schedule {text!r}: expected constant, stall:N (÷10 when N epochs have not lowered the "
        "validation error) or epochs:A,B,… (÷10 after these, ascending)"
    )
