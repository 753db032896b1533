"""Numbers and names as people read them."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Iterable


def duration(seconds: float) -> str:
    """A time: "42 s", "3 min 5 s", "2 h 10 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def size(count: float) -> str:
    """A number of bytes: "512 bytes", "1.5 GB"."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def version() -> str:
    """The version of the installed package, "unknown" where it is not installed."""
    try:
        return importlib.metadata.version("pyalexnet")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that someone who wrote `name` probably meant; None if none is close."""
    known = list(names)
    beginning = [other for other in known if other.startswith(name)]
    if len(beginning) == 1:
        return beginning[0]
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def printable(name: str) -> str:
    """A name from outside as one line for people: what a terminal should not get is escaped.

    That is control characters, line breaks, marks that turn the direction of writing, and the bytes
    of file names in another encoding: "caf\\xe9".
    """
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte, see os.fsdecode
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def cell(name: str) -> str:
    """A name as a cell of a table: printable, and no formula to a spreadsheet."""
    return f"'{printable(name)}" if name[:1] in tuple("=+-@\t\r") else printable(name)


def shortened(name: str, width: int) -> str:
    """`name` in at most `width` characters: without its last synonyms, else cut off."""
    while len(name) > width and ", " in name:  # as in "tench, Tinca tinca"
        name = name.rpartition(", ")[0]
    return name if len(name) <= width else f"{name[: width - 1].rstrip()}…"
