"""A process of a data-parallel job in tests: a run of `tiny`, with an accident.

    mpirun -n R python helpers/replica.py FOLDER OUTPUT [ACCIDENT RANK STEP] [OPTION=VALUE …]

The accident happens to one replica after a step; RANK -1: to all. Values are JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import tiny
from helpers.target import assign, download
from pyalexnet.commands import common
from pyalexnet.commands import train as train_command
from pyalexnet.data.augmentation import shuffled
from pyalexnet.nn.optim import SGD
from pyalexnet.parallel.communicator import launched
from pyalexnet.training.trainer import train

FOLDER = Path(sys.argv[1])

#: A pipe to which each signal writes a byte.
ARRIVED, _ARRIVING = os.pipe()
os.set_blocking(_ARRIVING, False)


def stop_by_mpirun() -> None:
    """Interrupts mpirun from rank 0; all ranks wait for the signal that it forwards."""
    if rank() == 0:
        os.kill(int(os.environ["MPIRUN_PID"]), signal.SIGINT)
    os.read(ARRIVED, 1)


def fail() -> None:
    raise ZeroDivisionError("a bug")


def damage() -> None:
    """Makes the last image of the second epoch unreadable."""
    [index] = shuffled(5, 1, tiny.TRAIN, [tiny.TRAIN - 1]).tolist()
    label, number = divmod(index, tiny.TRAIN // 3)
    name = f"{3 * number + label:02}.png"
    (FOLDER / "data" / "train" / tiny.CLASSES[label] / name).write_bytes(b"no image")


ACCIDENTS: dict[str, Callable[[], Any]] = {
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "mpirun": stop_by_mpirun,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "fail": fail,
    "damage": damage,
    "weight": lambda: None,  # see `changed_weight`
}


def changed_weight(at: int) -> None:
    """Changes one weight after step `at`."""
    step, done = SGD.step, 0

    def changing(self: SGD) -> None:
        nonlocal done
        step(self)
        done += 1
        if done == at:
            first = self._segments[0].part.weights["conv1.weight"].reshape((-1,))[:1]
            assign(first, download(first) + 1e-7)

    SGD.step = changing  # type: ignore[method-assign]


def rank() -> int:
    place = launched()
    return place.rank if place else 0


def main() -> int:
    _, output, *rest = sys.argv[1:]
    options: dict[str, Any] = {}
    accident, who, at = "", -1, 0
    if rest and rest[0] in ACCIDENTS:
        accident, who, at, *rest = rest[0], int(rest[1]), int(rest[2]), *rest[3:]
    options |= {k: json.loads(v) for k, v in (word.split("=", 1) for word in rest)}
    mine = who in (-1, rank())
    if accident == "weight" and mine:
        changed_weight(at)
    signal.set_wakeup_fd(_ARRIVING)

    def on_step(step: int) -> None:
        if mine and step == at:
            ACCIDENTS[accident]()

    path = FOLDER
    if options.get("resume"):
        given = {"output": str(path / output)} | options
    else:
        given = tiny.options(path) | {"output": str(path / output)} | options

    def run(parsed: dict[str, Any]) -> int:
        return 130 if train(on_step=on_step, **given).interrupted else 0

    return common.run(train_command.parser(), run, [])


if __name__ == "__main__":
    sys.exit(main())
