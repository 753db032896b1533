"""Waits in the program under test, by source line.

``EMU_DROP_WAIT=FILE:LINE`` disables the waits on that line. ``EMU_LIST_WAITS=FILE`` appends every
line that waits to a file, once per process. mutate.py lists the waits, then drops them one at a
time.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_dropped = os.environ.get("EMU_DROP_WAIT", "")
_list = os.environ.get("EMU_LIST_WAITS", "")
_listed: set[str] = set()


def place(frame: FrameType) -> str:
    """Return the source line that a frame executes, as ``pyalexnet/device.py:12``.

    The path is relative to the module's import folder.
    """
    path = Path(frame.f_code.co_filename)
    module = frame.f_globals.get("__name__", "")
    depth = module.count(".") + 1 + (path.stem == "__init__")
    return f"{'/'.join(path.parts[-depth:])}:{frame.f_lineno}"


def wait(function: F) -> F:
    """Make a method honour `EMU_DROP_WAIT` and `EMU_LIST_WAITS`."""
    if not _dropped and not _list:
        return function

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        line = place(sys._getframe(1))
        if _list and line not in _listed:
            _listed.add(line)
            with open(_list, "a") as file:
                file.write(line + "\n")
        if _dropped and f"/{line}".endswith(f"/{_dropped}"):
            return None
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]
