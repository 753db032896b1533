"""Loader throughput in images/s: decoding JPEGs, and copying raw images from the page cache.

    python benchmarks/loading.py                    # one worker per core
    python benchmarks/loading.py --workers 1

Generated JPEGs of about ImageNet's size are decoded, resized to 256 and centre-cropped by this
package's loader; by torchvision's ImageFolder under a PyTorch DataLoader (without torchvision, by
an equivalent data set using Pillow); and by Pillow alone in one process. The three alternate, and
workers persist between runs, as between epochs.

Raw images are read in random order into the buffers that the augmentation kernel reads.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alternate
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from pyalexnet import data
from pyalexnet.cores import count_cores
from pyalexnet.data.imagenet.prepare import prepare
from pyalexnet.data.sources.folder import FolderSplit
from pyalexnet.data.sources.image_files import LeftOut, find_images
from pyalexnet.data.sources.shards import Encoding, open_imagenet

SIZE = 256
CLASSES = ["a", "b"]


def write_jpegs(folder: Path, count: int) -> None:
    """Writes photograph-like images: random phases, amplitudes proportional to 1/frequency."""
    rng = np.random.default_rng(0)
    for number in range(count):
        rows, columns = (375, 500) if number % 4 else (500, 375)
        frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns))
        amplitude = 1 / np.maximum(frequency, 1 / columns)
        planes = []
        for _ in range(3):
            spectrum = amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape))
            plane = np.fft.irfft2(spectrum, (rows, columns))
            planes.append(plane / plane.std())
        luma, *chroma = planes
        pixels = np.stack([luma, luma + 0.3 * chroma[0], luma + 0.3 * chroma[1]], axis=-1)
        path = folder / CLASSES[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.clip(128 + 55 * pixels, 0, 255).astype(np.uint8))
        image.save(path, quality=90)


def centred(image: Image.Image) -> Image.Image:
    """Resizes and crops as torchvision's Resize(256) and CenterCrop(256) do."""
    width, height = image.size
    short = min(width, height)
    width, height = width * SIZE // short, height * SIZE // short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    return image.crop((left, top, left + SIZE, top + SIZE))


def decoded(path: Path) -> NDArray[np.uint8]:
    """Reads an image with Pillow: uint8 (256, 256, 3)."""
    with Image.open(path) as image:
        return np.array(centred(image.convert("RGB")))


class Folder:
    """A substitute for ImageFolder that uses Pillow only, for PyTorch's DataLoader."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        import torch

        return torch.from_numpy(decoded(self._paths[index])).permute(2, 0, 1), 0


def ours(loader: data.Loader) -> Callable[[], None]:
    """Returns a function that reads the next epoch."""

    def epochs() -> Iterator[int]:
        number = 0
        while True:
            yield sum(len(batch.images) for batch in loader.epoch(number))
            number += 1

    each = epochs()

    def run() -> None:
        assert next(each) == len(loader.split)

    return run


def torchs(folder: Path, paths: list[Path], batch: int, workers: int) -> tuple[str, Any]:
    """Returns the name of PyTorch's loader and a function that reads an epoch with it."""
    try:
        import torch
    except ImportError:
        return "PyTorch's DataLoader: not available", None
    try:
        from torchvision import datasets, transforms
    except Exception as error:  # a mismatch with the installed torch raises many types
        print(f"torchvision: not available ({error}); using Pillow instead of ImageFolder")
        dataset: Any = Folder(paths)
        name = "DataLoader over Pillow"
    else:
        steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.PILToTensor()]
        dataset = datasets.ImageFolder(str(folder), transforms.Compose(steps))
        name = "ImageFolder + DataLoader"
    loader: Any = torch.utils.data.DataLoader(
        dataset, batch, shuffle=True, num_workers=workers, persistent_workers=True
    )

    def run() -> None:
        assert sum(len(images) for images, _ in loader) == len(paths)

    return name, run


def measure_jpegs(folder: Path, args: argparse.Namespace) -> None:
    """Measures decoding and prints a table."""
    write_jpegs(folder, args.jpegs)
    paths = sorted(folder.glob("*/*.jpg"))
    size = sum(path.stat().st_size for path in paths) / len(paths)
    print(f"{len(paths)} JPEGs of 500×375, {size / 1e3:.0f} kB on average, batch {args.batch}:")
    names = [find_images(folder / name, LeftOut()) for name in CLASSES]
    split = FolderSplit(folder, CLASSES, names, SIZE, skip_bad=False)

    def pillow() -> None:
        for path in paths:
            decoded(path)

    name, torch_run = torchs(folder, paths, args.batch, args.workers)
    with data.Loader(split, args.batch, seed=0, workers=args.workers) as loader:
        ways: list[tuple[str, int, Callable[[], None]]] = [
            ("pyalexnet", args.workers, ours(loader)),
            ("Pillow, one process", 1, pillow),
        ]
        if torch_run is None:
            print(name)
        else:
            ways.insert(1, (name, args.workers, torch_run))
        seconds, _ = alternate.medians([run for _, _, run in ways], args.runs)
    for (name, workers, _), taken in zip(ways, seconds, strict=True):
        speed = len(paths) / taken
        each = speed / min(workers, count_cores())
        ratio = taken / seconds[0]
        print(f"  {name:<26}{speed:8.0f} images/s {each:8.0f} per core   ours/this {ratio:6.2f}")


def measure_raw(folder: Path, prepared: Path, args: argparse.Namespace) -> None:
    """Measures reading the same images from raw shards and prints a table."""
    encoding = Encoding("raw", SIZE, 90)
    prepare(folder, folder, prepared, encoding=encoding, progress=False)
    split = open_imagenet(prepared).train
    epochs = -(-args.raw // len(split))
    print(
        f"{len(split):,} raw images of {SIZE}×{SIZE}×3 from the page cache, {epochs} times, "
        f"batch {args.batch}:"
    )
    with data.Loader(split, args.batch, seed=0, workers=args.workers) as loader:
        once = ours(loader)

        def often() -> None:
            for _ in range(epochs):
                once()

        [taken], _ = alternate.medians([often], args.runs)
    speed = len(split) * epochs / taken
    print(f"  {'pyalexnet':<26}{speed:8,.0f} images/s {speed * SIZE * SIZE * 3 / 1e9:8.2f} GB/s")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=count_cores(), help="(default: all cores)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--jpegs", type=int, default=512, help="number of JPEGs (default: 512)")
    parser.add_argument("--raw", type=int, default=4000, help="raw images per run (default: 4000)")
    parser.add_argument("--runs", type=int, default=7, help="timed runs (default: 7)")
    parser.add_argument("--folder", help="for temporary files (default: the system's)")
    args = parser.parse_args()
    print(f"{alternate.machine(args.workers)}; Pillow {PIL.__version__}; medians of {args.runs}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        measure_jpegs(Path(folder) / "jpegs", args)
        measure_raw(Path(folder) / "jpegs", Path(folder) / "prepared", args)


if __name__ == "__main__":
    main()
