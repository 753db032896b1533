"""Initialisation: how much of the difference between images survives, and the first losses.

    python benchmarks/initial_weights.py                           # alexnet, alexnet-he; minutes
    python benchmarks/initial_weights.py --enlarge 4 --steps 300   # on images of 128×128
    python benchmarks/initial_weights.py --nets alexnet-code alexnet-caffe --steps 0

The images are the built-in shapes, enlarged, by default to 224×224. A net that cannot tell images
apart has a loss of ln 10 = 2.30 with ten classes, and of ln 1000 = 6.91 with ImageNet. All nets see
the same batches, in turns.

"Varies" is the standard deviation of a layer's outputs over images, relative to their root mean
square.
"""

from __future__ import annotations

import argparse
import math

import alternate
import numpy as np
from numpy.typing import NDArray

from pyalexnet import device as devices
from pyalexnet.data.augmentation import centre_crops
from pyalexnet.data.sources.shapes import draw
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Conv, Linear
from pyalexnet.nn.optim import SGD

CLASSES = 10  # image i shows shape i % 10


def images(start: int, stop: int, times: int) -> NDArray[np.uint8]:
    """Returns built-in training images, each pixel repeated `times` in rows and columns."""
    return draw(0, "train", start, stop).repeat(times, axis=1).repeat(times, axis=2)


class Run:
    """Trains a net with the paper's SGD."""

    def __init__(self, name: str, device: str, batch: int, mean: NDArray[np.float32]) -> None:
        rows, columns, channels = mean.shape
        self.net = zoo.get(name, input=(channels, rows, columns), classes=CLASSES)
        self.model = Model(self.net, device, batch)
        self.model.set_mean_image(mean)
        self.optimizer = SGD(self.model)
        self.crops = centre_crops(batch, (rows, columns), (rows, columns))

    def variation(self, batch: NDArray[np.uint8]) -> dict[str, float]:
        """Returns by layer with weights the share of its output that varies over images."""
        self.model.logits(batch, self.crops)
        [part] = self.model.parts
        shares = {}
        for name, layer, own in zip(self.net.names, self.net.layers, part.layers, strict=True):
            if isinstance(layer, Conv | Linear):
                y = part.device.download(own.y)[..., : len(batch)].astype(np.float64)
                shares[name] = float(np.sqrt(y.var(axis=-1).mean() / np.square(y).mean()))
        return shares

    def step(self, step: int, batch: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
        """Trains on a batch."""
        self.model.forward_backward(batch, labels, self.crops, seed=0, step=step)
        self.optimizer.step()


def main() -> None:
    """Prints two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", default=["alexnet", "alexnet-he"])
    parser.add_argument("--device", default="host")
    parser.add_argument("--enlarge", type=int, default=7, help="multiple of 32 pixels (default: 7)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--every", type=int, default=10, help="steps that one line averages")
    args = parser.parse_args()
    mean = images(0, 1000, args.enlarge).mean(axis=0, dtype=np.float32)
    runs = [Run(name, args.device, args.batch, mean) for name in args.nets]
    where = args.device
    if where == "host":
        where = alternate.machine(devices.get("host").lib.threads())
    size = "×".join(map(str, mean.shape))
    print(f"{where}, {args.batch} images of {size} a step; ln {CLASSES} = {math.log(CLASSES):.2f}")
    table = [run.variation(images(0, args.batch, args.enlarge)) for run in runs]
    print("\n| varies |", " | ".join(args.nets), "|\n|---|" + "---|" * len(runs))
    for layer in table[0]:
        print(f"| {layer} |", " | ".join(f"{100 * row[layer]:.1f} %" for row in table), "|")
    print("\n| loss of steps |", " | ".join(args.nets), "|\n|---|" + "---|" * len(runs))
    for step in range(args.steps):
        start = step * args.batch
        batch = images(start, start + args.batch, args.enlarge)
        labels = (np.arange(start, start + args.batch) % CLASSES).astype(np.int32)
        for run in runs:
            run.step(step, batch, labels)
        if (step + 1) % args.every == 0:
            losses = [f"{run.model.pop_metrics().loss:.3f}" for run in runs]
            print(f"| {step + 2 - args.every} to {step + 1} |", " | ".join(losses), "|", flush=True)


if __name__ == "__main__":
    main()
