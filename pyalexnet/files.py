"""Reading and writing files so that no fault of theirs, or of the machine, costs more than a line.

Writing: a crash, a full disk or a kill leaves the old file or the new one. Every file that replaces
another is written by `replacing`, or `replace` for bytes at hand.

Reading: a path may lead to anything, and a file hold anything. `open_regular` never waits, and
`read_bytes`, `read_json` and `read_toml` take bounded memory. All errors are a UserError that names
the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn

from pyalexnet.errors import DataError, MachineError, UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: What a user cannot mend by naming another file.
_OF_MACHINE = {
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EAGAIN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EREMOTEIO,
}

_TEMPORARY = re.compile(r"\.pyalexnet-[0-9a-f]{16}\.tmp")
LOCK = ".pyalexnet.lock"  #: the file in a folder that `locked` locks

_TEXT_BYTES = 1 << 26  # of a JSON or TOML file at most; a net or a recipe has a few thousand
_TRIES = 100  # to make a file that no other process removes
_NESTED = 64  # objects and lists within each other at most


def expanded(path: str | Path) -> Path:
    """The path, with "~" and "~user" replaced by the user's folder.

    Raises
    ------
    UserError
        There is no such user, or the path is empty or has a null character.
    """
    if path == "":  # such as an unset variable of a shell
        raise UserError("path is ''; expected a file or folder")
    if "\0" in str(path):
        raise UserError(f"path {path}: has a null character; expected none")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise UserError(f"path {path}: there is no user {user[1:]}; expected one, or ./~") from None


def failure(error: OSError, message: str, kind: type[UserError] = UserError) -> UserError:
    """The error to raise for one of the system's: MachineError if the machine is at fault."""
    if error.errno in _OF_MACHINE and not issubclass(kind, MachineError):
        kind = MachineError
    return kind(f"{message}: {error.strerror or error}")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns the system's errors while writing into a UserError or MachineError naming `path`."""
    try:
        yield
    except OSError as error:
        raise failure(error, f"{path}: cannot be written") from error


