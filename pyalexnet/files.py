"""Writing files so that a crash, a full disk or a kill leaves the old file or the new one.

Every file that replaces another is written by `replacing`, or `replace` for bytes at hand.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pyalexnet.errors import UserError


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns the system's errors within the block into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of an empty temporary file, which replaces `path` when the block ends well.

    The temporary file lies in the same folder, as ``.<name>.tmp``. It gets the replaced file's
    mode, else the process's default. It is on the disk before it is renamed, and the folder after.
    What a link leads to is replaced, not the link. After an error, `path` is as it was.

    Raises
    ------
    UserError
        The file cannot be written; mostly found before the block begins.
    """
    target = path.expanduser().resolve()
    temporary = target.with_name(f".{target.name}.tmp")
    with naming(path):
        if target.exists() and not target.is_file():
            raise UserError(f"{path}: cannot be written: it exists and is not a regular file")
        temporary.unlink(missing_ok=True)  # of a process that was killed; it may have another mode
        temporary.touch()
        mode = (target if target.exists() else temporary).stat().st_mode
    try:
        yield temporary
        with naming(path):
            temporary.chmod(stat.S_IMODE(mode))
            flush(temporary)
            os.replace(temporary, target)
            flush(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def opened_for_replacing(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """As `replacing`, but gives an open file.

    Text is UTF-8, but for file names in another encoding, whose bytes stay as they are.
    """
    text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    with replacing(path) as temporary:
        with naming(path):
            file = temporary.open("wb") if binary else temporary.open("w", **text)
        try:
            yield file
            with naming(path):
                file.close()
        finally:
            with contextlib.suppress(OSError):
                file.close()


def replace(path: Path, content: bytes) -> None:
    """Replaces a file by `content`; errors as `replacing`."""
    with replacing(path) as temporary, naming(path):
        temporary.write_bytes(content)


def flush(path: Path) -> None:
    """Waits until the disk holds a file's content, or a folder's names.

    Not all file systems can do that for folders; there it does nothing.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(number)
