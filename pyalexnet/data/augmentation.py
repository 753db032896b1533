"""Shuffling, crops and colour noise as pure functions of the seed, epoch or step, and position.

There is no generator state: resuming needs nothing stored, and processes that share a batch agree
without communication. All values come from Philox's raw words, which NumPy keeps stable between
versions (`permutation` and `integers` may change).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from pyalexnet.data.dataset import Colour

# Upper half of the Philox key's second word: separates the streams of one seed.
_ORDER = 0x6F726465 << 32
_CROPS = 0x63726F70 << 32
_COLOURS = 0x636F6C72 << 32

#: Scaling of colour noise: as in the paper's text, or as in the authors' code.
COLOUR_VARIANTS = ("paper", "code")

_ROUNDS = 8  # even; four suffice in theory (Luby and Rackoff 1988)


def _words(seed: int, use: int, number: int, count: int) -> NDArray[np.uint64]:
    # Philox increments the lowest word, so a stream number in the third word never collides.
    key = np.array([seed % 2**64, use], np.uint64)
    counter = np.array([0, 0, number, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


@functools.lru_cache(maxsize=8)
def _round_keys(seed: int, epoch: int) -> NDArray[np.uint64]:
    return _words(seed, _ORDER, epoch, _ROUNDS)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each input bit affects all output bits.
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shuffled(seed: int, epoch: int, n: int, positions: npt.ArrayLike) -> NDArray[np.int64]:
    """Returns the image indices at the given positions of an epoch's random order.

    The order is a permutation that is computed element by element, never stored. A keyed Feistel
    network permutes the elements of the smallest near-square matrix with at least n elements;
    results of n or more are passed through it again (Black and Rogaway, "Ciphers with Arbitrary
    Finite Domains", 2002: generalised Feistel and cycle walking).

    Parameters
    ----------
    seed, epoch : int
        Select the permutation.
    n : int
        Number of images in the split.
    positions : integers (B,)
        In 0 … n-1.

    Returns
    -------
    int64 (B,)
        Image indices.

    Raises
    ------
    ValueError
        A position is out of range.
    """
    places = np.array(positions, np.int64)
    if places.size == 0:
        return places
    if places.min() < 0 or places.max() >= n:
        raise ValueError(
            f"positions is {places.min()} to {places.max()}; expected within 0 to {n - 1}"
        )
    rows = math.isqrt(n - 1) + 1
    sides = np.uint64(rows), np.uint64(-(-n // rows))
    keys = _round_keys(seed, epoch)

    def network(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values // sides[1], values % sides[1]
        for number, key in enumerate(keys):
            # The halves swap their ranges each round; an even number of rounds restores them.
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
    """Returns random crop positions and mirror flags for the images of a step (paper, section 4.1).

    Parameters
    ----------
    seed, step : int
        Select the random numbers.
    count : int
        Number of images.
    stored : (H, W)
        Rows and columns of the stored images.
    size : (h, w)
        Rows and columns of the crops. A crop larger than the padded image contains all of it, at a
        random position.
    pad : int
        Width of the zero padding around the stored image.
    mirror : bool
        Mirror half of the images.
    first_image, global_batch : int
        Index of the first image in the global batch, and the size of that batch (default: these
        images are the whole batch). The result depends only on an image's index in it.
    shared : int
        Number of consecutive images of the global batch that share a crop and mirror flag. The
        paper draws for every image; the authors' code, to save time, for several at once.

    Returns
    -------
    int32 (count, 3)
        First row, first column (negative in the padding), and 1 if mirrored, else 0.

    Raises
    ------
    ValueError
        The images exceed the global batch, or `shared` is less than 1.
    """
    whole = _whole(first_image, count, global_batch)
    if shared < 1:
        raise ValueError(f"shared is {shared}; expected at least 1")
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
    """Returns random RGB offsets for the images of a step (paper, section 4.1).

    Along each principal component an image is shifted by α times a length, with normal α. The
    length is the component's standard deviation √λ in the authors' code, but its eigenvalue λ in
    the paper. λ depends on the unit of the pixels. For 0..255 it would be far too large (λ is about
    14,800 for ImageNet's brightness; a tenth of that is six times the range from black to white),
    so it is computed for pixels in 0..1, as is usual: λ/255 grey levels.

    Parameters
    ----------
    colour : Colour
        Statistics of the training set.
    seed, step : int
        Select the random numbers.
    count : int
        Number of images.
    std : float
        Standard deviation of α.
    variant : {"paper", "code"}
        The length: λ of pixels in 0..1, or √λ.
    first_image, global_batch : int
        As for `random_crops`.

    Returns
    -------
    float32 (count, 3)
        Offsets to add to pixels in 0..255.

    Raises
    ------
    ValueError
        The images exceed the global batch, or the variant is unknown.
    """
    whole = _whole(first_image, count, global_batch)
    if variant not in COLOUR_VARIANTS:
        raise ValueError(f"variant is {variant!r}; expected one of {', '.join(COLOUR_VARIANTS)}")
    lengths = colour.values / 255 if variant == "paper" else np.sqrt(colour.values)
    words = _words(seed, _COLOURS, step, 3 * whole).reshape(whole, 3)[first_image:][:count]
    # 52 bits plus one half: never 0 or 1. Python's inverse normal (Wichura's AS 241) is stable,
    # while NumPy's logarithm differs between versions and processors.
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
            f"first_image is {first_image} and count is {count}; expected a range within "
            f"global_batch, {whole}"
        )
    return whole


def centre_crops(count: int, stored: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
    """Returns centre crops without mirroring: int32 (count, 3), as `random_crops`."""
    crop = [(stored[0] - size[0]) // 2, (stored[1] - size[1]) // 2, 0]
    return np.tile(np.array(crop, np.int32), (count, 1))
