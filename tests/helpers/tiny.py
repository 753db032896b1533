"""Small nets, batches, data sets and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from helpers import target
from pyalexnet.model import Model
from pyalexnet.nn.layers import LRN, Add, Concat, Conv, Dropout, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

if TYPE_CHECKING:
    from pyalexnet.training.trainer import Outcome

CLASSES = ("blue", "green", "red")
TRAIN, VAL = 30, 12  # images; TRAIN is no multiple of BATCH
BATCH, STEPS = 8, 4

NET = Net(
    "tiny",
    input=(3, 8, 8),
    normalization=Normalization(scale=1 / 64),
    layers=(Conv(8, 3, pad=1), MaxPool(2, 2), Linear(16), Dropout(), Linear(3, activation="")),
)

#: "trunk" is read by three layers; "right" is part of two concatenations.
BRANCHED = Net(
    "branched",
    input=(3, 9, 8),
    normalization=Normalization(scale=1 / 64),
    layers=(
        Conv(8, 3, pad=1, activation="tanh", name="stem"),
        LRN(size=3, k=1.0, alpha=0.5),
        MaxPool(3, 2, name="trunk"),
        Conv(8, 3, pad=1, activation="", name="left"),
        Conv(4, 1, activation="tanh", inputs=("trunk",), name="right"),
        Add("relu", inputs=("trunk", "left"), name="sum"),
        Concat(inputs=("sum", "right"), name="both"),
        Conv(6, 3, pad=1, activation="tanh", name="narrow"),
        Concat(inputs=("right", "narrow"), name="again"),
        Dropout(0.3, name="drop"),
        Linear(12, activation="tanh", inputs=("drop",), name="hidden"),
        Linear(3, activation="", name="logits"),
    ),
)


def batch(net: Net, count: int, seed: int = 0, stored: int = 2) -> tuple[Any, Any, Any]:
    """Makes images `stored` pixels larger than the net's input, labels, and crops within them."""
    rng = np.random.default_rng(seed)
    channels, height, width = net.input
    shape = (height + stored, width + stored, channels)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(0, net.classes, count).astype(np.int32)
    crops = np.stack([rng.integers(0, stored + 1, count)] * 2 + [rng.integers(0, 2, count)], 1)
    return images, labels, crops.astype(np.int32)


def model(net: Net, size: int, seed: int = 0, stored: int = 2, devices: str | None = None) -> Model:
    """Makes a model for `batch`: its mean image is 120 everywhere."""
    made = Model(net, devices or target.NAME, size, seed=seed)
    channels, height, width = net.input
    made.set_mean_image(np.full((height + stored, width + stored, channels), 120, np.float32))
    return made


def write_data(folder: Path) -> Path:
    """Write train/ and val/ with noisy pictures (12, 12) of three colours."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for i in range(count):
            pixels = rng.integers(0, 160, (12, 12, 3))
            pixels[..., 2 - i % 3] += 60
            path = folder / split / CLASSES[i % 3] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def write_net(path: Path, net: Net = NET) -> Path:
    path.write_text(net.to_json())
    return path


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Options for `train` on what this writes into `folder` when it is not there yet."""
    if not (folder / "data").exists():
        write_data(folder / "data")
        write_net(folder / "tiny.json")
    return {
        "net": str(folder / "tiny.json"),
        "data": f"folder:{folder / 'data'}",
        "image_size": 10,
        "device": target.NAME,
        "batch_size": BATCH,
        "epochs": 3,
        "schedule": "plateau:1",
        "seed": 5,
        "workers": 0,
    } | more


def run(folder: Path, output: str = "run", **more: Any) -> Outcome:
    """Train with `options`, into a folder beside the data."""
    from pyalexnet.training.trainer import train  # tests of nets alone need no training

    return train(output=str(folder / output), **options(folder, **more))


def records(run: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics, without what depends on time and machine."""
    file = run / "metrics.jsonl"
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    timed = {"seconds", "images_per_second", "data_seconds", "data_share"}
    timed |= {"date", "host", "version"}
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]
