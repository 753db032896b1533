"""Loss, errors and confusions, counted from probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.kernels import ops
from helpers.target import DEVICE
from pyalexnet.evaluation.tally import ClassErrors, Tally, most_probable
from pyalexnet.evaluation.writers import class_table, shortened


def test_totals_are_the_kernels(rng: np.random.Generator) -> None:
    """With many ties, and images that do not count."""
    classes, images = 9, 400
    logits = np.zeros((classes, DEVICE.pad_images(images)), np.float32)
    logits[:, :images] = rng.integers(0, 3, (classes, images))
    labels = np.full(logits.shape[1], -1, np.int32)
    labels[:images] = rng.integers(-1, classes, images)
    totals = np.zeros(4)
    loss = ops.softmax_cross_entropy(logits, labels, k=5, scale=1.0, totals=totals)
    tally = Tally(classes)
    for start in range(0, images, 150):
        part = slice(start, min(start + 150, images))
        tally.add(loss.probabilities[:, part].T, labels[part])
    result = tally.metrics()
    losses, first, among, counted = totals
    assert result.images == counted < images
    assert result.top1_error == pytest.approx(1 - first / counted, abs=1e-12)
    assert result.top5_error == pytest.approx(1 - among / counted, abs=1e-12)
    assert result.loss == pytest.approx(losses / counted, rel=1e-6)
    assert 0 < result.top5_error < result.top1_error


@pytest.mark.host_only("computes nothing")
def test_classes_by_hand() -> None:
    p = np.array(
        [
            [0.5, 0.3, 0.1, 0.04, 0.03, 0.03],  # 0: right
            [0.2, 0.5, 0.1, 0.1, 0.05, 0.05],  # 0: mistaken for 1
            [0.1, 0.1, 0.1, 0.1, 0.5, 0.1],  # 5: after 4 and the four ties
            [0.1, 0.6, 0.1, 0.1, 0.1, 0.0],  # 5: last, mistaken for 1
            [0.4, 0.4, 0.1, 0.1, 0.0, 0.0],  # 1: after its tie
            [0.9, 0.1, 0.0, 0.0, 0.0, 0.0],  # does not count
        ]
    )
    tally = Tally(6)
    tally.add(p[:2], np.array([0, 0], np.int32))
    tally.add(p[2:], np.array([5, 5, 1, -1], np.int32))
    tally.add(p[:1], np.array([-1], np.int32))
    rows = tally.by_class()
    assert rows[0] == ClassErrors(0, 2, 0.5, 0.0, 1, 1)
    assert rows[1] == ClassErrors(1, 1, 1.0, 0.0, 0, 1)
    assert rows[5] == ClassErrors(5, 2, 1.0, 1.0, 1, 1)  # 1 and 4 once each: the smaller label
    assert [row.images for row in rows] == [2, 1, 0, 0, 0, 2]
    assert math.isnan(rows[3].top1_error)
    assert rows[3].mistaken_for is None
    totals = tally.metrics()
    assert (totals.top1_error, totals.top5_error, totals.images) == (4 / 5, 2 / 5, 5)
    smallest = float(np.float32(1e-45))
    expected = -np.log([0.5, 0.2, 0.1, smallest, 0.4]).sum() / 5
    assert totals.loss == pytest.approx(expected, rel=1e-14)


@pytest.mark.host_only("computes nothing")
def test_no_images() -> None:
    totals = Tally(3).metrics()
    assert totals.images == 0
    assert math.isnan(totals.loss)


@pytest.mark.host_only("computes nothing")
def test_not_a_number_is_wrong_as_in_the_kernel() -> None:
    tally = Tally(2)
    tally.add(np.array([[np.nan, 0.5], [0.9, 0.1]]), np.array([1, 0], np.int32))
    totals = tally.metrics()
    assert (totals.top1_error, totals.top5_error) == (0.5, 0.5)
    assert math.isnan(totals.loss)


@pytest.mark.host_only("computes nothing")
def test_most_probable() -> None:
    p = np.array([[0.1, 0.2, 0.1, 0.2, 0.05, 0.3, 0.05]])
    assert most_probable(p).tolist() == [[5, 1, 3, 0, 2]]
    assert most_probable(p[:, :3]).tolist() == [[1, 0, 2]]
    assert most_probable(np.array([[0.2, np.nan, 0.0, 0.2]])).tolist() == [[0, 3, 2, 1]]
    assert p.max() == 0.3  # not modified


@pytest.mark.host_only("computes nothing")
def test_table() -> None:
    rows = [
        ClassErrors(0, 4, 0.25, 0.0, 2, 1),
        ClassErrors(1, 0, math.nan, math.nan, None, 0),
        ClassErrors(2, 2000, 0.5, 0.125, 0, 999),
        ClassErrors(3, 5, 0.0, 0.0, None, 0),
        ClassErrors(4, 4, 0.25, 0.0, 3, 1),
        ClassErrors(5, 0, math.nan, math.nan, None, 0),
    ]
    assert class_table(rows, ["ant", "bee", "a cat", "dog", "eel", "fox"]).splitlines() == [
        "label  class   images  top-1 error  top-5 error  most often mistaken for",
        "    2  a cat    2,000      50.00 %      12.50 %  ant (999)",
        "    0  ant          4      25.00 %       0.00 %  a cat (1)",
        "    4  eel          4      25.00 %       0.00 %  dog (1)",
        "    3  dog          5       0.00 %       0.00 %",
        "    1  bee          0            –            –",
        "    5  fox          0            –            –",
    ]
    assert class_table(rows[:5], ["ant", "bee", "a cat", "dog", "eel"]).splitlines()[:2] == [
        "label  class   images  top-1 error  most often mistaken for",
        "    2  a cat    2,000      50.00 %  ant (999)",
    ]


@pytest.mark.host_only("computes nothing")
def test_shortened() -> None:
    assert shortened("tench, Tinca tinca", 18) == "tench, Tinca tinca"
    assert shortened("tench, Tinca tinca", 17) == "tench"
    assert shortened("one, two, three", 10) == "one, two"
    assert shortened("great white shark, white shark", 12) == "great white…"
    assert len(shortened("x" * 40, 12)) == 12
