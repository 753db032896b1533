"""NVIDIA GPUs. This is the only file that imports CuPy, and only when a GPU is looked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyalexnet.device.base import Device, Event, HostArray, Shape, check_environment
from pyalexnet.errors import DeviceError

if TYPE_CHECKING:
    import cupy


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
            self._copies = self._cuda.Stream()  # those that `copy_from` makes
        self._reached = {index}
        self.name = f"cuda:{index}"
        check_environment()
        self.lib = _cuda
        self.kernels = _cuda.Kernels(index, self._stream.ptr)
        self.images_multiple = _cuda.IMAGES_MULTIPLE
        self.few_images = _cuda.FEW_IMAGES

    @property
    def words(self) -> str:
        ask: Any = getattr(self._cuda.runtime, "getDeviceProperties", None)  # the emulator has none
        kind = ask(self._device.id)["name"].decode() if ask else "GPU"
        return f"{kind} ({self.name})"

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

    def copy_from(
        self, out: Any, source: Any, owner: Device, wait_for: tuple[Event, Event] = (None, None)
    ) -> None:
        assert isinstance(owner, CudaDevice)
        runtime, peer = self._cuda.runtime, owner._device.id
        with self._device:
            if peer not in self._reached:  # without, the driver copies by way of the host
                self._reached.add(peer)
                if runtime.deviceCanAccessPeer(self._device.id, peer):
                    runtime.deviceEnablePeerAccess(peer)
            self._copies.wait_event(wait_for[0] or self.record_event())
            self._copies.wait_event(wait_for[1] or owner.record_event())
            places = (out.data.ptr, self._device.id, source.data.ptr, peer)
            runtime.memcpyPeerAsync(*places, source.nbytes, self._copies.ptr)
            done = self._cuda.Event(disable_timing=True)
            done.record(self._copies)
            self._stream.wait_event(done)
        with owner._device:
            owner._stream.wait_event(done)

    def record_event(self) -> Event:
        with self._device:
            event = self._cuda.Event(disable_timing=True)
            event.record(self._stream)
        return event

    def wait(self, event: Event) -> None:
        event.synchronize()

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

    def free_memory(self) -> int | None:
        ask: Any = getattr(self._cuda.runtime, "memGetInfo", None)  # the emulator has none
        if ask is None:
            return None
        import cupy

        with self._device:
            pool: Any = cupy.get_default_memory_pool()  # type: ignore[attr-defined]
            return int(ask()[0] + pool.free_bytes())


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


def nccl() -> Any:
    """CuPy's module of NCCL, which cupy-stubs does not know; DeviceError without NCCL."""
    module = importlib.import_module("cupy.cuda.nccl")
    if not module.available:
        raise DeviceError("CuPy finds no NCCL; pip install nvidia-nccl-cu13 (or -cu12)")
    return module
