"""Batches read ahead by threads, and the mean image."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.split import Split
from pyalexnet.errors import DataError

Batch = tuple[NDArray[np.uint8], NDArray[np.int32]]


def batches(
    split: Split,
    order: NDArray[np.int64],
    batch: int,
    *,
    start: int = 0,
    workers: int = 2,
    ahead: int = 4,
) -> Iterator[Batch]:
    """Yield the images of `order`, `batch` at a time, in order.

    Each worker thread reads whole batches; reading and decoding release the GIL, so batches are
    made in parallel with each other and with training. The last batch may be smaller.

    Parameters
    ----------
    split : Split
    order : int64 (n,)
        Indices into the split.
    batch : int
        Images a batch.
    start : int
        Batches to leave out at the front: a resumed epoch goes on where it stopped.
    workers : int
        Threads that read.
    ahead : int
        Batches in memory or in the making at any time, besides the one last given out.

    Yields
    ------
    images : uint8 (B, H, W, C)
    labels : int32 (B,)

    Raises
    ------
    DataError
        What a worker raised, when its batch is asked for.
    """

    def read(first: int) -> Batch:
        indices = order[first : first + batch]
        images = split.read(indices)
        return images, split.labels[indices]  # after reading, which may set labels to -1

    pool = ThreadPoolExecutor(workers, thread_name_prefix="pyalexnet-loader")
    pending: deque[Future[Batch]] = deque()
    try:
        for first in range(start * batch, len(order), batch):
            pending.append(pool.submit(read, first))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Also runs when the consumer leaves early: batches not yet begun are dropped.
        pool.shutdown(cancel_futures=True)


def mean_image(split: Split, *, workers: int = 2) -> NDArray[np.float32]:
    """Average the images of a split, as the paper subtracts it (section 2).

    Parameters
    ----------
    split : Split
        Read once, a few hundred images at a time; skipped images do not count.
    workers : int
        Threads that read.

    Returns
    -------
    float32 (H, W, C)
        Summed in float64, in a fixed order.

    Raises
    ------
    DataError
        No image can be read.
    """
    total = np.zeros(split.shape, np.float64)
    count = 0
    for images, labels in batches(split, np.arange(len(split)), 256, workers=workers):
        # Skipped images are zeros, so they add nothing; 256 bytes' sum fits an uint32.
        total += images.sum(axis=0, dtype=np.uint32)
        count += int(np.count_nonzero(labels >= 0))
    if count == 0:
        raise DataError(f"mean image: none of {len(split)} images could be read")
    return (total / count).astype(np.float32)
