from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pyalexnet.data import augmentation
from pyalexnet.data.augmentation import centre_crops, colour_shifts, random_crops, shuffled
from pyalexnet.data.dataset import Colour

pytestmark = pytest.mark.host_only("draws crops and orders")

#: ImageNet's eigenvalues, from cuda-convnet2, and arbitrary orthonormal vectors.
COLOUR = Colour(np.array([121.78, 37.09, 19.72]) ** 2, np.linalg.qr(np.vander([1.0, 2.0, 4.0])).Q)
SIZES = [*range(1, 70), 127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 4095, 4097, 60_000]


def whole(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    return shuffled(seed, epoch, n, range(n))


def chi_square(counts: NDArray[np.int64]) -> float:
    """Returns the chi-square statistic's distance from its mean, in standard deviations."""
    degrees, even = counts.size - 1, counts.sum() / counts.size
    return float((((counts - even) ** 2).sum() / even - degrees) / np.sqrt(2 * degrees))


@pytest.mark.parametrize("n", SIZES)
def test_an_epoch_has_every_image_once(n: int) -> None:
    for seed, epoch in ((0, 0), (2**64 - 1, 3)):
        order = whole(seed, epoch, n)
        assert order.dtype == np.int64
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_order_from_any_position() -> None:
    order = whole(3, 8, 1000)
    np.testing.assert_array_equal(shuffled(3, 8, 1000, np.arange(640, 768)), order[640:768])
    np.testing.assert_array_equal(shuffled(3, 8, 1000, [999, 0, 999]), order[[999, 0, 999]])
    assert len(shuffled(3, 8, 1000, [])) == 0
    for wrong in (-1, 1000):
        with pytest.raises(ValueError, match=r"positions is .*; expected within 0 to 999"):
            shuffled(3, 8, 1000, [5, wrong])


def test_orders_differ_by_seed_and_epoch() -> None:
    order = whole(0, 0, 10_000)
    np.testing.assert_array_equal(order, whole(0, 0, 10_000))
    for other in (whole(1, 0, 10_000), whole(0, 1, 10_000), np.arange(10_000)):
        assert np.count_nonzero(order == other) <= 8  # of a Poisson distribution with mean 1
        assert abs(np.corrcoef(order, other)[0, 1]) < 0.05


@pytest.mark.parametrize("n", [2, 3, 5, 16, 37, 100])
def test_every_image_is_as_likely_at_every_position(n: int) -> None:
    rounds = 1500
    for orders in (
        np.stack([whole(9, epoch, n) for epoch in range(rounds)]),
        np.stack([whole(seed, 9, n) for seed in range(rounds)]),
    ):
        for position in {0, 1, n // 2, n - 1}:
            assert abs(chi_square(np.bincount(orders[:, position], minlength=n))) < 4.5


def test_small_orders_are_all_as_likely() -> None:
    """All 24 orders of 4 images: no two or three positions are correlated."""
    orders = np.stack([whole(1, epoch, 4) for epoch in range(6000)]) @ [64, 16, 4, 1]
    counts = np.unique(orders, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(chi_square(counts)) < 4.5


@pytest.mark.parametrize("apart", [1, 2, 32, 245, 256])
def test_neighbours_are_independent(apart: int) -> None:
    """Covers the distances that match the network's rows and columns (245 here)."""
    n = 60_000
    order = whole(5, 2, n)
    distances = (order[apart:] - order[:-apart]) % n
    counts = np.bincount(distances * 100 // n, minlength=100)
    assert abs(chi_square(counts)) < 4.5
    pairs = order[:-apart] * 20 // n * 20 + order[apart:] * 20 // n
    assert abs(chi_square(np.bincount(pairs, minlength=400))) < 4.5


def test_bits_are_the_same_everywhere() -> None:
    assert whole(7, 3, 8).tolist() == [5, 1, 2, 3, 4, 7, 0, 6]
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
    with pytest.raises(ValueError, match="first_image is 80 and count is 30; expected a range"):
        random_crops(3, 9, 30, (32, 32), (28, 28), first_image=80, global_batch=100)


@pytest.mark.parametrize("shared", [2, 32])
def test_consecutive_images_share_a_crop(shared: int) -> None:
    alone = random_crops(3, 9, 100, (256, 256), (224, 224))
    crops = random_crops(3, 9, 100, (256, 256), (224, 224), shared=shared)
    np.testing.assert_array_equal(crops, alone[np.arange(100) // shared])
    part = random_crops(
        3, 9, 30, (256, 256), (224, 224), shared=shared, first_image=51, global_batch=100
    )
    np.testing.assert_array_equal(part, crops[51:81])
    with pytest.raises(ValueError, match="shared is 0; expected at least 1"):
        random_crops(3, 9, 30, (256, 256), (224, 224), shared=0)


def test_crop_larger_than_the_image_holds_it_all() -> None:
    crops = random_crops(0, 0, 1000, (28, 30), (32, 32))
    assert set(crops[:, 0]) == {-4, -3, -2, -1, 0} and set(crops[:, 1]) == {-2, -1, 0}


def test_centre_crops() -> None:
    crops = centre_crops(2, (256, 28), (224, 32))
    assert crops.dtype == np.int32
    np.testing.assert_array_equal(crops, [[16, -2, 0], [16, -2, 0]])


@pytest.mark.parametrize(
    ("variant", "lengths"),
    [("code", [121.78, 37.09, 19.72]), ("paper", np.square([121.78, 37.09, 19.72]) / 255)],
)
def test_colours_move_along_the_principal_components(
    variant: str, lengths: NDArray[np.float64]
) -> None:
    shifts = colour_shifts(COLOUR, 0, 5, 40_000, std=0.2, variant=variant)
    assert shifts.dtype == np.float32 and shifts.shape == (40_000, 3)
    alphas = shifts.astype(float) @ COLOUR.vectors / lengths
    np.testing.assert_allclose(alphas.std(axis=0), 0.2, rtol=0.02)
    assert np.abs(alphas.mean(axis=0)).max() < 0.2 / 200 * 4
    assert np.abs(np.corrcoef(alphas.T) - np.eye(3)).max() < 0.02
    for alpha in alphas.T:  # normal: kurtosis 3, whose standard error is √(24/n)
        assert abs(np.mean((alpha / 0.2) ** 4) - 3) < 5 * np.sqrt(24 / len(alpha))
        assert np.mean(np.abs(alpha) < 0.2) == pytest.approx(0.6827, abs=0.01)
    np.testing.assert_allclose(
        colour_shifts(COLOUR, 0, 5, 9, std=0.4, variant=variant), 2 * shifts[:9], rtol=1e-6
    )


def test_colours_are_the_same_everywhere() -> None:
    """The expected values are 10 scipy.special.ndtri(words / 2^64) as float32."""
    one = Colour(np.array([1e4, 0, 0]), np.eye(3))
    shifts = colour_shifts(one, 7, 3, 4, std=0.1, variant="code")
    np.testing.assert_array_equal(shifts[:, 1:], 0)
    assert shifts[:, 0].tolist() == [
        0.22131402790546417,
        8.194584846496582,
        16.83305549621582,
        15.554532051086426,
    ]


def test_colours_depend_on_seed_step_and_place_in_the_whole_batch_only() -> None:
    whole = colour_shifts(COLOUR, 3, 9, 100)
    assert len(np.unique(whole, axis=0)) == 100
    part = colour_shifts(COLOUR, 3, 9, 30, first_image=50, global_batch=100)
    np.testing.assert_array_equal(part, whole[50:80])
    for other in (colour_shifts(COLOUR, 4, 9, 100), colour_shifts(COLOUR, 3, 10, 100)):
        assert not (other == whole).any()
    with pytest.raises(ValueError, match="first_image is 80 and count is 30; expected a range"):
        colour_shifts(COLOUR, 3, 9, 30, first_image=80, global_batch=100)
    with pytest.raises(ValueError, match="variant is 'pca'; expected one of paper, code"):
        colour_shifts(COLOUR, 3, 9, 30, variant="pca")


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_furthest_colours_are_finite(monkeypatch: pytest.MonkeyPatch, word: int) -> None:
    monkeypatch.setattr(augmentation, "_words", lambda *_: np.full(6, word, np.uint64))
    alphas = colour_shifts(COLOUR, 0, 0, 2, std=1, variant="code") @ COLOUR.vectors
    np.testing.assert_allclose(np.abs(alphas / [121.78, 37.09, 19.72]), 8.21, rtol=0.01)