@contextlib.contextmanager
def reading(path: Path, kind: type[UserError] = DataError) -> Iterator[None]:
    """Turns the system's errors while reading into a `kind` or MachineError naming `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"{path}: no such file") from error
    except OSError as error:
        raise failure(error, f"{path}: cannot be read", kind) from error


def open_regular(path: Path) -> BinaryIO:
    """Opens what a path leads to for reading, if that is a regular file, without ever waiting.

    Raises
    ------
    OSError
        It cannot be opened; or it is a pipe, which could be waited for for ever, a device, a
        socket or a folder.
    """
    _check_regular(os.stat(path), path)
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(number), path)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _check_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder; expected a file", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path, limit: int, kind: type[UserError] = DataError) -> bytes:
    """All of a file of at most `limit` bytes.

    Raises
    ------
    `kind` or MachineError
        It cannot be read, or is larger; the message names it.
    """
    with reading(path, kind), open_regular(path) as file:
        content = read_at_most(file, limit + 1)
    if len(content) > limit:
        raise kind(f"{path}: has more than {limit:,} bytes; expected at most so many")
    return content


def read_at_most(file: BinaryIO, count: int) -> bytes:
    """The first `count` bytes of an open file, or all where it has fewer.

    Its own `read` allocates all of `count` before it reads.
    """
    return file.read(min(count, os.fstat(file.fileno()).st_size + 1))


def read_json(path: Path, kind: type[UserError] = DataError, limit: int = _TEXT_BYTES) -> Any:
    """The value in a JSON file; errors as `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, limit, kind), str(path), kind)


def parse_json(text: str | bytes, name: str, kind: type[UserError] = DataError) -> Any:
    """The value of a JSON text.

    Raises
    ------
    `kind`
        It is not JSON in UTF-8, holds NaN, infinity or a number beyond a double's, or is nested too
        deeply; the message begins with `name`.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise kind(f"{name}: damaged, or not JSON: {_words(error)}") from error
    _check_nesting(value, name, kind)
    return value


def read_toml(path: Path, kind: type[UserError] = DataError) -> dict[str, Any]:
    """The tables of a TOML file; errors as `read_json`."""
    content = read_bytes(path, _TEXT_BYTES, kind)
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise kind(f"{path}: damaged, or not TOML: {_words(error)}") from error
    _check_nesting(tables, str(path), kind)
    return tables


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _words(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _check_nesting(value: Any, name: str, kind: type[UserError]) -> None:
    level: list[Any] = [[value]]  # one level more than its own
    for _ in range(_NESTED + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [child for one in inner for child in one if isinstance(child, dict | list)]
        if not level:
            return
    raise kind(f"{name}: damaged: nested too deeply; expected at most {_NESTED} levels")


def check_targets(targets: Mapping[str, str | Path | None], inputs: Iterable[str | Path]) -> None:
    """Checks that no file to write is one that is read.

    Parameters
    ----------
    targets : dict of str to path
        Files to write by the option's name; None where there is none.
    inputs : iterable of path
        Files and folders that are read. A file within such a folder may be replaced only if it
        cannot be one of the data: *.csv, *.txt, *.pdf.

    Raises
    ------
    UserError
        One of `targets` is one of `inputs`, lies within one of them, or is another target.
    """
    given = {name: expanded(path) for name, path in targets.items() if path is not None}
    names = list(given)
    for i, name in enumerate(names):
        for other in names[:i]:
            if same(given[name], given[other]):
                raise UserError(f"{other} and {name} are both {given[name]}; expected two files")
    for source in map(expanded, inputs):
        for name, path in given.items():
            within = path.suffix.lower() not in (".csv", ".txt", ".pdf") and path.exists()
            if same(path, source) or (within and real(source) in real(path).parents):
                raise UserError(f"{name} {path}: is one of the inputs; expected another file")


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file or folder, which need not exist."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return real(one) == real(other)


def real(path: Path) -> Path:
    """The absolute path without symbolic links, as far as there are any that lead somewhere."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def replacing(path: Path, *, text: bool = False) -> Iterator[IO[Any]]:
    """Gives an open file, which replaces `path` when the block ends well.

    It is a temporary file in the same folder, of a name that nobody can foretell. It gets the
    replaced file's mode, else the process's default. It is on the disk before it is renamed. What a
    link leads to is replaced, not the link. After an error, `path` is as it was. What killed
    processes left in the folder is removed. The block names its own errors, see `naming`.

    Parameters
    ----------
    path : Path
    text : bool
        The file takes text: UTF-8, but for file names in another encoding, whose bytes stay as
        they are.

    Raises
    ------
    UserError, MachineError
        The file cannot be written; mostly found before the block begins.
    """
    with naming(path):
        target = real(expanded(path))
        if os.path.lexists(target) and not target.is_file():  # which may be a link to itself
            raise UserError(f"{path}: cannot be written: it exists and is not a regular file")
        remove_leftovers(target.parent)
        temporary, number = _make_temporary(target.parent)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(naming(path))
            file: IO[Any] = stack.enter_context(os.fdopen(number, "w+b"))
            with contextlib.suppress(OSError):
                os.fchmod(number, stat.S_IMODE(target.stat().st_mode))
            if text:
                errors = "surrogateescape"
                file = stack.enter_context(
                    io.TextIOWrapper(file, encoding="utf-8", errors=errors, newline="")
                )
            later = stack.pop_all()  # an error in the block may be another file's
        try:
            yield file
        except BaseException:
            with contextlib.suppress(UserError):
                later.close()
            raise
        with later:
            file.flush()
            _flush(number)
            os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_temporary(folder: Path) -> tuple[Path, int]:
    """A new file, locked where the file system can do that, and its descriptor."""
    for _ in range(_TRIES):
        path = folder / f".pyalexnet-{secrets.token_hex(8)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(path, flags, 0o666)
        with contextlib.suppress(OSError):
            fcntl.flock(number, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return path, number
        os.close(number)  # another process has taken it for a leftover before it was locked
    raise OSError(errno.EAGAIN, "new files are removed at once")


def replace(path: Path, content: bytes) -> None:
    """Replaces a file by `content`; errors as `replacing`."""
    with replacing(path) as file, naming(path):
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left: temporary files of `replacing` that none has locked."""
    with contextlib.suppress(OSError):
        for name in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError):
                number = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / name)
                finally:
                    os.close(number)


def is_passing(name: str) -> bool:
    """Whether a file's name is that of a temporary file of `replacing` or of `locked`'s lock."""
    return name == LOCK or _TEMPORARY.fullmatch(name) is not None


def _flush(number: int) -> None:
    """Waits until the disk holds an open file's content, where the file system can do that."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def _flush_folder(folder: Path) -> None:
    """Waits until the disk holds a folder's names; the files are written where it cannot."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into a folder; the lock ends with the process.

    The lock is on the file ``.pyalexnet.lock``, as network file systems lock no folders. The file
    is removed at the end. On a file system without locks, it keeps nobody out.

    Raises
    ------
    UserError
        Another process has locked the folder, or it cannot be written.
    """
    path = folder / LOCK
    try:
        number = _lock(path)
    except OSError as error:
        raise failure(error, f"output folder {folder}: cannot be written") from error
    if number is None:
        raise UserError(f"output folder {folder}: another process is writing to it")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(number)


def _lock(path: Path) -> int | None:
    """A descriptor of the locked file; None if another process has locked it."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        number = os.open(path, flags, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return None
        except OSError:  # the file system does not lock
            return number
        # Between opening and locking, its last owner may have removed it.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), os.stat(path)):
                return number
        os.close(number)
