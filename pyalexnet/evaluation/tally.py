"""Counts loss, errors and confusions from probabilities of labelled images.

Memory depends on the number of classes and of confused pairs, not on the number of images.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.model import Metrics
from pyalexnet.nn.layers.loss import TOP

#: A float32 probability of 0 stands for some value below this.
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


class ClassErrors(NamedTuple):
    """Errors on the images of one class."""

    label: int
    images: int
    top1_error: float  #: share of them, 0..1; NaN without images
    top5_error: float  #: likewise
    mistaken_for: int | None  #: the wrong label most often predicted first
    mistaken: int  #: images for which it was


class Tally:
    """Sums over batches.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes: int) -> None:
        self._loss = 0.0
        self._images = np.zeros(classes, np.int64)
        self._wrong = np.zeros((2, classes), np.int64)  # top-1, top-5
        self._pairs: Counter[tuple[int, int]] = Counter()  # (label, predicted)

    def add(self, probabilities: NDArray[np.floating], labels: NDArray[np.int32]) -> None:
        """Adds a batch: (B, classes), and (B) with -1 for images that do not count.

        Ties go to the smaller label, as in the loss kernel. An image with a NaN among its
        probabilities is wrong and makes the loss NaN.
        """
        own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        finite = np.isfinite(probabilities.sum(axis=1))
        best = most_probable(probabilities)
        right = (best == labels[:, np.newaxis]) & finite[:, np.newaxis]
        losses = np.where(finite, -np.log(np.maximum(own, _SMALLEST)), np.nan)
        counts = labels >= 0
        self._loss += float(losses[counts].sum())
        self._images += self._by_label(labels[counts])
        for wrong, ranks in zip(self._wrong, (1, TOP), strict=True):
            wrong += self._by_label(labels[counts & ~right[:, :ranks].any(axis=1)])
        mistaken = counts & ~right[:, 0] & finite
        pairs = zip(labels[mistaken].tolist(), best[mistaken, 0].tolist(), strict=True)
        self._pairs.update(pairs)

    def _by_label(self, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=len(self._images))

    def metrics(self) -> Metrics:
        """Loss and errors over all images."""
        images = int(self._images.sum())
        if not images:
            return Metrics(float("nan"), float("nan"), float("nan"), 0)
        top1, top5 = (self._wrong.sum(axis=1) / images).tolist()
        return Metrics(self._loss / images, top1, top5, images)

    def by_class(self) -> list[ClassErrors]:
        """Each class's errors, by label."""
        worst: dict[int, tuple[int, int]] = {}
        for (label, other), count in sorted(self._pairs.items()):
            if count > worst.get(label, (0, 0))[1]:
                worst[label] = other, count
        rows = []
        for label, (images, top1, top5) in enumerate(
            zip(self._images.tolist(), *self._wrong.tolist(), strict=True)
        ):
            errors = (top1 / images, top5 / images) if images else (float("nan"),) * 2
            rows.append(ClassErrors(label, images, *errors, *worst.get(label, (None, 0))))
        return rows


def most_probable(probabilities: NDArray[np.floating], count: int = TOP) -> NDArray[np.int64]:
    """The labels (B, at most `count`) of the most probable of (B, classes), most probable first.

    Ties go to the smaller label; NaNs come last.
    """
    left = np.where(np.isnan(probabilities), -1.0, probabilities)
    best = []
    for _ in range(min(count, left.shape[1])):  # faster than sorting 1000 classes
        best.append(left.argmax(axis=1))  # the first of equal values
        left[np.arange(len(left)), best[-1]] = -np.inf
    return np.stack(best, axis=1)
