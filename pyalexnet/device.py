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

    from pyalexnet._host import Kernels

#: An array of either kind. What is asked of both is small: ``shape``, ``dtype``, ``nbytes``,
#: ``reshape``, slices that are views.
Array: TypeAlias = "npt.NDArray[Any] | cupy.ndarray"
HostArray: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
#: A place in a device's queue of work; None on the host, whose work is done when a call returns.
Event: TypeAlias = Any

#: Bytes at whose multiples host arrays start: a cache line, and the widest vector.
ALIGNMENT = 64


class Device(ABC):
    """Where arrays live and kernels run.

    Attributes
    ----------
    name : "host" or "cuda:<index>"
    lib : the compiled module, `pyalexnet._host` or `pyalexnet._cuda`
    kernels : its kernels, launched on the stream of all the device's work
    images_multiple : the number of images in an array is a multiple of this
    """

    name: str
    lib: ModuleType
    kernels: Kernels
    images_multiple: int

    def pad_images(self, n: int) -> int:
        """`n` rounded up to a multiple of `images_multiple`."""
        return -(-n // self.images_multiple) * self.images_multiple

    def __repr__(self) -> str:
        return f"<device {self.name}>"

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
    def place(self, host: HostArray, buffer: Array) -> Array:
        """`host` where kernels can read it: itself on the host, else its copy in `buffer`."""

    @abstractmethod
    def fetch(
        self, out: Array, source: Array, owner: Device, after: tuple[Event, Event] = (None, None)
    ) -> None:
        """Copies `source`, an array of the device `owner`, into this device's `out`, contiguous.

        The copy begins behind the marks `after`, of this device and of `owner`: by default, behind
        all that has been queued. What is queued later on either device waits for it.
        """

    @abstractmethod
    def mark(self) -> Event:
        """A mark behind all work that has been queued."""

    @abstractmethod
    def wait(self, mark: Event) -> None:
        """Waits until the work before a mark has been done."""

    @abstractmethod
    def pin(self, memory: HostArray) -> None:
        """Has the driver keep host memory in place, so that copies from it run by themselves."""

    @abstractmethod
    def unpin(self, memory: HostArray) -> None:
        """Undoes `pin`."""

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

    def __init__(self) -> None:
        try:
            import pyalexnet._host as _host
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
        self.lib = _host
        self.kernels = _host.Kernels()
        self.images_multiple = _host.IMAGES_MULTIPLE

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

    def place(self, host: HostArray, buffer: Array) -> Array:
        return np.ascontiguousarray(host)

    def fetch(
        self, out: Array, source: Array, owner: Device, after: tuple[Event, Event] = (None, None)
    ) -> None:
        np.copyto(out, source)  # type: ignore[arg-type]

    def mark(self) -> Event:
        return None

    def wait(self, mark: Event) -> None:
        pass

    def pin(self, memory: HostArray) -> None:
        pass

    def unpin(self, memory: HostArray) -> None:
        pass

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

        import pyalexnet._cuda as _cuda

        self._cuda: Any = cupy.cuda  # cupy-stubs describes arrays, but hardly this module
        self._empty: Any = cupy.ndarray
        self._device = self._cuda.Device(index)
        with self._device:
            self._stream = self._cuda.Stream()
            self._copies = self._cuda.Stream()  # those that `fetch` makes
        self._reached = {index}
        self.name = f"cuda:{index}"
        self.lib = _cuda
        self.kernels = _cuda.Kernels(index, self._stream.ptr)
        self.images_multiple = _cuda.IMAGES_MULTIPLE

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
            out.set(np.asarray(host, out.dtype, order="C"), stream=self._stream)

    def download(self, array: Any) -> HostArray:
        with self._device:
            return np.asarray(array.get(stream=self._stream))

    def place(self, host: HostArray, buffer: Any) -> cupy.ndarray:
        out: cupy.ndarray = buffer[: len(host)]
        self.copy_in(out, host)
        return out

    def fetch(
        self, out: Any, source: Any, owner: Device, after: tuple[Event, Event] = (None, None)
    ) -> None:
        assert isinstance(owner, CudaDevice)
        runtime, peer = self._cuda.runtime, owner._device.id
        with self._device:
            if peer not in self._reached:  # without, the driver copies by way of the host
                self._reached.add(peer)
                if runtime.deviceCanAccessPeer(self._device.id, peer):
                    runtime.deviceEnablePeerAccess(peer)
            self._copies.wait_event(after[0] or self.mark())
            self._copies.wait_event(after[1] or owner.mark())
            places = (out.data.ptr, self._device.id, source.data.ptr, peer)
            runtime.memcpyPeerAsync(*places, source.nbytes, self._copies.ptr)
            done = self._cuda.Event(disable_timing=True)
            done.record(self._copies)
            self._stream.wait_event(done)
        with owner._device:
            owner._stream.wait_event(done)

    def mark(self) -> Event:
        with self._device:
            event = self._cuda.Event(disable_timing=True)
            event.record(self._stream)
        return event

    def wait(self, mark: Event) -> None:
        mark.synchronize()

    def pin(self, memory: HostArray) -> None:
        with self._device:
            self._cuda.runtime.hostRegister(memory.ctypes.data, memory.nbytes, 1)  # 1: for all GPUs

    def unpin(self, memory: HostArray) -> None:
        with self._device:
            self._cuda.runtime.hostUnregister(memory.ctypes.data)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def peak_memory(self) -> int:
        import cupy

        with self._device:
            # CuPy's pool gives nothing back by itself, so that what it holds is the peak.
            return int(cupy.get_default_memory_pool().total_bytes())  # type: ignore[attr-defined]


class NcclSum:
    """Sums a GPU's arrays over the processes of a job by NCCL, on a stream of its own.

    Made by all processes at once, with the `nccl_unique_id` of one of them.

    Raises
    ------
    DeviceError
        NCCL cannot connect the GPUs.
    """

    def __init__(self, device: CudaDevice, rank: int, size: int, unique: Any) -> None:
        self._nccl: Any = importlib.import_module("cupy.cuda.nccl")  # unknown to cupy-stubs
        self._gpu = device
        with device._device:
            self._stream = device._cuda.Stream(non_blocking=True)
            try:
                self._job = self._nccl.NcclCommunicator(size, unique, rank)
            except self._nccl.NcclError as error:
                raise DeviceError(f"device {device.name}: NCCL: {error}") from error

    def start(self, array: Any) -> None:
        with self._gpu._device:
            self._stream.wait_event(self._gpu._stream.record())
            at, float32, add = array.data.ptr, self._nccl.NCCL_FLOAT32, self._nccl.NCCL_SUM
            self._job.allReduce(at, at, array.size, float32, add, self._stream.ptr)

    def poll(self) -> None:
        pass

    def finish(self) -> None:
        with self._gpu._device:
            self._gpu._stream.wait_event(self._stream.record())


def nccl_unique_id() -> Any:
    """What the processes of a job find each other by in NCCL; DeviceError without NCCL."""
    nccl: Any = importlib.import_module("cupy.cuda.nccl")
    if not nccl.available:
        raise DeviceError("CuPy finds no NCCL; pip install nvidia-nccl-cu13 (or -cu12)")
    return nccl.get_unique_id()


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
