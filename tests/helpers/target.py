"""The devices under test: those that `pytest --device` names, by default the host.

conftest.py sets them before test modules are imported. Processes that tests start inherit them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pyalexnet import device as devices
from pyalexnet.device import Array, Device
from pyalexnet.errors import DeviceError

#: The environment variable with their names.
VARIABLE = "PYALEXNET_TEST_DEVICES"

#: One or two names, such as ["host"] or ["cuda:0", "cuda:1"].
NAMES = os.environ.get(VARIABLE, "host").split(",")
#: The device for tests that need one.
NAME = NAMES[0]
#: The devices for tests that need two: both, or the only one twice.
PAIR = f"{NAME},{NAMES[-1]}"
IS_HOST = NAME == "host"
#: Whether the GPUs are emulated: every access is checked, and AlexNet's step takes minutes.
EMULATED = not IS_HOST and "EMU_LIBRARY" in os.environ

if TYPE_CHECKING:
    #: The device NAME.
    DEVICE: Device


def __getattr__(name: str) -> Any:
    if name == "DEVICE":  # opened on first use, not in every process
        return devices.get(NAME)
    raise AttributeError(name)


def check() -> None:
    """Raises DeviceError unless one or two devices of one kind are named and usable."""
    if len(NAMES) > 2 or len({devices.get(name).name[:4] for name in NAMES}) > 1:
        raise DeviceError(f"devices {','.join(NAMES)}: expected one, or two of a kind")


def download(array: Array) -> np.ndarray:
    """Copies a device's array to NumPy."""
    return devices.of(array).download(array)


def assign(array: Array, values: Any) -> None:
    """Sets a device's array, as array[...] = values does with NumPy."""
    devices.of(array).copy_in(array, np.broadcast_to(np.asarray(values), array.shape))
