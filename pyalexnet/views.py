"""Views: the crops of an image whose probabilities are averaged in a test (paper, section 4.1)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.augmentation import centre_crops
from pyalexnet.errors import UserError

KINDS = ("centre", "ten", "dense")

#: Between dense views. For 224 of 256 pixels, 5×5 places: those of the ten views, and those midway.
STRIDE = 8

Crops = NDArray[np.int32]


class Classifier(Protocol):
    """What is needed of a `model.Model`."""

    def probabilities(self, images: NDArray[np.uint8], crops: Crops) -> NDArray[np.float32]:
        """The classes' probabilities (B, classes) for images (B, H, W, C) cropped at `crops`."""


def views(
    kind: str,
    stored: tuple[int, int],
    size: tuple[int, int],
    *,
    mirror: bool = True,
    stride: int = STRIDE,
) -> Crops:
    """The different views of an image, each once.

    Parameters
    ----------
    kind : {"centre", "ten", "dense"}
        The centre alone, as a training validates; the paper's four corners and centre, and their
        mirror images; or a grid of places from border to border, and their mirror images.
    stored : (H, W)
        Rows and columns of stored images.
    size : (h, w)
        Rows and columns of crops. Where they are the stored images', there is one place only.
    mirror : bool
        Whether a mirrored image still shows its class; if not, no view of "ten" and "dense" is
        mirrored.
    stride : int
        Rows and columns between dense places: at most so many, so that they are even.

    Returns
    -------
    int32 (V, 3)
        First row and column, and 1 where mirrored; those as they are come first.

    Raises
    ------
    UserError
        There is no such kind, or `stride` is below 1.
    """
    if kind not in KINDS:
        raise UserError(f"views {kind!r}: expected one of {', '.join(KINDS)}")
    if stride < 1:
        raise UserError(f"dense-stride is {stride}; expected at least 1")
    centre = centre_crops(1, stored, size)[0, :2].tolist()
    if kind == "centre":
        return np.array([[*centre, 0]], np.int32)
    # Negative where a crop is the larger one: the image then lies at these places within it.
    bottom, right = stored[0] - size[0], stored[1] - size[1]
    if kind == "ten":
        places = [[0, 0], [0, right], [bottom, 0], [bottom, right], centre]
    else:
        rows, columns = _even(bottom, stride), _even(right, stride)
        places = [[row, column] for row in rows for column in columns]
    crops = [[*place, mirrored] for mirrored in range(1 + mirror) for place in places]
    return np.array(list(dict.fromkeys(map(tuple, crops))), np.int32)


def _even(last: int, stride: int) -> list[int]:
    """Places from 0 to `last`, at most `stride` apart and as even as whole numbers can be."""
    steps = max(1, -(-abs(last) // stride))
    return [round(last * step / steps) for step in range(steps + 1)]


def average(model: Classifier, images: NDArray[np.uint8], crops: Crops) -> NDArray[np.float64]:
    """The mean over views `crops` (V, 3) of the probabilities of images (B, H, W, C).

    Returns
    -------
    float64 (B, classes)
    """
    total: NDArray[np.float64] | float = 0.0
    for crop in crops:
        of_view = np.tile(crop, (len(images), 1))
        total = total + model.probabilities(images, of_view).astype(np.float64)
    return np.asarray(total / len(crops))


def in_words(crops: Crops) -> str:
    """How many views these are, and what they lack: "2 views (whole images, also mirrored)"."""
    count, mirrored = len(crops), bool(crops[:, 2].any())
    words = f"{count} view{'s'[: count > 1]}"
    if len(np.unique(crops[:, :2], axis=0)) == 1:
        return f"{words} (whole images{', also mirrored' if mirrored else ''})"
    return words if mirrored else f"{words} (none mirrored)"
