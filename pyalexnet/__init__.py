"""AlexNet from hand-written kernels up: one CUDA source that runs on NVIDIA GPUs and on CPUs.

=================  ==============================================================
`Model`            a net with its weights, on one device or two
`Net` `nets`       a net as data; the architectures that come along
`SGD`              the optimiser
`ops`              the kernels as functions on arrays
`open_dataset`     images from disk, or drawn; `mean_image`, `random_crops`
`Loader`           batches of them, read ahead
`load` `save`      models to files and back; `load(FILE)(images)` are probabilities
`train` `evaluate` `predict`   what the commands do, as functions
`devices`          the names of the devices that can be used here
=================  ==============================================================

Folders: `device`, `nn`, `parallel`, `data`, `training`, `evaluation`, `commands`. Imports go one
way: commands → evaluation → training → model → parallel → nn → ops → device.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyalexnet import ops
    from pyalexnet.data import Loader, mean_image, open_dataset
    from pyalexnet.data.augmentation import random_crops
    from pyalexnet.device import usable as devices
    from pyalexnet.evaluation.classifier import load
    from pyalexnet.evaluation.evaluate import evaluate
    from pyalexnet.evaluation.predict import predict
    from pyalexnet.model import Model
    from pyalexnet.nn import zoo as nets
    from pyalexnet.nn.net import Net
    from pyalexnet.nn.optim import SGD
    from pyalexnet.training.checkpoint import save_model as save
    from pyalexnet.training.trainer import train

__all__ = [
    "SGD",
    "Loader",
    "Model",
    "Net",
    "__version__",
    "devices",
    "evaluate",
    "load",
    "mean_image",
    "nets",
    "open_dataset",
    "ops",
    "predict",
    "random_crops",
    "save",
    "train",
]

#: Where the public names are. They are imported when they are first used, so that a command, or a
#: process that reads images, loads only what it needs.
_PLACES = {
    "SGD": "nn.optim:SGD",
    "Loader": "data:Loader",
    "Model": "model:Model",
    "Net": "nn.net:Net",
    "devices": "device:usable",
    "evaluate": "evaluation.evaluate:evaluate",
    "load": "evaluation.classifier:load",
    "mean_image": "data:mean_image",
    "nets": "nn.zoo:",
    "open_dataset": "data:open_dataset",
    "ops": "ops:",
    "predict": "evaluation.predict:predict",
    "random_crops": "data.augmentation:random_crops",
    "save": "training.checkpoint:save_model",
    "train": "training.trainer:train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version(__name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    found = importlib.import_module(f"{__name__}.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted(__all__)
