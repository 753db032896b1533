"""Data sets, batches and augmentation.

=================================  ==================================================
`open_dataset(spec)`               opens a data set by its specification
`Dataset`, `Split`                 the interface of every source (`dataset`)
`sources`                          the supported data sets, one module each
`Loader(split, batch_size, …)`     prefetched batches, epoch after epoch (`loading`)
`load_image(path, size)`           reads one JPEG or PNG file (`images`)
`mean_image`, `measured`           mean image and colour statistics (`statistics`)
`augmentation`                     shuffling, crops, mirroring, colour noise
`imagenet`                         the implementation of pyalexnet-prepare
=================================  ==================================================
"""

from __future__ import annotations

from pathlib import Path

from pyalexnet.data.dataset import Dataset, Split
from pyalexnet.data.images import load_image
from pyalexnet.data.loading.loader import Batch, Loader
from pyalexnet.data.loading.workers import WorkerDied
from pyalexnet.data.sources import Request, describe_sources, find_source
from pyalexnet.data.statistics import mean_image, measured
from pyalexnet.errors import DataError

__all__ = [
    "Batch",
    "Dataset",
    "Loader",
    "Split",
    "WorkerDied",
    "describe_sources",
    "find_source",
    "load_image",
    "mean_image",
    "measured",
    "open_dataset",
]


def open_dataset(
    spec: str, *, size: int | None = None, skip_bad: bool = False, seed: int = 0
) -> Dataset:
    """Opens a data set.

    Parameters
    ----------
    spec : str
        One of the forms in `describe_sources`: "shapes", "mnist:DIR", …
    size : int, optional
        Rows and columns that images of `folder:DIR` are resized to, 256 by default. The other
        sources do not resize.
    skip_bad : bool
        Skip and count unreadable images of `folder:DIR` instead of raising DataError.
    seed : int
        Random seed of `shapes`.

    Raises
    ------
    DataError
        The specification is unknown, the data is missing or damaged, or its images are not of the
        requested size.
    """
    source, folder = find_source(spec)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds {source.files}")
    if size is not None and size < 1:
        raise DataError(f"image size is {size}; expected at least 1")
    dataset = source.open(Request(folder or Path(), size, skip_bad, seed))
    rows, columns, _ = dataset.train.shape
    if size is not None and (rows, columns) != (size, size):
        raise DataError(
            f"image size is {size}; expected {rows}: images of {spec} are {rows}×{columns} and "
            f"are not resized"
        )
    return dataset
