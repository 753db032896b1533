"""Trained nets whose probabilities are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyalexnet.device import Device
from pyalexnet.errors import CheckpointError
from pyalexnet.model import Model
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training.checkpoint import Checkpoint


class Member(NamedTuple):
    """A trained net, alone or one of several whose probabilities are averaged."""

    path: Path
    model: Model
    checkpoint: Checkpoint  #: without weights and optimiser state


def load_members(paths: Sequence[Path], devices: Sequence[Device], batch_size: int) -> list[Member]:
    """Loads the models of checkpoints, all on the same devices.

    Raises
    ------
    CheckpointError
        As `checkpoint.load`, or two have different classes; the message names the difference.
    """
    members: list[Member] = []
    for path in paths:
        checkpoint = checkpoints.load(path)
        model = checkpoints.open_model(path, checkpoint, devices, batch_size)
        members.append(Member(path, model, dataclasses.replace(checkpoint, model={}, optimiser={})))
        first = members[0]
        difference = checkpoints.class_difference(checkpoint.classes, first.checkpoint.classes)
        if difference:
            raise CheckpointError(
                f"{path}: classes differ from those of {first.path}: {difference}"
            )
    return members
