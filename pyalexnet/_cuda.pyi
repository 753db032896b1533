"""Kernels for NVIDIA GPUs (csrc/bindings.cpp). tests/test_build.py compares."""

from pyalexnet import _host

TARGET: str
IMAGES_MULTIPLE: int
FEW_IMAGES: int

class Kernels(_host.Kernels):
    """The kernels, on one stream of one device."""

    def __init__(self, device: int, stream: int) -> None: ...

def build_info() -> dict[str, str]:
    """Describes this build: version, architectures, compilers, vectors."""

def device_count() -> int:
    """Returns the number of GPUs."""

def device_error() -> str:
    """Returns CUDA's error if there are no GPUs, else ''."""
