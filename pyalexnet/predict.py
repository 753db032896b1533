"""Names what images show, by a checkpoint alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyalexnet.data import load_image
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.errors import CheckpointError
from pyalexnet.evaluate import load_model, open_device

_BATCH = 32


class Prediction(NamedTuple):
    """The most probable classes of an image, at most five, the likeliest first."""

    path: Path
    classes: list[tuple[str, float]]  #: names and probabilities


def predict(
    path: Path, images: Sequence[Path], *, device: str = "auto", threads: int | None = None
) -> Iterator[Prediction]:
    """Predicts image files with the net, mean image and class names of a checkpoint.

    Images are resized and cropped as in a validation; a net of one channel sees them in grey.

    Raises
    ------
    UserError
        The checkpoint, an image or the device cannot be used.
    """
    batch = max(1, min(len(images), _BATCH))
    model, checkpoint = load_model(path, open_device(device, threads), batch)
    rows, columns, channels = checkpoint.mean.shape
    if rows != columns or channels not in (1, 3):
        raise CheckpointError(
            f"{path}: a net for images of {rows}×{columns}×{channels}; pictures from files are "
            "square and have 1 or 3 channels"
        )
    crops = centre_crops(batch, (rows, columns), model.net.input[1:])
    files = iter(images)
    while names := list(islice(files, batch)):
        pixels = np.stack([load_image(name, rows, channels=channels) for name in names])
        probabilities = model.probabilities(pixels, crops[: len(names)])
        for name, row in zip(names, probabilities, strict=True):
            best = np.argsort(-row, kind="stable")[:5]
            yield Prediction(name, [(checkpoint.classes[i], float(row[i])) for i in best])
