from __future__ import annotations

import numpy as np
import pytest

from pyalexnet.data import open_dataset
from pyalexnet.data.sources import shapes

pytestmark = pytest.mark.host_only("draws images")


def test_images_do_not_depend_on_how_they_are_drawn() -> None:
    whole = shapes.draw(5, "train", 0, 47)
    assert whole.shape == (47, 32, 32, 3) and whole.dtype == np.uint8
    for start, stop in ((0, 1), (3, 20), (46, 47)):
        np.testing.assert_array_equal(shapes.draw(5, "train", start, stop), whole[start:stop])


def test_seeds_splits_and_indices_give_different_images() -> None:
    images = [
        shapes.draw(0, "train", 0, 1),
        shapes.draw(1, "train", 0, 1),
        shapes.draw(0, "val", 0, 1),
        shapes.draw(0, "train", 10, 11),
    ]
    for number, image in enumerate(images):
        for other in images[:number]:
            assert np.mean(image == other) < 0.1


def test_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "TRAIN", 230)
    monkeypatch.setattr(shapes, "VAL", 20)
    data = open_dataset("shapes", seed=4)
    assert data.name == "shapes" and data.mirror and len(set(data.classes)) == 10
    assert data.train.shape == (32, 32, 3)
    np.testing.assert_array_equal(data.train.labels, np.arange(230) % 10)
    np.testing.assert_array_equal(data.train.read(np.arange(230)), shapes.draw(4, "train", 0, 230))
    np.testing.assert_array_equal(data.val.read(np.arange(20)), shapes.draw(4, "val", 0, 20))


def test_images_vary_in_brightness_and_colour() -> None:
    images = shapes.draw(0, "train", 0, 400).astype(np.float32)
    assert 80 < images.mean() < 155
    assert images.std(axis=0).min() > 30  # every pixel of every channel
    assert np.abs(np.corrcoef(images.mean(axis=(1, 2)).T) - np.eye(3)).max() < 0.5


Y, X = ((np.mgrid[:200, :200] + 0.5) / 100 - 1).astype(np.float32)


@pytest.mark.parametrize("name", shapes._SHAPES)
def test_shape_fits_its_radius_and_its_distance_is_in_units_of_it(name: str) -> None:
    distance = shapes._SHAPES[name](X, Y)
    inside = distance < 0
    assert 0.1 < inside.mean() < 0.7
    assert np.hypot(X, Y)[inside].max() < 1.06
    # Near the boundary the slope must be 1, or the edge is blurred or aliased.
    slope = np.hypot(*np.gradient(distance, 0.01))
    near = np.abs(distance) < 0.03
    assert np.median(np.abs(slope[near] - 1)) < 0.01


def test_shapes_have_their_own_areas() -> None:
    def area(name: str) -> float:
        return float(np.mean(shapes._SHAPES[name](X, Y) < 0) * 4)

    assert area("disc") == pytest.approx(np.pi * 0.9**2, abs=0.01)
    assert area("ring") == pytest.approx(np.pi * (0.92**2 - 0.48**2), abs=0.01)
    assert area("square") == pytest.approx(1.48**2, abs=0.02)
    assert area("triangle") == pytest.approx(3 * np.sqrt(3) / 4, abs=0.01)
    inner, tip = 0.4, 1.0
    assert area("star") == pytest.approx(5 * inner * tip * np.sin(np.pi / 5), abs=0.01)
    assert area("cross") == pytest.approx(2 * 1.9 * 0.56 - 0.56**2, abs=0.01)
    assert area("arrow") == pytest.approx(1.5 / 2 + 0.44 * 0.95, abs=0.01)
    assert area("hourglass") == pytest.approx(4 * (0.0625 * 0.8 + 0.75 * 0.8**2 / 2), abs=0.01)
    # A square corner shared by two bars, with half a disc at each end.
    side, length = 2 * 0.44, 0.64
    heart = side**2 + 2 * side * (length - 0.44) + np.pi * 0.44**2
    assert area("heart") == pytest.approx(heart, abs=0.01)
