"""Numbers and names as people read them."""

from __future__ import annotations


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


def printable(name: str) -> str:
    """A name in which what a terminal should not get is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in name
    )


def shortened(name: str, width: int) -> str:
    """`name` in at most `width` characters: without its last synonyms, else cut off."""
    while len(name) > width and ", " in name:  # as in "tench, Tinca tinca"
        name = name.rpartition(", ")[0]
    return name if len(name) <= width else f"{name[: width - 1].rstrip()}…"
