"""Names what images show, by checkpoints alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data import load_image
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.evaluate import Member, load_members, open_devices
from pyalexnet.tally import most_probable
from pyalexnet.views import STRIDE, Crops, average, views

_BATCH = 32
_WNID = re.compile(r"n\d{8} ")


class Prediction(NamedTuple):
    """The most probable classes of an image, at most five, the likeliest first."""

    path: Path
    classes: list[tuple[str, float]]  #: names and probabilities
    truth: str | None  #: the class that the image's folder is named after, by its name or WNID


def predict(
    paths: Sequence[Path],
    images: Sequence[Path],
    *,
    kind: str = "centre",
    stride: int = STRIDE,
    device: str = "auto",
    threads: int | None = None,
) -> Iterator[Prediction]:
    """Predicts image files with the nets, mean images and class names of checkpoints.

    Images are resized and cropped as in a validation; a net of one channel sees them in grey.

    Parameters
    ----------
    paths : sequence of Path
        Checkpoints, whose probabilities are averaged.
    images : sequence of Path
    kind, stride
        As `views.views`; views are mirrored for nets that were trained on mirrored images.
    device, threads
        As `evaluate.open_devices`.

    Raises
    ------
    UserError
        A checkpoint, an image or the device cannot be used.
    """
    if not paths:
        raise UserError("no checkpoint to predict with")
    batch = max(1, min(len(images), _BATCH))
    members = load_members(paths, open_devices(device, threads), batch)
    crops = [_views(member, kind, stride) for member in members]
    classes = members[0].about.classes
    # Prepared ImageNet's classes are "n01440764 tench, Tinca tinca"; users' folders, n01440764.
    by_folder = {name[:9]: name for name in classes if _WNID.match(name)}
    by_folder |= {name: name for name in classes}
    files = iter(images)
    while names := list(islice(files, batch)):
        probabilities = np.mean(
            [
                average(member.model, _read(names, member), own)
                for member, own in zip(members, crops, strict=True)
            ],
            axis=0,
        )
        best = most_probable(probabilities)
        for name, row, top in zip(names, probabilities, best.tolist(), strict=True):
            yield Prediction(
                name,
                [(classes[i], float(row[i])) for i in top],
                by_folder.get(name.absolute().parent.name),
            )


def _views(member: Member, kind: str, stride: int) -> Crops:
    rows, columns, channels = member.about.mean.shape
    if rows != columns or channels not in (1, 3):
        raise CheckpointError(
            f"{member.path}: a net for images of {rows}×{columns}×{channels}; pictures from files "
            "are square and have 1 or 3 channels"
        )
    mirror = bool(member.about.options.get("mirror", True))
    size = member.model.net.input[1:]
    return views(kind, (rows, columns), size, mirror=mirror, stride=stride)


def _read(names: Sequence[Path], member: Member) -> NDArray[np.uint8]:
    rows, _, channels = member.about.mean.shape
    return np.stack([load_image(name, rows, channels=channels) for name in names])
