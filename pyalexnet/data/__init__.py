"""Images from disk, or drawn.

============================  ======================================================
`open_dataset(spec)`          a `Dataset` by its specification
`Dataset`, `Split`            what every source gives
`mean_image(split)`           what is subtracted from every image
`Loader(split, batch, …)`     batches, epoch after epoch, read ahead by threads or processes
`load_image(path, size)`      one JPEG or PNG file
`measured(dataset)`           the mean image and how colours vary
`augmentation`                the order of an epoch, crops, mirrors, colour noise
`shapes`                      the built-in set, drawn
`idx` `cifar10` `folder`      the sources on disk
`shards`                      what pyalexnet-prepare has made of ImageNet: written by `writing`,
                              from what `archives`, `devkit` and `imagenet` find
`statistics`                  mean image and colours, from exact sums
============================  ======================================================
"""

from __future__ import annotations

from pathlib import Path

from pyalexnet.data import cifar10, folder, idx, shapes, shards
from pyalexnet.data.images import load_image
from pyalexnet.data.loader import Batch, Loader
from pyalexnet.data.split import Dataset, Split
from pyalexnet.data.statistics import mean_image, measured
from pyalexnet.data.workers import WorkerDied
from pyalexnet.errors import DataError

__all__ = [
    "Batch",
    "Dataset",
    "Loader",
    "Split",
    "WorkerDied",
    "load_image",
    "mean_image",
    "measured",
    "open_dataset",
]

_EXPECTED = {
    "mnist": idx.FILES,
    "fashion-mnist": idx.FILES,
    "cifar10": cifar10.FILES,
    "folder": folder.FILES,
    "imagenet": shards.FILES,
}


def open_dataset(
    spec: str, *, size: int | None = None, skip_bad: bool = False, seed: int = 0
) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    spec : str
        "shapes", "mnist:DIR", "fashion-mnist:DIR", "cifar10:DIR", "folder:DIR" or "imagenet:DIR".
    size : int, optional
        Rows and columns that a folder's images are brought to (default 256); the other sources
        have images of one size and leave this out.
    skip_bad : bool
        Leave out a folder's unreadable images, and count them, instead of raising DataError.
    seed : int
        Of the shapes.

    Raises
    ------
    DataError
        The specification is unknown, or the data is missing or damaged.
    """
    source, _, place = spec.partition(":")
    if spec == "shapes":
        return shapes.open_shapes(seed)
    if source not in _EXPECTED or not place:
        known = ["shapes", *(f"{name}:DIR" for name in _EXPECTED)]
        raise DataError(f"data {spec!r}: expected one of {', '.join(known)}")
    path = Path(place).expanduser()
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected it to hold {_EXPECTED[source]}")
    if source == "folder":
        return folder.open_folder(path, size=size, skip_bad=skip_bad)
    if source == "imagenet":
        return shards.open_imagenet(path)
    if source == "cifar10":
        return cifar10.open_cifar10(path)
    return idx.open_mnist(path) if source == "mnist" else idx.open_fashion_mnist(path)
