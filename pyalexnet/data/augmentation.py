"""The order of images and their crops: random, yet known from seed, epoch or step, and place alone.

Nothing has to be stored to resume, and two processes that share a batch agree without talking.
Values come from Philox's raw words, which NumPy keeps the same from version to version (its
`permutation` and `integers` may change).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# High halves of the Philox key's second word, so that uses of one seed never share numbers.
_ORDER = 0x6F726465 << 32
_CROPS = 0x63726F70 << 32


def _words(seed: int, use: int, number: int, count: int) -> NDArray[np.uint64]:
    # Philox counts up from the lowest word, so the third word sets numbered streams apart.
    key = np.array([seed % 2**64, use], np.uint64)
    counter = np.array([0, 0, number, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Order the images of an epoch.

    Returns
    -------
    int64 (n,)
        Each of 0 … n-1 once.
    """
    return np.argsort(_words(seed, _ORDER, epoch, n), kind="stable").astype(np.int64)


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

    Returns
    -------
    int32 (count, 3)
        First row and column (negative within the padding), and 1 where mirrored.

    Raises
    ------
    ValueError
        The images here reach beyond the whole batch.
    """
    whole = first_image + count if global_batch is None else global_batch
    if not 0 <= first_image <= first_image + count <= whole:
        raise ValueError(
            f"first_image {first_image} and count {count} must lie within global_batch {whole}"
        )
    words = _words(seed, _CROPS, step, 3 * whole).reshape(whole, 3)[first_image:][:count]
    crops = np.zeros((count, 3), np.int32)
    for axis in range(2):
        low, high = sorted((-pad, stored[axis] + pad - size[axis]))
        crops[:, axis] = low + (words[:, axis] % np.uint64(high - low + 1)).astype(np.int32)
    if mirror:
        crops[:, 2] = words[:, 2] % np.uint64(2)
    return crops


def centre_crops(count: int, stored: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int32]:
    """Crop every image at its centre, unmirrored: int32 (count, 3), as `random_crops`."""
    crop = [(stored[0] - size[0]) // 2, (stored[1] - size[1]) // 2, 0]
    return np.tile(np.array(crop, np.int32), (count, 1))
