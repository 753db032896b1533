from __future__ import annotations

import numpy as np
import pytest

from pyalexnet.data.augmentation import centre_crops, permutation, random_crops


def test_permutation_is_one_and_differs_by_seed_and_epoch() -> None:
    order = permutation(0, 0, 1000)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, permutation(0, 0, 1000))
    for other in (permutation(1, 0, 1000), permutation(0, 1, 1000), np.arange(1000)):
        assert np.mean(order == other) < 0.02


def test_bits_are_the_same_everywhere() -> None:
    assert permutation(7, 3, 8).tolist() == [2, 6, 4, 0, 1, 5, 7, 3]
    crops = random_crops(7, 3, 3, (256, 256), (224, 224))
    assert crops.tolist() == [[4, 14, 0], [12, 5, 1], [3, 5, 0]]


def test_crops_cover_their_range_evenly() -> None:
    crops = random_crops(0, 5, 33_000, (40, 36), (8, 8), pad=2)
    assert crops.dtype == np.int32 and crops.shape == (33_000, 3)
    for axis, low, high in ((0, -2, 34), (1, -2, 30), (2, 0, 1)):
        values, counts = np.unique(crops[:, axis], return_counts=True)
        np.testing.assert_array_equal(values, np.arange(low, high + 1))
        even = len(crops) / len(values)
        assert np.abs(counts - even).max() < 5 * np.sqrt(even)
    assert np.abs(np.corrcoef(crops.T) - np.eye(3)).max() < 0.03


def test_crops_differ_by_seed_and_step_and_may_keep_images_upright() -> None:
    crops = random_crops(0, 5, 100, (256, 256), (224, 224))
    for other in (
        random_crops(1, 5, 100, (256, 256), (224, 224)),
        random_crops(0, 6, 100, (256, 256), (224, 224)),
    ):
        assert np.mean(crops[:, :2] == other[:, :2]) < 0.15
    upright = random_crops(0, 5, 100, (256, 256), (224, 224), mirror=False)
    np.testing.assert_array_equal(upright[:, :2], crops[:, :2])
    assert not upright[:, 2].any()


def test_crops_depend_on_the_place_in_the_whole_batch_only() -> None:
    whole = random_crops(3, 9, 100, (32, 32), (28, 28))
    part = random_crops(3, 9, 30, (32, 32), (28, 28), first_image=50, global_batch=100)
    np.testing.assert_array_equal(part, whole[50:80])
    with pytest.raises(ValueError, match="first_image 80 and count 30"):
        random_crops(3, 9, 30, (32, 32), (28, 28), first_image=80, global_batch=100)


def test_crop_larger_than_the_image_holds_it_all() -> None:
    crops = random_crops(0, 0, 1000, (28, 30), (32, 32))
    assert set(crops[:, 0]) == {-4, -3, -2, -1, 0} and set(crops[:, 1]) == {-2, -1, 0}


def test_centre_crops() -> None:
    crops = centre_crops(2, (256, 28), (224, 32))
    assert crops.dtype == np.int32
    np.testing.assert_array_equal(crops, [[16, -2, 0], [16, -2, 0]])
