"""What a user can get wrong.

Commands print these errors in one line and exit with status 2; anything else is a bug and shows its
traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """A mistake outside this program; says what the thing was and what was expected."""


class DataError(UserError):
    """A data set that is missing, damaged or not what it claims to be."""


class NetError(UserError):
    """A net that cannot be built: impossible sizes, unknown layers."""


class DeviceError(UserError):
    """A device that does not exist here or cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another net."""
