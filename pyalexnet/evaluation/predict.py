"""Predicts images with checkpoints alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyalexnet import device as devices
from pyalexnet.data.sources.image_files import LeftOut, find_images
from pyalexnet.errors import CheckpointError, DataError
from pyalexnet.evaluation import pixels
from pyalexnet.evaluation import views as positions
from pyalexnet.evaluation.members import Member, load_members
from pyalexnet.evaluation.tally import most_probable
from pyalexnet.evaluation.views import STRIDE, Crops, average
from pyalexnet.nn.layers.loss import TOP

_BATCH_SIZE = 32
#: Of an image, which are computed in one batch; dense ones are as many as there are positions.
_MOST_VIEWS = {"centre": 1, "ten": 10}
_WNID = re.compile(r"n\d{8} ")


class Prediction(NamedTuple):
    """The most probable classes of an image, the most probable first."""

    path: Path | None  #: None for an image that is not a file
    classes: list[tuple[str, float]]  #: names and probabilities
    truth: str | None  #: the class whose name or WNID is the name of the file's folder


def predict(
    checkpoints: str | Path | Sequence[str | Path],
    images: pixels.Images,
    *,
    topk: int = TOP,
    views: str = "centre",
    dense_stride: int = STRIDE,
    device: str = "auto",
    threads: int | None = None,
    on_bad: Callable[[DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Predicts images with the nets, mean images and class names of checkpoints.

    Images are resized and cropped as in validation, and converted to grey for a net of one channel.

    Parameters
    ----------
    checkpoints : path, or sequence of them
        Checkpoints, whose probabilities are averaged.
    images : path, image of Pillow's, uint8 array, or sequence of these
        As `Classifier` takes them.
    topk : int
        Classes of a prediction at most.
    views, dense_stride
        As `kind` and `stride` of `views.views`; views are mirrored for nets that were trained on
        mirrored images.
    device, threads
        As in `device.open`.
    on_bad : callable, optional
        Called for each image that cannot be read, which is then left out; by default, the first one
        raises.

    Raises
    ------
    UserError
        A checkpoint, an image or the device cannot be used.
    """
    found = pixels.listed(images)
    batch_size = max(1, min(len(found), _BATCH_SIZE))
    at_once = min(batch_size * _MOST_VIEWS.get(views, _BATCH_SIZE), _BATCH_SIZE)
    members = load_members(checkpoints, devices.open(device, threads), at_once)
    crops = [_views(member, views, dense_stride) for member in members]
    classes = members[0].checkpoint.classes
    # Classes of prepared ImageNet are "n01440764 tench, Tinca tinca"; users' folders, n01440764.
    by_folder = {name[:9]: name for name in classes if _WNID.match(name)}
    by_folder |= {name: name for name in classes}
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        try:
            probabilities = _probabilities(part, members, crops)
        except DataError:
            if on_bad is None:
                raise
            part = list(_readable(part, members, on_bad))
            if not part:
                continue
            probabilities = _probabilities(part, members, crops)
        best = most_probable(probabilities, topk)
        for image, row, top in zip(part, probabilities, best.tolist(), strict=True):
            path = Path(image) if isinstance(image, str | Path) else None
            yield Prediction(
                path,
                [(classes[i], float(row[i])) for i in top],
                None if path is None else by_folder.get(path.absolute().parent.name),
            )


def _probabilities(
    images: Sequence[Any], members: Sequence[Member], crops: Sequence[Crops]
) -> NDArray[np.float64]:
    """Probabilities (N, classes), averaged over the members; DataError names a bad image."""
    found = [
        average(member.model, pixels.read(images, member.checkpoint.image_shape), own)
        for member, own in zip(members, crops, strict=True)
    ]
    return np.asarray(np.mean(found, axis=0))


def _readable(
    images: Sequence[Any], members: Sequence[Member], on_bad: Callable[[DataError], None]
) -> Iterator[Any]:
    """The images that can be read; `on_bad` gets the others' errors."""
    shape = members[0].checkpoint.image_shape
    for image in images:
        try:
            pixels.read([image], shape)
        except DataError as error:
            on_bad(error)
        else:
            yield image


def image_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files among `paths`, and for a folder all images in it, in any depth, in order of names.

    Raises
    ------
    DataError
        There is no such file, or no image in a folder.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise DataError(f"{path}: no such file; expected an image or a folder of images")
            files.append(path)
            continue
        names = find_images(path, LeftOut())
        found = [path / os.fsdecode(name) for name in names]
        if not found:
            raise DataError(f"{path}: no image in this folder; expected some, such as *.jpg")
        files += found
    return files


def _views(member: Member, kind: str, stride: int) -> Crops:
    rows, columns, channels = member.checkpoint.image_shape
    if rows != columns or channels not in (1, 3):
        raise CheckpointError(
            f"{member.path}: images are {rows}×{columns}×{channels}; expected square images of 1 "
            "or 3 channels, as read from files"
        )
    size, mirror = member.model.net.input[1:], member.checkpoint.mirrored
    return positions.views(kind, (rows, columns), size, mirror=mirror, stride=stride)
