"""Views of images, and probabilities averaged over them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.kernels import ops
from helpers.target import DEVICE
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.errors import UserError
from pyalexnet.evaluation.views import average, in_words, views


@pytest.mark.host_only("computes nothing")
def test_centre_as_in_validation() -> None:
    for stored, size in (((256, 256), (224, 224)), ((11, 9), (8, 8)), ((7, 8), (10, 8))):
        np.testing.assert_array_equal(views("centre", stored, size), centre_crops(1, stored, size))


@pytest.mark.host_only("computes nothing")
def test_ten_views_of_the_paper() -> None:
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    expected = [(*place, mirrored) for mirrored in (0, 1) for place in places]
    crops = views("ten", (256, 256), (224, 224))
    assert crops.dtype == np.int32
    assert [tuple(crop) for crop in crops.tolist()] == expected


def test_ten_views_show_corners_and_centre() -> None:
    """On an image with pixels (row, column), cropped by the kernel."""
    rows, columns = np.mgrid[:7, :9].astype(np.uint8)
    image = np.stack([rows, columns], axis=2)[np.newaxis]
    crops = views("ten", (7, 9), (3, 5))
    seen = ops.augment(
        np.repeat(image, len(crops), axis=0),
        crops,
        np.zeros((7, 9, 2), np.float32),
        np.ones(2, np.float32),
        size=(3, 5),
        out=DEVICE.empty((2, 3, 5, DEVICE.pad_images(len(crops)))),
    )[..., : len(crops)]
    places = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    for view, (row, column) in enumerate(places):
        np.testing.assert_array_equal(seen[0, :, 0, view], range(row, row + 3))
        np.testing.assert_array_equal(seen[1, 0, :, view], range(column, column + 5))
        np.testing.assert_array_equal(seen[..., view + 5], seen[..., ::-1, view])


@pytest.mark.host_only("computes nothing")
def test_dense_views() -> None:
    grid = [(row, column) for row in range(0, 33, 8) for column in range(0, 33, 8)]
    crops = [tuple(crop) for crop in views("dense", (256, 256), (224, 224)).tolist()]
    assert crops == [(*place, mirrored) for mirrored in (0, 1) for place in grid]
    assert set(map(tuple, views("ten", (256, 256), (224, 224)).tolist())) <= set(crops)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("stored", "size", "stride", "places"),
    [(10, 8, 1, [0, 1, 2]), (13, 8, 2, [0, 2, 3, 5]), (9, 8, 8, [0, 1]), (8, 10, 1, [0, -1, -2])],
)
def test_dense_positions_are_even(stored: int, size: int, stride: int, places: list[int]) -> None:
    crops = views("dense", (stored, 8), (size, 8), mirror=False, stride=stride)
    assert crops.tolist() == [[place, 0, 0] for place in places]


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize("kind", ["ten", "dense"])
def test_whole_images_have_one_position(kind: str) -> None:
    assert views(kind, (28, 28), (28, 28)).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert views(kind, (28, 28), (28, 28), mirror=False).tolist() == [[0, 0, 0]]


@pytest.mark.host_only("computes nothing")
def test_no_view_is_mirrored_if_that_changes_the_class() -> None:
    assert views("ten", (10, 10), (8, 8), mirror=False).tolist() == [
        [0, 0, 0],
        [0, 2, 0],
        [2, 0, 0],
        [2, 2, 0],
        [1, 1, 0],
    ]


@pytest.mark.host_only("computes nothing")
def test_views_in_words() -> None:
    whole = (8, 8), (8, 8)
    assert in_words(views("ten", (10, 10), (8, 8))) == "10 views"
    assert in_words(views("ten", (10, 10), (8, 8), mirror=False)) == "5 views (none mirrored)"
    alone = "1 view (whole images)"
    assert in_words(views("ten", *whole, mirror=False)) == alone
    both = "2 views (whole images, also mirrored)"
    assert in_words(views("dense", *whole)) == both


@pytest.mark.host_only("computes nothing")
def test_mistakes() -> None:
    with pytest.raises(UserError, match="views is 'five'; expected one of centre, ten, dense"):
        views("five", (8, 8), (8, 8))
    with pytest.raises(UserError, match="dense-stride is 0; expected at least 1"):
        views("dense", (9, 9), (8, 8), stride=0)


class Stub:
    """Probabilities that identify image and view."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.batches: list[int] = []

    def predict(self, images: NDArray[np.uint8], crops: NDArray[np.int32]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        row, column, mirrored = crops.T
        return np.stack([images[:, 0, 0, 0], row, 10 * column, mirrored], 1).astype(np.float32)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("batch_size", "batches"), [(1, [2] * 4), (2, [2] * 4), (5, [4, 4]), (7, [6, 2]), (99, [8])]
)
def test_average(batch_size: int, batches: list[int]) -> None:
    stub = Stub(batch_size)
    images = np.array([3, 250], np.uint8).reshape(2, 1, 1, 1)
    crops = np.array([[0, 0, 0], [0, 1, 1], [2, 2, 1], [4, 0, 1]], np.int32)
    mean = average(stub, images, crops)
    assert stub.batches == batches
    assert mean.dtype == np.float64
    np.testing.assert_array_equal(mean, [[3, 1.5, 7.5, 0.75], [250, 1.5, 7.5, 0.75]])
