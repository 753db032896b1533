"""Predicts image files with checkpoints alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet import device as devices
from pyalexnet.data import load_image
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.evaluation.members import Member, load_members
from pyalexnet.evaluation.tally import most_probable
from pyalexnet.evaluation.views import STRIDE, Crops, average, views

_BATCH_SIZE = 32
_WNID = re.compile(r"n\d{8} ")


class Prediction(NamedTuple):
    """The most probable classes of an image: at most five, the most probable first."""

    path: Path
    classes: list[tuple[str, float]]  #: names and probabilities
    truth: str | None  #: the class whose name or WNID is the name of the image's folder


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

    Images are resized and cropped as in validation, and converted to grey for a net of one channel.

    Parameters
    ----------
    paths : sequence of Path
        Checkpoints, whose probabilities are averaged.
    images : sequence of Path
    kind, stride
        As in `views.views`; views are mirrored for nets that were trained on mirrored images.
    device, threads
        As in `device.open`.

    Raises
    ------
    UserError
        A checkpoint, an image or the device cannot be used.
    """
    if not paths:
        raise UserError("checkpoints is empty; expected at least one")
    batch_size = max(1, min(len(images), _BATCH_SIZE))
    members = load_members(paths, devices.open(device, threads), batch_size)
    crops = [_views(member, kind, stride) for member in members]
    classes = members[0].checkpoint.classes
    # Classes of prepared ImageNet are "n01440764 tench, Tinca tinca"; users' folders, n01440764.
    by_folder = {name[:9]: name for name in classes if _WNID.match(name)}
    by_folder |= {name: name for name in classes}
    files = iter(images)
    while names := list(islice(files, batch_size)):
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
    rows, columns, channels = member.checkpoint.image_shape
    if rows != columns or channels not in (1, 3):
        raise CheckpointError(
            f"{member.path}: images are {rows}×{columns}×{channels}; expected square images of 1 "
            "or 3 channels, as read from files"
        )
    mirror = bool(member.checkpoint.options.get("mirror", True))
    size = member.model.net.input[1:]
    return views(kind, (rows, columns), size, mirror=mirror, stride=stride)


def _read(names: Sequence[Path], member: Member) -> NDArray[np.uint8]:
    rows, _, channels = member.checkpoint.image_shape
    return np.stack([load_image(name, rows, channels=channels) for name in names])
