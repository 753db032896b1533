"""Raw images in one file, for loading.py; a module, so that worker processes can import it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data import Split


class RawSplit(Split):
    """Images (n, 256, 256, 3) that lie in a file one behind another, mapped into memory."""

    shape = (256, 256, 3)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map()
        self.labels = np.zeros(len(self._images), np.int32)

    def _map(self) -> None:
        self._images = np.memmap(self._path, np.uint8, "r").reshape(-1, *self.shape)

    def __getstate__(self) -> dict[str, object]:
        return {"_path": self._path, "labels": self.labels}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._map()

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(self._images[indices])

    def read_into(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        for image, index in zip(out, indices.tolist(), strict=True):
            image[...] = self._images[index]
