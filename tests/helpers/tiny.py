"""A data set, a net and runs that take a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers import target
from pyalexnet.layers import Conv, Dropout, Linear, MaxPool
from pyalexnet.nets import Net
from pyalexnet.train import Outcome, train

CLASSES = ("blue", "green", "red")
TRAIN, VAL = 30, 12  # images; TRAIN is no multiple of BATCH
BATCH, STEPS = 8, 4

NET = Net(
    "tiny",
    input=(3, 8, 8),
    scale=1 / 64,
    layers=(Conv(8, 3, pad=1), MaxPool(2, 2), Linear(16), Dropout(), Linear(3, activation="")),
)


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
        "devices": target.NAME,
        "batch": BATCH,
        "epochs": 3,
        "schedule": "stall:1",
        "seed": 5,
        "workers": 0,
        "magnitudes": False,
    } | more


def run(folder: Path, output: str = "run", **more: Any) -> Outcome:
    """Train with `options`, into a folder beside the data."""
    return train(output=str(folder / output), **options(folder, **more))


def records(run: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's metrics, without what depends on time."""
    file = run / "metrics.jsonl"
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    timed = ("seconds", "images_per_second", "waited", "waited_share")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]
