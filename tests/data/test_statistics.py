from __future__ import annotations

import numpy as np
import pytest

from helpers.data_files import random_bytes
from pyalexnet.data import Dataset, mean_image, measured
from pyalexnet.data.dataset import ArraySplit
from pyalexnet.data.statistics import PixelSums
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("counts pixels")

IMAGES = random_bytes(7, 5, 6, 3, seed=1) // np.array([1, 2, 5], np.uint8)


def sums(*parts: np.ndarray) -> PixelSums:
    total = PixelSums((5, 6, 3))
    for part in parts:
        one = PixelSums((5, 6, 3))
        one.add(part)
        total.merge(one)
    return total


def test_mean_image() -> None:
    mean = sums(IMAGES).mean()
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, IMAGES.mean(axis=0, dtype=np.float64).astype(np.float32))


def test_colour_is_the_principal_components_of_all_pixels() -> None:
    colour = sums(IMAGES).colour()
    covariance = np.cov(IMAGES.reshape(-1, 3).T.astype(np.float64), bias=True)
    assert np.all(np.diff(colour.values) < 0)
    np.testing.assert_allclose(
        colour.vectors * colour.values @ colour.vectors.T, covariance, rtol=1e-12, atol=1e-9
    )
    np.testing.assert_allclose(colour.vectors.T @ colour.vectors, np.eye(3), atol=1e-12)
    assert np.all(colour.vectors[np.abs(colour.vectors).argmax(axis=0), range(3)] > 0)


def test_grouping_changes_no_bit() -> None:
    whole = sums(IMAGES)
    for other in (sums(IMAGES[4:], IMAGES[:4]), sums(*np.split(IMAGES, 7)[::-1])):
        assert other.count == whole.count == 7
        assert other.mean().tobytes() == whole.mean().tobytes()
        for one, two in zip(other.colour(), whole.colour(), strict=True):
            assert one.tobytes() == two.tobytes()


def test_sums_of_very_many_bright_images_are_exact() -> None:
    whole = PixelSums((256, 256, 3))
    bright = np.full((3, 256, 256, 3), 255, np.uint8)
    bright[0, 0, 0] = 254
    whole.add(bright)
    for _ in range(20):
        whole.merge(whole)
    assert whole.count == 3 * 2**20
    np.testing.assert_array_equal(whole.mean()[0, 0], np.float32(764 / 3))
    np.testing.assert_array_equal(whole.mean()[1, 1], 255)
    dark = 1 / (3 * 2**16)  # fraction of pixels that are darker by 1
    variance = dark * (1 - dark)
    np.testing.assert_allclose(whole.colour().values, [3 * variance, 0, 0], rtol=1e-12, atol=1e-18)


def test_grey_images_have_one_component() -> None:
    grey = np.repeat(IMAGES[..., :1], 3, axis=-1)
    colour = sums(grey).colour()
    np.testing.assert_allclose(colour.vectors[:, 0], 3**-0.5, rtol=1e-12)
    np.testing.assert_allclose(colour.values[1:], 0, atol=1e-9)
    assert (colour.values >= 0).all()


def test_no_image_has_no_statistics() -> None:
    for compute in (PixelSums((2, 2, 3)).mean, PixelSums((2, 2, 3)).colour):
        with pytest.raises(DataError, match="readable images is 0; expected at least 1"):
            compute()


def dataset(**brought: object) -> Dataset:
    split = ArraySplit(IMAGES, np.zeros(len(IMAGES), np.int32))
    return Dataset("", ["a"], split, split, mirror=True, **brought)


def test_missing_statistics_are_computed() -> None:
    whole = sums(IMAGES)
    assert measured(dataset())[1] is None
    mean, colour = measured(dataset(), colour=True, workers=2)
    for got in (mean, measured(dataset())[0], mean_image(dataset().train)):
        assert got.tobytes() == whole.mean().tobytes()
    for one, other in zip(colour, whole.colour(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_stored_statistics_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, colour = np.ones((5, 6, 3), np.float32), sums(IMAGES[:2]).colour()
    got = measured(dataset(mean=mean), colour=True)
    assert got[0] is mean
    np.testing.assert_array_equal(got[1].values, sums(IMAGES).colour().values)
    got = measured(dataset(colour=colour), colour=True)
    assert got[1] is colour
    np.testing.assert_array_equal(got[0], sums(IMAGES).mean())
    monkeypatch.setattr(PixelSums, "add", None)  # no pass over the data
    assert measured(dataset(mean=mean, colour=colour), colour=True) == (mean, colour)
    assert measured(dataset(mean=mean, colour=colour)) == (mean, None)


def test_skipped_images_do_not_count() -> None:
    split = ArraySplit(IMAGES, np.array([0, -1, 0, 0, 0, 0, -1]))
    got = measured(Dataset("", ["a"], split, split, mirror=True), colour=True)
    kept = sums(IMAGES[[0, 2, 3, 4, 5]])
    assert got[0].tobytes() == kept.mean().tobytes()
    np.testing.assert_array_equal(got[1].values, kept.colour().values)
