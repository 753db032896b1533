"""The kernels for NVIDIA GPUs: csrc/bindings.cpp. tests/test_build.py compares."""

from pyalexnet import _host

TARGET: str
IMAGES_MULTIPLE: int

class Kernels(_host.Kernels):
    """The kernels, on one stream of one device."""

    def __init__(self, device: int, stream: int) -> None: ...

def build_info() -> dict[str, str]:
    """What this build was made for and how."""

def device_count() -> int:
    """How many GPUs the driver finds."""

def device_error() -> str:
    """Why there is none; empty when there is nothing wrong."""
