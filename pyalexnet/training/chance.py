"""Notices a net that does not learn: its loss stays where guessing has it."""

from __future__ import annotations

import math

from pyalexnet.model import Totals

_NEAR = 0.02  # share of ln(classes) within which a loss is at chance
_STEPS, _EPOCHS = 200, 3  # how long it may stay there
_LEAST_STEPS = 100  # of these epochs: nets pass through chance at first
_EVERY = 50  # steps at most of which one mean is taken; fewer images have a noisy one


class ChanceWatch:
    """Follows the training loss, and tells once that it has stayed at chance for long.

    At chance, a net gives all classes the same probability, and its loss is ln(classes). "For
    long" is 200 steps or, where an epoch is short, 3 epochs and at least 100 steps.

    Parameters
    ----------
    classes : int
    steps : int
        In an epoch.

    Attributes
    ----------
    stayed : int
        Steps at chance up to the last look.
    """

    def __init__(self, classes: int, steps: int) -> None:
        self.chance = math.log(classes)
        self.stayed = 0
        self._enough = min(_STEPS, max(_EPOCHS * steps, _LEAST_STEPS))
        self._every = min(_EVERY, steps)
        self._told = False
        self._loss = self._images = 0.0  # since the last mean
        self._steps = 0
        self.begin(Totals(), 0)

    def begin(self, totals: Totals, position: int) -> None:
        """An epoch begins, or goes on after so many steps with these totals."""
        self._totals, self._position = totals, position

    def look(self, totals: Totals, position: int) -> bool:
        """Takes note of the epoch's totals after so many steps; whether to tell the user now."""
        self._loss += totals.loss - self._totals.loss
        self._images += totals.images - self._totals.images
        self._steps += position - self._position
        self.begin(totals, position)
        if self._steps < self._every or not self._images:
            return False
        near = abs(self._loss / self._images - self.chance) <= _NEAR * self.chance
        self.stayed = self.stayed + self._steps if near else 0
        self._loss, self._images, self._steps = 0.0, 0.0, 0
        tells = self.stayed >= self._enough and not self._told
        self._told = self._told or tells
        return tells
