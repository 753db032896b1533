"""Data sets, batches and augmentation.

=================================  ==================================================
`open_dataset(spec)`               opens a data set by its folder or specification
`Dataset`, `Split`                 the interface of every source (`dataset`)
`sources`                          the supported data sets, one module each
`Loader(split, batch_size, …)`     prefetched batches, epoch after epoch (`loading`)
`load_image(path, size)`           reads one image file (`images`)
`mean_image`, `measured`           mean image and colour statistics (`statistics`)
`augmentation`                     shuffling, crops, mirroring, colour noise
`imagenet`                         the implementation of pyalexnet-prepare
=================================  ==================================================
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from reprlib import repr  # bounded

from pyalexnet.data.dataset import LARGEST_SIZE, Dataset, Split
from pyalexnet.data.images import load_image
from pyalexnet.data.loading.loader import Batch, Loader
from pyalexnet.data.loading.workers import WorkerDied
from pyalexnet.data.resizing import ResizedSplit
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
    spec: str,
    *,
    size: int | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    val_share: float | None = None,
) -> Dataset:
    """Opens a data set.

    Parameters
    ----------
    spec : str
        A folder, whose kind is found out, or one of the forms in `describe_sources`: "shapes",
        "mnist:DIR", …
    size : int, optional
        Rows and columns that images are resized to; by default 256 for `folder:DIR`, and the
        images' own size for the others. Those of `imagenet:DIR` are not resized.
    skip_bad : bool
        Skip and count unreadable images of `folder:DIR` instead of raising DataError.
    seed : int
        Random seed of `shapes`.
    val_share : float, optional
        Of a folder of classes without `val/`, the share of each class that is held out for
        validation, chosen by file name; 0.1 by default. Ignored where there are validation images.

    Raises
    ------
    DataError
        The specification is unknown, the data is missing or damaged, or its images are not of the
        requested size.
    """
    source, folder = find_source(spec)
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds {source.files}")
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise DataError(f"image size is {repr(size)}; expected 1 to {LARGEST_SIZE}")
    if val_share is not None and not 0 < val_share < 1:
        raise DataError(f"val-share is {val_share}; expected more than 0 and less than 1")
    dataset = source.open(Request(folder or Path(), size, skip_bad, seed, val_share))
    rows, columns, _ = dataset.train.shape
    if size is not None and (rows, columns) != (size, size) and source.may_resize:
        train, val = (ResizedSplit(split, size) for split in (dataset.train, dataset.val))
        return dataclasses.replace(dataset, train=train, val=val)
    if size is not None and (rows, columns) != (size, size):
        raise DataError(
            f"image size is {size}; expected {rows}: images of {spec} are {rows}×{columns} and "
            "are not resized"
        )
    return dataset
