"""The machine's processors and NVIDIA GPUs behind one small interface.

The host's arrays are NumPy's, a GPU's are CuPy's. This is the only file that imports CuPy, and it
does so only when a GPU is asked for or looked for.
"""

from __future__ import annotations

import functools
import importlib
import re
import resource
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pyalexnet.errors import DeviceError

if TYPE_CHECKING:
    import cupy

#: An array of either kind. What is asked of both is small: ``shape``, ``dtype``, ``reshape``,
#: slices that are views.
Array: TypeAlias = "npt.NDArray[Any] | cupy.ndarray"
HostArray: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

#: Bytes at whose multiples host arrays start: a cache line, and the widest vector.
ALIGNMENT = 64


class Device(ABC):
    """Where arrays live and kernels run.

    Attributes
    ----------
    name : "host" or "cuda:<index>"
    lib : the compiled module, `pyalexnet._host` or `pyalexnet._cuda`
    images_multiple : the number of images in an array is a multiple of this
    stream : the CUDA stream of all the device's work, as an integer; 0 on the host
    """

    name: str
    lib: ModuleType
    images_multiple: int
    stream: int

    def pad_images(self, n: int) -> int:
        """`n` rounded up to a multiple of `images_multiple`."""
        return -(-n // self.images_multiple) * self.images_multiple

    def __repr__(self) -> str:
        return f"<device {self.name}>"

    @abstractmethod
    def run(self, kernel: str, *args: Any) -> None:
        """Calls the compiled module's function `kernel` on this device's stream."""

    @abstractmethod
    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-contiguous array whose contents are undefined."""

    @abstractmethod
    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-contiguous array of zeros."""

    @abstractmethod
    def copy_in(self, out: Array, host: HostArray) -> None:
        """Copies `host` into the contiguous `out` of the same shape, converting to its dtype."""

    @abstractmethod
    def download(self, array: Array) -> HostArray:
        """A NumPy copy of `array`, made when all work queued before has been done."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until all queued work has been done."""

    @abstractmethod
    def peak_memory(self) -> int:
        """Bytes that this process has needed at most: resident (host), or held from the GPU."""

    def upload(self, host: npt.ArrayLike) -> Array:
        """A copy of a NumPy array on this device, with the same shape and dtype."""
        source = np.asarray(host)
        out = self.empty(source.shape, source.dtype)
        self.copy_in(out, source)
        return out


class HostDevice(Device):
    """This machine's processors: the kernels of `pyalexnet._host` on its threads."""

    name = "host"
    stream = 0

    def __init__(self) -> None:
        try:
            self.lib = importlib.import_module("pyalexnet._host")
        except ImportError as error:
            source = Path(__file__).parent.parent / "setup.py"
            advice = (
                f"; {source.parent} is the source folder, where nothing has been built: "
                "run 'pip install .' and start from another folder, or 'pip install -e .'"
            )
            raise DeviceError(
                f"the extension pyalexnet._host does not load: {error}"
                + (advice if source.exists() else "")
            ) from error
        self.images_multiple = self.lib.IMAGES_MULTIPLE

    def run(self, kernel: str, *args: Any) -> None:
        getattr(self.lib, kernel)(*args, 0)

    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        return self._aligned(np.empty, shape, np.dtype(dtype))

    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> HostArray:
        return self._aligned(np.zeros, shape, np.dtype(dtype))

    @staticmethod
    def _aligned(allocate: Any, shape: Shape, dtype: np.dtype[Any]) -> HostArray:
        # NumPy itself asks for huge pages under large arrays, but starts them anywhere.
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = allocate(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return np.asarray(memory[start : start + size].view(dtype).reshape(shape))

    def copy_in(self, out: Array, host: HostArray) -> None:
        if host.shape != out.shape:
            raise ValueError(f"host: shape {host.shape}, expected {out.shape}")
        np.copyto(out, host)  # type: ignore[arg-type]

    def download(self, array: Array) -> HostArray:
        return np.array(array)

    def synchronize(self) -> None:
        pass

    def peak_memory(self) -> int:
        status = Path("/proc/self/status")
        if status.exists():  # Linux, whose getrusage would start from what the parent process had
            peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
            if peak:
                return int(peak[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class CudaDevice(Device):
    """An NVIDIA GPU: the kernels of `pyalexnet._cuda` on arrays of CuPy, in one stream."""

    def __init__(self, index: int) -> None:
        problem = cuda_problem(index)
        if problem:
            raise DeviceError(f"device cuda:{index}: {problem}")
        import cupy

        self._cuda: Any = cupy.cuda  # cupy-stubs describes arrays, but hardly this module
        self._empty: Any = cupy.ndarray
        self._device = self._cuda.Device(index)
        with self._device:
            self._stream = self._cuda.Stream()
        self.name = f"cuda:{index}"
        self.stream = self._stream.ptr
        self.lib = importlib.import_module("pyalexnet._cuda")
        self.images_multiple = self.lib.IMAGES_MULTIPLE

    def run(self, kernel: str, *args: Any) -> None:
        with self._device:
            getattr(self.lib, kernel)(*args, self.stream)

    def empty(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> cupy.ndarray:
        # CuPy hands freed memory on to its current stream without waiting for other streams.
        with self._device, self._stream:
            array: cupy.ndarray = self._empty(shape, np.dtype(dtype))
        return array

    def zeros(self, shape: Shape, dtype: npt.DTypeLike = np.float32) -> cupy.ndarray:
        array: Any = self.empty(shape, dtype)
        with self._device:
            array.data.memset_async(0, array.nbytes, self._stream)
        return array  # type: ignore[no-any-return]

    def copy_in(self, out: Any, host: HostArray) -> None:
        with self._device:
            out.set(np.ascontiguousarray(host, out.dtype), stream=self._stream)

    def download(self, array: Any) -> HostArray:
        with self._device:
            return np.asarray(array.get(stream=self._stream))

    def synchronize(self) -> None:
        self._stream.synchronize()

    def peak_memory(self) -> int:
        import cupy

        with self._device:
            # CuPy's pool gives nothing back by itself, so that what it holds is the peak.
            return int(cupy.get_default_memory_pool().total_bytes())  # type: ignore[attr-defined]


def cuda_problem(index: int = 0) -> str:
    """Why `cuda:<index>` cannot be used: the first part that is missing; "" when it can."""
    try:
        lib = importlib.import_module("pyalexnet._cuda")
    except ModuleNotFoundError:
        return (
            "pyalexnet was built without CUDA (no extension pyalexnet._cuda); "
            "install the CUDA toolkit with nvcc and install pyalexnet again"
        )
    except ImportError as error:
        return f"the extension pyalexnet._cuda does not load: {error}"
    count: int = lib.device_count()
    if count == 0:
        return f"no GPU can be used: {lib.device_error() or 'the driver finds none'}"
    if index >= count:
        return f"there is no such GPU; this machine has {count}, cuda:0 to cuda:{count - 1}"
    try:
        import cupy  # noqa: F401
    except ModuleNotFoundError:
        return "CuPy is not installed; pip install 'pyalexnet[cuda13]' (or [cuda12])"
    except ImportError as error:
        return f"CuPy does not load: {error}"
    return ""


@functools.cache
def get(name: str) -> Device:
    """The device called `name`: "host" or "cuda:<index>". The same name gives the same object.

    Raises
    ------
    DeviceError
        No such device can be used; the message says which part is missing.
    """
    if name == "host":
        return HostDevice()
    match = re.fullmatch(r"cuda:(\d+)", name)
    if not match:
        raise DeviceError(f"device {name!r}: expected host or cuda:<index>, as in cuda:0")
    return CudaDevice(int(match[1]))


def default_name() -> str:
    """ "cuda:0" where a GPU can be used, else "host"."""
    return "host" if cuda_problem() else "cuda:0"


def of(array: Array) -> Device:
    """The device that holds `array`.

    Raises
    ------
    TypeError
        `array` is neither NumPy's nor a CUDA array.
    """
    if isinstance(array, np.ndarray):
        return get("host")
    if hasattr(array, "__cuda_array_interface__"):
        owner: Any = array
        return get(f"cuda:{owner.device.id}")
    raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}")
