"""Standard output and error, in whatever state a process has got them.

What is printed tells of the work, and never stops it: a closed pipe, a full disk or a terminal that
has gone ends the printing alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

from pyalexnet.text import printable


def open_standard() -> None:
    """Has all three standard streams be open, and take any text in any locale.

    Where one is closed, the next file to be opened would be taken for it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so this one
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a test's
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Prints a line, or several, if they can be printed; else, and from then on, nothing.

    What a terminal should not get, or the encoding lacks, is escaped.
    """
    stream = sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = "\n".join(map(printable, text.split("\n")))
    shown = shown.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, file=stream, flush=True)
    except (OSError, ValueError):  # ValueError: the stream has been closed
        discard(stream)


def discard(stream: Any) -> None:
    """Has all that is written to a stream vanish, and its last flush succeed."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


class Terminal:
    """Standard error for a progress bar, which ends where the terminal does."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
