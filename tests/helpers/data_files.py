"""Writes small data sets in their original file formats."""

from __future__ import annotations

import gzip
import pickle
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def random_bytes(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def idx(values: NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def write_mnist(folder: Path, *, train: int = 12, val: int = 5, gz: bool = False) -> Path:
    """Writes the four files; image i of a split has label i % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n in (("train", train), ("t10k", val)):
        images = random_bytes(n, 28, 28, seed=n)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            content = gzip.compress(idx(values), mtime=0) if gz else idx(values)
            (folder / f"{prefix}-{name}{'.gz' * gz}").write_bytes(content)
    return folder


CIFAR_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def cifar_batch(number: int, n: int = 3) -> tuple[NDArray[np.uint8], list[int]]:
    """Returns the pixels (n, 3072) and labels of one batch."""
    return random_bytes(n, 3072, seed=number), [(number + i) % 10 for i in range(n)]


def write_cifar10_binary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(CIFAR_BATCHES):
        pixels, labels = cifar_batch(number)
        records = np.concatenate([np.array(labels, np.uint8)[:, np.newaxis], pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def _save_bytes(pickler: Any, value: bytes) -> None:
    if len(value) < 256:
        pickler.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value)
    else:
        pickler.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
    pickler.memoize(value)


def pickled(value: Any, *, python2: bool = True) -> bytes:
    """Pickles as Python 2 did for the published files, or as Python 3 does."""
    if not python2:
        return pickle.dumps(value, protocol=2)
    file = BytesIO()
    pickler: Any = pickle._Pickler(file, protocol=2)  # the Python implementation
    pickler.dispatch = {**pickler.dispatch, bytes: _save_bytes}
    pickler.dump(value)
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def write_cifar10_python(folder: Path, *, python2: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(CIFAR_BATCHES):
        pixels, labels = cifar_batch(number)
        batch = {b"batch_label": b"some", b"labels": labels, b"data": pixels, b"filenames": [b"x"]}
        (folder / name).write_bytes(pickled(batch, python2=python2))
    return folder


def write_image(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    """Writes a smooth image, which JPEG changes little."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(random_bytes(3, 4, 3, seed=seed))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def write_folder(folder: Path, *, classes: tuple[str, ...] = ("ant", "bee"), each: int = 3) -> Path:
    """Writes train/ with `each` images per class and val/ with two."""
    for split, n in (("train", each), ("val", 2)):
        for name in classes:
            for number in range(n):
                ending = ("jpg", "png", "JPEG")[number % 3]
                write_image(folder / split / name / f"{number}.{ending}", seed=number)
    return folder
