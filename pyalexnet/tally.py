"""Counts what probabilities say about labelled images: loss, errors, classes confused.

Nothing grows with the number of images but the pairs of classes that were confused.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.model import Totals

TOP = 5  # classes that count as an answer, or all where there are fewer

#: A float32 probability of 0 is somewhere below this.
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


class ClassErrors(NamedTuple):
    """How the images of one class fared."""

    label: int
    images: int
    top1: float  #: share of them, 0..1, whose most probable class was another; NaN without images
    top5: float  #: share of them, 0..1, that were not among the five most probable
    mistaken_for: int | None  #: the label most often more probable than all others, but for its own
    mistaken: int  #: for how many images it was


class Tally:
    """Adds up batches.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int) -> None:
        self._loss = 0.0
        self._images = np.zeros(classes, np.int64)
        self._wrong = np.zeros((2, classes), np.int64)  # at once; among five
        self._pairs: Counter[tuple[int, int]] = Counter()  # (label, another first)

    def add(self, probabilities: NDArray[np.floating], labels: NDArray[np.int32]) -> None:
        """Counts a batch: (B, classes), and (B) with -1 for images that shall not count.

        Of equal probabilities, that of the smaller label comes first, as in the loss kernel.
        Probabilities that are not numbers are wrong, and so is the loss from then on.
        """
        own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        numbers = np.isfinite(probabilities.sum(axis=1))
        best = most_probable(probabilities)
        right = (best == labels[:, np.newaxis]) & numbers[:, np.newaxis]
        losses = np.where(numbers, -np.log(np.maximum(own, _SMALLEST)), np.nan)
        counts = labels >= 0
        self._loss += float(losses[counts].sum())
        self._images += self._by_label(labels[counts])
        for wrong, ranks in zip(self._wrong, (1, TOP), strict=True):
            wrong += self._by_label(labels[counts & ~right[:, :ranks].any(axis=1)])
        mistaken = counts & ~right[:, 0] & numbers
        pairs = zip(labels[mistaken].tolist(), best[mistaken, 0].tolist(), strict=True)
        self._pairs.update(pairs)

    def _by_label(self, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=len(self._images))

    def totals(self) -> Totals:
        """Loss and errors of all images."""
        images = int(self._images.sum())
        if not images:
            return Totals(float("nan"), float("nan"), float("nan"), 0)
        top1, top5 = (self._wrong.sum(axis=1) / images).tolist()
        return Totals(self._loss / images, top1, top5, images)

    def by_class(self) -> list[ClassErrors]:
        """The classes' errors, by label."""
        worst: dict[int, tuple[int, int]] = {}
        for (label, other), count in sorted(self._pairs.items()):
            if count > worst.get(label, (0, 0))[1]:
                worst[label] = other, count
        rows = []
        for label, (images, first, among) in enumerate(
            zip(self._images.tolist(), *self._wrong.tolist(), strict=True)
        ):
            errors = (first / images, among / images) if images else (float("nan"),) * 2
            rows.append(ClassErrors(label, images, *errors, *worst.get(label, (None, 0))))
        return rows


def most_probable(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The labels (B, at most 5) of the most probable classes of (B, classes), the likeliest first.

    Of equal ones, the smaller comes first; those that are not numbers come last.
    """
    left = np.where(np.isnan(probabilities), -1.0, probabilities)
    best = []
    for _ in range(min(TOP, left.shape[1])):  # quicker than sorting a thousand
        best.append(left.argmax(axis=1))  # the first of equal ones
        left[np.arange(len(left)), best[-1]] = -np.inf
    return np.stack(best, axis=1)
