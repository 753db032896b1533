"""The input kernel: uint8 images to a net's input."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import reference
from helpers.checks import assert_accurate, assert_exact, assert_same_bits
from helpers.kernels import ops
from helpers.target import DEVICE

pytestmark = pytest.mark.usefixtures("tiles")

#: (images, stored rows and columns, channels, the net's rows and columns)
CASES = {
    "one of everything": (1, (1, 1), 1, (1, 1)),
    "grey": (7, (9, 8), 1, (6, 5)),
    "colour": (33, (8, 9), 3, (7, 7)),
    "as stored": (16, (5, 6), 3, (5, 6)),
    "larger than stored": (7, (5, 4), 3, (9, 10)),
    "five channels": (3, (6, 6), 5, (4, 5)),
    "over a tile": (2, (4, 300), 3, (3, 290)),
    "wide and grey": (33, (3, 270), 1, (2, 257)),
    "28 of 32": (40, (32, 32), 3, (28, 28)),
    "more channels than a tile has": (3, (2, 3), 300, (3, 2)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple:
    return CASES[request.param]


def inputs(case: tuple, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Makes images, and crops that cross every border."""
    count, (height, width), channels, (h, w) = case
    images = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    rows = rng.integers(min(0, height - h) - 2, max(0, height - h) + 3, count)
    columns = rng.integers(min(0, width - w) - 2, max(0, width - w) + 3, count)
    crops = np.stack([rows, columns, rng.integers(0, 2, count)], axis=1).astype(np.int32)
    crops[0] = [(height - h) // 2, (width - w) // 2, 0]
    return images, crops


def colour_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Makes random shifts (B, C)."""
    return rng.uniform(-60, 60, images.shape[::3]).astype(np.float32)


@pytest.mark.parametrize("shifted", [False, True])
def test_integers(case, rng, shifted):
    images, crops = inputs(case, rng)
    mean = rng.integers(0, 256, images.shape[1:]).astype(np.float32)
    scale = 2.0 ** rng.integers(-8, 2, images.shape[3]).astype(np.float32)
    shifts = np.rint(colour_noise(images, rng)) if shifted else None
    x = ops.augment(images, crops, mean, scale, shifts, size=case[3])
    expected = reference.augment(images, crops, mean, scale, case[3], shifts)
    assert_exact(x[..., : len(images)], expected)
    assert not x[..., len(images) :].any()


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", [name for name in CASES if name != "one of everything"])
def test_errors(name, rng, shifted):
    case = CASES[name]
    images, crops = inputs(case, rng)
    mean = rng.uniform(0, 255, images.shape[1:]).astype(np.float32)
    scale = rng.uniform(0.001, 1, images.shape[3]).astype(np.float32)
    shifts = colour_noise(images, rng) if shifted else np.zeros(images.shape[::3], np.float32)
    x = ops.augment(images, crops, mean, scale, shifts if shifted else None, size=case[3])
    x = x[..., : len(images)]
    scale64, mean64, shifts64 = scale.astype(float), mean.astype(float), shifts.astype(float)
    exact = reference.augment(images, crops, mean64, scale64, case[3], shifts64)
    size = reference.augment(images, crops, -mean64, scale64, case[3], np.abs(shifts64))
    plain = reference.augment(images, crops, mean, scale, case[3], shifts)
    assert_accurate(x, exact, plain, size)


def test_outside_is_zero_whatever_the_mean(rng):
    images = rng.integers(1, 256, (2, 4, 4, 3), dtype=np.uint8)
    mean, scale = np.full((4, 4, 3), 300, np.float32), np.ones(3, np.float32)
    crops = np.array([[-9, 0, 0], [2, 3, 1]], np.int32)
    shifts = np.array([[-1.1, 0.3, 7], [0, 1e-30, -1e9]], np.float32)  # 300 ± 1e-30 is 300
    x = ops.augment(images, crops, mean, scale, shifts, size=(4, 4))
    assert not x[..., 0].any()
    assert np.count_nonzero(x[..., 1]) == 3 * 2
    x = ops.augment(images, crops, mean, scale, size=(4, 4))
    assert not x[..., 0].any()
    assert (x[:, :2, 3, 1] < 0).all()  # mirrored: stored column 3 comes last
    assert np.count_nonzero(x[..., 1]) == 3 * 2


def test_far_away_crops(rng):
    images = rng.integers(1, 256, (4, 4, 4, 1), dtype=np.uint8)
    far = 2**31 - 100
    crops = np.array([[far, 0, 0], [0, far, 1], [-far, 0, 0], [0, -far, 1]], np.int32)
    x = ops.augment(
        images, crops, np.zeros((4, 4, 1), np.float32), np.ones(1, np.float32), size=(3, 3)
    )
    assert not x.any()


def test_mirror_reverses_columns(rng):
    images = rng.integers(0, 256, (1, 6, 7, 3), dtype=np.uint8).repeat(2, axis=0)
    mean, scale = np.zeros((6, 7, 3), np.float32), np.ones(3, np.float32)
    crops = np.array([[1, 2, 0], [1, 2, 1]], np.int32)
    x = ops.augment(images, crops, mean, scale, size=(4, 5))
    assert_exact(x[:, :, ::-1, 1], x[..., 0])
    assert_exact(x[..., 0], np.moveaxis(images[0, 1:5, 2:7], -1, 0).astype(np.float32))


def test_bits(case, rng):
    images, crops = inputs(case, rng)
    mean = rng.uniform(0, 255, images.shape[1:]).astype(np.float32)
    scale = rng.uniform(0.001, 1, images.shape[3]).astype(np.float32)
    for more in ((), (colour_noise(images, rng),)):
        assert_same_bits(
            lambda *args: ops.augment(*args, size=case[3]), images, crops, mean, scale, *more
        )


def test_no_shift_is_a_shift_of_zero(case, rng):
    images, crops = inputs(case, rng)
    mean = rng.uniform(0, 255, images.shape[1:]).astype(np.float32)
    scale, zeros = np.full(images.shape[3], 0.1, np.float32), np.zeros(images.shape[::3], "f4")
    x = ops.augment(images, crops, mean, scale, size=case[3])
    assert_exact(ops.augment(images, crops, mean, scale, zeros, size=case[3]), x)


def test_a_large_result_is_that_of_its_parts(rng):
    """It is stored past a CPU's caches, the parts are not."""
    images = rng.integers(0, 256, (33, 200, 200, 3), dtype=np.uint8)
    crops = np.stack([rng.integers(-9, 9, 33), rng.integers(-9, 9, 33), np.arange(33) % 2], 1)
    crops, mean = crops.astype(np.int32), rng.uniform(0, 255, images.shape[1:]).astype(np.float32)
    scale = np.full(3, 0.1, np.float32)
    x = ops.augment(images, crops, mean, scale, size=(200, 200))
    for part in (slice(0, 16), slice(16, 32), slice(32, 33)):
        few = ops.augment(images[part].copy(), crops[part].copy(), mean, scale, size=(200, 200))
        count = part.stop - part.start
        assert_exact(x[..., part], few[..., :count])


def test_room_for_more_images(rng):
    images, crops = inputs(CASES["colour"], rng)
    mean, scale = np.ones((8, 9, 3), np.float32), np.ones(3, np.float32)
    out = np.full((3, 7, 7, DEVICE.pad_images(33) + 2 * DEVICE.images_multiple), np.nan, np.float32)
    assert ops.augment(images, crops, mean, scale, size=(7, 7), out=out) is out
    assert_exact(out[..., :33], ops.augment(images, crops, mean, scale, size=(7, 7))[..., :33])
    assert not out[..., 33:].any()


N = DEVICE.images_multiple
IMAGES, CROPS = np.zeros((2, 6, 7, 3), np.uint8), np.zeros((2, 3), np.int32)
MEAN, SCALE = np.zeros((6, 7, 3), np.float32), np.ones(3, np.float32)
SHIFTS = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"^images .*dtype.*\|u1"),
        ({"images": IMAGES[:, :, ::2]}, r"^images .*contiguous"),
        ({"images": IMAGES[None]}, r"^images .*4 dim"),
        ({"crops": CROPS.astype(np.int64)}, r"^crops .*dtype.*<i4"),
        ({"crops": CROPS[:1]}, r"^crops .*\(1, 3\).*\(2, 3\)"),
        ({"mean": MEAN[:5]}, r"^mean .*\(5, 7, 3\).*\(6, 7, 3\)"),
        ({"mean": MEAN.astype(np.float64)}, r"^mean .*dtype"),
        ({"scale": SCALE[:1]}, r"^scale .*\(1,\).*\(3,\)"),
        ({"shifts": SHIFTS[:1]}, r"^shifts .*\(1, 3\).*\(2, 3\)"),
        ({"shifts": SHIFTS.astype(np.float64)}, r"^shifts .*dtype"),
        ({"out": np.zeros((1, 4, 5, N), np.float32)}, r"^x .*channels.*3"),
        ({"out": np.zeros((3, 4, 5, N), np.float64)}, r"^x .*dtype"),
        ({"out": np.zeros((3, 4, 5, N + 1), np.float32)}, r"^x .*multiple"),
        ({"size": (0, 5)}, r"x .*\(3, 0, 5, .*empty"),
    ],
)
def test_refuses(args, message):
    good = {"images": IMAGES, "crops": CROPS, "mean": MEAN, "scale": SCALE, "shifts": SHIFTS}
    good["size"] = (4, 5)
    ops.augment(**good)
    with pytest.raises(ValueError, match=message):
        ops.augment(**{**good, **args})


def test_refuses_more_images_than_there_is_room_for():
    images, crops = IMAGES.repeat(N, axis=0), CROPS.repeat(N, axis=0)
    out = np.zeros((3, 4, 5, N), np.float32)
    with pytest.raises(ValueError, match=rf"^x .*room for {2 * N} images"):
        ops.augment(images, crops, MEAN, SCALE, size=(4, 5), out=out)
