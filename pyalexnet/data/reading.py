"""Reads files that a run cannot do without, while a file server may be away for a moment."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyalexnet.errors import DataError, MachineError
from pyalexnet.files import open_regular, read_at_most

WAITS = (0.1, 1.0, 5.0)  #: seconds before each further attempt

_FILE_BYTES = 1 << 30  # of an image at most; 89 million pixels of 16-bit RGBA have fewer

T = TypeVar("T")


class BadImage(DataError):
    """An image whose content cannot be decoded."""


class ReadFault(MachineError, DataError):
    """A file that was there and that the system does not give: no damage of the data."""


def insist(path: Path, read: Callable[[], T]) -> T:
    """Returns the result of `read`, which is tried again after errors of the system.

    Raises
    ------
    ReadFault
        All attempts failed; the message names `path`.
    """
    for wait in WAITS:
        try:
            return read()
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.EINVAL):  # no regular file: it stays so
                break
        time.sleep(wait)
    try:
        return read()
    except OSError as error:
        raise ReadFault(f"{path}: cannot be read: {error.strerror or error}") from error


def image_content(path: Path) -> bytes:
    """Returns the bytes of an image file.

    Raises
    ------
    OSError
        It cannot be read, or is no regular file.
    BadImage
        It is too large for an image.
    """
    with open_regular(path) as file:
        content = read_at_most(file, _FILE_BYTES + 1)
    if len(content) > _FILE_BYTES:
        raise BadImage(f"{path}: has more than {_FILE_BYTES:,} bytes; expected at most so many")
    return content
