"""Trained nets whose probabilities are averaged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pyalexnet.device import Device
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.files import expanded
from pyalexnet.model import Model
from pyalexnet.training.checkpoint import Checkpoint, class_difference, load, open_model


class Member(NamedTuple):
    """A trained net, alone or one of several whose probabilities are averaged."""

    path: Path
    model: Model
    checkpoint: Checkpoint  #: without weights and optimiser state


def listed(checkpoints: str | Path | Sequence[str | Path]) -> list[Path]:
    """The paths of one checkpoint or several; UserError if there is none."""
    paths = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)
    if not paths:
        raise UserError("checkpoints is empty; expected at least one")
    return [expanded(path) for path in paths]


def load_members(
    checkpoints: str | Path | Sequence[str | Path], devices: Sequence[Device], batch_size: int
) -> list[Member]:
    """Loads the models of checkpoints, all on the same devices.

    Raises
    ------
    UserError
        There is none.
    CheckpointError
        As `checkpoint.load`, or two have different classes; the message names the difference.
    """
    members: list[Member] = []
    for path in listed(checkpoints):
        checkpoint = load(path)
        model = open_model(path, checkpoint, devices, batch_size)
        members.append(Member(path, model, dataclasses.replace(checkpoint, model={}, optimiser={})))
        first = members[0]
        difference = class_difference(checkpoint.classes, first.checkpoint.classes)
        if difference:
            raise CheckpointError(
                f"{path}: classes differ from those of {first.path}: {difference}"
            )
    return members
