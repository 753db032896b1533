"""Errors that users or their machines cause.

Commands print them in one line and exit with status 2, or 1 for MachineError. Any other exception
is a bug and shows its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake; the message says what was given and what was expected."""


class MachineError(UserError):
    """A fault of the machine: no memory, a full disk, a file server that does not answer."""


class DataError(UserError):
    """A data set that is missing, damaged or not what it claims to be."""


class NetError(UserError):
    """A net that cannot be built: impossible sizes, unknown layers."""


class DeviceError(UserError):
    """A device that does not exist here or cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another net."""


#: What only a fault of the machine, or input that nobody foresaw, can raise.
UNFORESEEN = (MemoryError, OSError, RecursionError, OverflowError, UnicodeError)


def described(error: BaseException) -> str:
    """One of `UNFORESEEN` as a message: "not enough memory", "FILE: Input/output error"."""
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(str(error))}{error}"
    if isinstance(error, OSError):
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([*names, error.strerror or str(error)])
    return f"{type(error).__name__}: {error}"
