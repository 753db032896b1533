"""Order, crops and colours of images: random, yet known from seed, epoch or step, and place alone.

Nothing has to be stored to resume, and processes that share a batch agree without talking. Values
come from Philox's raw words, which NumPy keeps the same from version to version (its `permutation`
and `integers` may change).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from pyalexnet.data.split import Colour

# High halves of the Philox key's second word, so that uses of one seed never share numbers.
_ORDER = 0x6F726465 << 32
_CROPS = 0x63726F70 << 32
_COLOURS = 0x636F6C72 << 32

#: How far eigenvalues carry the colours: the paper's text, the authors' code.
COLOUR_VARIANTS = ("paper", "code")

_ROUNDS = 8  # even; twice the four that suffice in theory (Luby and Rackoff 1988)


def _words(seed: int, use: int, number: int, count: int) -> NDArray[np.uint64]:
    # Philox counts up from the lowest word, so the third word sets numbered streams apart.
    key = np.array([seed % 2**64, use], np.uint64)
    counter = np.array([0, 0, number, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


@functools.lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> NDArray[np.uint64]:
    return _words(seed, _ORDER, epoch, _ROUNDS)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit moves every bit.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shuffled(seed: int, epoch: int, n: int, positions: npt.ArrayLike) -> NDArray[np.int64]:
    """Give the images that stand at some positions of an epoch's order.

    Each epoch has every image once, in an order that is never written down: a keyed Feistel network
    permutes the pairs (row, column) of a matrix that holds just n numbers or a few more, and what
    it maps beyond n goes through it again (Black and Rogaway, "Ciphers with Arbitrary Finite
    Domains", 2002: the generalised network and cycle walking).

    Parameters
    ----------
    seed, epoch : int
        Which order.
    n : int
        Images of the split.
    positions : integers (B,)
        Within 0 … n-1.

    Returns
    -------
    int64 (B,)

    Raises
    ------
    ValueError
        A position is out of range.
    """
    places = np.array(positions, np.int64)
    if places.size == 0:
        return places
    if places.min() < 0 or places.max() >= n:
        raise ValueError(f"positions {places.min()} to {places.max()}; expected 0 to {n - 1}")
    rows = math.isqrt(n - 1) + 1
    sides = np.uint64(rows), np.uint64(-(-n // rows))
    keys = _round_keys(seed, epoch)

    def network(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values // sides[1], values % sides[1]
        for number, key in enumerate(keys):
            # `left` lies within the side of its turn; after two turns both are back in theirs.
            side = sides[number % 2]
            left, right = right, (left + _mixed(right + key) % side) % side
        return left * sides[1] + right

    images = network(places.astype(np.uint64))
    while (beyond := np.flatnonzero(images >= n)).size:
        images[beyond] = network(images[beyond])
    return images.astype(np.int64)


def random_crops(
    seed: int,
    step: int,
    count: int,
    stored: tuple[int, int],
    size: tuple[int, int],
    *,
    pad: int = 0,
    mirror: bool = True,
    first_image: int = 0,
    global_batch: int | None = None,
    shared: int = 1,
) -> NDArray[np.int32]:
    """Draw where each image of a step is cropped and whether it is mirrored (paper, section 4.1).

    Parameters
    ----------
    seed, step : int
        Which draws.
    count : int
        Images here.
    stored : (H, W)
        Rows and columns of the stored images.
    size : (h, w)
        Rows and columns of the crops. A crop larger than the padded image has it somewhere within.
    pad : int
        Zero pixels imagined around the stored image.
    mirror : bool
        Mirror half of the images.
    first_image, global_batch : int
        Place of the first image here in the whole step's batch, and the size of that (default: all
        images are here). The draws depend on the place in the whole batch only.
    shared : int
        So many consecutive images of the whole batch have one crop and mirror. The paper draws for
        every image; the authors' code, to save time, for several at once.

    Returns
    -------
    int32 (count, 3)
        First row and column (negative within the padding), and 1 where mirrored.

    Raises
    ------
    ValueError
        The images here reach beyond the whole batch, or `shared` is less than 1.
    """
    whole = _whole(first_image, count, global_batch)
    if shared < 1:
        raise ValueError(f"shared {shared}; expected at least 1")
    draws = -(-whole // shared)
    places = np.arange(first_image, first_image + count) // shared
    words = _words(seed, _CROPS, step, 3 * draws).reshape(draws, 3)[places]
    crops = np.zeros((count, 3), np.int32)
    for axis in range(2):
        low, high = sorted((-pad, stored[axis] + pad - size[axis]))
        crops[:, axis] = low + (words[:, axis] % np.uint64(high - low + 1)).astype(np.int32)
    if mirror:
        crops[:, 2] = words[:, 2] % np.uint64(2)
    return crops


def colour_shifts(
    colour: Colour,
    seed: int,
    step: int,
    count: int,
    *,
    std: float = 0.1,
    variant: str = "paper",
    first_image: int = 0,
    global_batch: int | None = None,
) -> NDArray[np.float32]:
    """Draw by how much the colours of each image of a step are moved (paper, section 4.1).

    An image moves along each principal component by a normal number α times a length: the standard
    deviation √λ of the component, as in the authors' code, or, as the paper says, the eigenvalue λ.
    The latter is a square, so what it means depends on the pixels' unit. For 0..255 it would be
    absurd (λ is about 14,800 for ImageNet's brightness: a tenth of that is six times all there is
    between black and white), so it is taken for pixels of 0..1, as is usual: λ/255 grey levels.

    Parameters
    ----------
    colour : Colour
        Of the training set.
    seed, step : int
        Which draws.
    count : int
        Images here.
    std : float
        Of α.
    variant : {"paper", "code"}
        The length is λ for pixels of 0..1, or √λ.
    first_image, global_batch : int
        As `random_crops`: the draws depend on the place in the whole batch only.

    Returns
    -------
    float32 (count, 3)
        To be added to pixels of 0..255.

    Raises
    ------
    ValueError
        The images here reach beyond the whole batch, or there is no such variant.
    """
    whole = _whole(first_image, count, global_batch)
    if variant not in COLOUR_VARIANTS:
        raise ValueError(f"variant {variant!r}; expected one of {', '.join(COLOUR_VARIANTS)}")
    lengths = colour.values / 255 if variant == "paper" else np.sqrt(colour.values)
    words = _words(seed, _COLOURS, step, 3 * whole).reshape(whole, 3)[first_image:][:count]
    # 52 bits, in the middle of their interval: never 0 nor 1. Python's inverse normal (Wichura's AS
    # 241) stays as it is, while NumPy's logarithm changes by version and processor.
    uniform = ((words >> np.uint64(12)) + 0.5) * 2.0**-52
    normal = np.vectorize(NormalDist().inv_cdf, [np.float64])(uniform)
    shifts = np.zeros((count, 3))
    for amount, length, vector in zip(normal.T, std * lengths, colour.vectors.T, strict=True):
        shifts += (amount * length)[:, None] * vector
    return shifts.astype(np.float32)


def _whole(first_image: int, count: int, global_batch: int | None) -> int:
    whole = first_image + count if global_batch is None else global_batch
    if not 0 <= first_image <= first_image + count <= whole:
        raise ValueError(
            f"first_image {first_image} and count {count} must lie within global_batch {whole}"
        )
    return whole


def centre_crops(count: int, stored: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
    """Crop every image at its centre, unmirrored: int32 (count, 3), as `random_crops`."""
    crop = [(stored[0] - size[0]) // 2, (stored[1] - size[1]) // 2, 0]
    return np.tile(np.array(crop, np.int32), (count, 1))
