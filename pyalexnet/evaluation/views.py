"""Views: the crops of an image whose probabilities are averaged (paper, section 4.1)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.augmentation import centre_crops
from pyalexnet.errors import UserError

KINDS = ("centre", "ten", "dense")

#: Between dense views. For 224 of 256 pixels: 5×5 positions, those of the ten views and midway.
STRIDE = 8

Crops = NDArray[np.int32]


class Classifier(Protocol):
    """What `average` uses of `model.Model`."""

    batch_size: int

    def predict(self, images: NDArray[np.uint8], crops: Crops) -> NDArray[np.float32]:
        """Probabilities (B, classes) of images (B, H, W, C) cropped at `crops` (B, 3)."""


def views(
    kind: str,
    stored: tuple[int, int],
    size: tuple[int, int],
    *,
    mirror: bool = True,
    stride: int = STRIDE,
) -> Crops:
    """The distinct views of an image.

    Parameters
    ----------
    kind : {"centre", "ten", "dense"}
        The centre, as in validation; the paper's four corners and centre, and their mirror images;
        or a grid of positions from border to border, and its mirror image.
    stored : (H, W)
        Rows and columns of stored images.
    size : (h, w)
        Rows and columns of crops. If they equal `stored`, there is only one position.
    mirror : bool
        Whether a mirrored image still shows its class; if not, "ten" and "dense" have no mirrored
        views.
    stride : int
        Largest distance between positions of "dense", which are evenly spaced.

    Returns
    -------
    int32 (V, 3)
        First row and column, and 1 where mirrored; unmirrored views come first.

    Raises
    ------
    UserError
        `kind` is unknown, or `stride` is below 1.
    """
    if kind not in KINDS:
        raise UserError(f"views is {kind!r}; expected one of {', '.join(KINDS)}")
    if stride < 1:
        raise UserError(f"dense-stride is {stride}; expected at least 1")
    centre = centre_crops(1, stored, size)[0, :2].tolist()
    if kind == "centre":
        return np.array([[*centre, 0]], np.int32)
    # Negative if crops are larger than images: the image is at these positions within the crop.
    bottom, right = stored[0] - size[0], stored[1] - size[1]
    if kind == "ten":
        positions = [[0, 0], [0, right], [bottom, 0], [bottom, right], centre]
    else:
        rows, columns = _even(bottom, stride), _even(right, stride)
        positions = [[row, column] for row in rows for column in columns]
    crops = [[*position, mirrored] for mirrored in range(1 + mirror) for position in positions]
    return np.array(list(dict.fromkeys(map(tuple, crops))), np.int32)


def _even(last: int, stride: int) -> list[int]:
    """Integers from 0 to `last`, at most `stride` apart and as evenly spaced as possible."""
    steps = max(1, -(-abs(last) // stride))
    return [round(last * step / steps) for step in range(steps + 1)]


def average(model: Classifier, images: NDArray[np.uint8], crops: Crops) -> NDArray[np.float64]:
    """The mean of images' (B, H, W, C) probabilities over the views `crops` (V, 3).

    Returns
    -------
    float64 (B, classes)
    """
    at_once = max(1, model.batch_size // len(images))  # views of all images in one pass
    total: NDArray[np.float64] | float = 0.0
    for start in range(0, len(crops), at_once):
        some = crops[start : start + at_once]
        repeated = np.concatenate([images] * len(some))
        found = model.predict(repeated, some.repeat(len(images), axis=0))
        for probabilities in found.reshape(len(some), len(images), -1):
            total = total + probabilities.astype(np.float64)
    return np.asarray(total / len(crops))


def in_words(crops: Crops) -> str:
    """The number of views and how they differ from the usual: "5 views (none mirrored)"."""
    count, mirrored = len(crops), bool(crops[:, 2].any())
    words = f"{count} view{'s'[: count > 1]}"
    if len(np.unique(crops[:, :2], axis=0)) == 1:
        return f"{words} (whole images{', also mirrored' if mirrored else ''})"
    return words if mirrored else f"{words} (none mirrored)"
