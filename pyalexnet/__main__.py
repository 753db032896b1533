"""``python -m pyalexnet COMMAND …``: the commands where their scripts are not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from pyalexnet.text import version

#: By name: the module in `pyalexnet.commands`, and what the command does.
COMMANDS = {
    "train": ("train", "trains a net (pyalexnet-train)"),
    "eval": ("evaluate", "evaluates checkpoints on validation images (pyalexnet-eval)"),
    "predict": ("predict", "classifies image files (pyalexnet-predict)"),
    "prepare": ("prepare", "prepares ImageNet for training (pyalexnet-prepare)"),
    "info": ("info", "prints the build, and the devices usable here"),
}

_PROGRAM = "python -m pyalexnet"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; without arguments, lists all."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {_PROGRAM} COMMAND …, or COMMAND --help for its options\n")
        for name, (_, does) in COMMANDS.items():
            print(f"  {name:9}{does}")
        return 0
    if words[0] == "--version":
        print(f"pyalexnet {version()}")
        return 0
    if words[0] not in COMMANDS:
        names = ", ".join(COMMANDS)
        print(
            f"{_PROGRAM}: error: command is {words[0]!r}; expected one of {names}", file=sys.stderr
        )
        return 2
    module, _ = COMMANDS[words[0]]
    status: int = import_module(f"pyalexnet.commands.{module}").main(words[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
