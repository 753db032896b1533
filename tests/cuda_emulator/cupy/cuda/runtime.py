"""The CUDA runtime API, with CuPy's signatures."""

from __future__ import annotations

import ctypes

from cupy.cuda import _calls
from cupy.cuda._calls import CUDARuntimeError as CUDARuntimeError

memcpyHostToHost, memcpyHostToDevice, memcpyDeviceToHost = 0, 1, 2
memcpyDeviceToDevice, memcpyDefault = 3, 4
hostAllocDefault, hostAllocPortable, hostAllocMapped, hostAllocWriteCombined = 0, 1, 2, 4
streamDefault, streamNonBlocking = 0, 1
streamLegacy = 1
eventDefault, eventBlockingSync, eventDisableTiming = 0, 1, 2
streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = 0, 1, 2
streamCaptureStatusNone, streamCaptureStatusActive, streamCaptureStatusInvalidated = 0, 1, 2
deviceAttributeMaxThreadsPerBlock = 1
deviceAttributeMaxSharedMemoryPerBlock = 8
deviceAttributeWarpSize = 10
deviceAttributeMultiProcessorCount = 16
deviceAttributeComputeCapabilityMajor = 75
deviceAttributeComputeCapabilityMinor = 76

# --- devices ---


def runtimeGetVersion() -> int:
    return _calls.integer("cudaRuntimeGetVersion")


def driverGetVersion() -> int:
    return _calls.integer("cudaDriverGetVersion")


def getDevice() -> int:
    return _calls.integer("cudaGetDevice")


def setDevice(device: int) -> None:
    _calls.call("cudaSetDevice", device)


def getDeviceCount() -> int:
    return _calls.integer("cudaGetDeviceCount")


def deviceGetAttribute(attrib: int, device: int) -> int:
    return _calls.integer("cudaDeviceGetAttribute", attrib, device)


def deviceSynchronize() -> None:
    _calls.call("cudaDeviceSynchronize")


def deviceCanAccessPeer(device: int, peerDevice: int) -> int:
    return _calls.integer("cudaDeviceCanAccessPeer", device, peerDevice)


def deviceEnablePeerAccess(peerDevice: int) -> None:
    _calls.call("cudaDeviceEnablePeerAccess", peerDevice, 0)


def deviceDisablePeerAccess(peerDevice: int) -> None:
    _calls.call("cudaDeviceDisablePeerAccess", peerDevice)


# --- memory ---


def malloc(size: int) -> int:
    return _calls.pointer("cudaMalloc", size)


def free(ptr: int) -> None:
    _calls.call("cudaFree", ptr)


def hostAlloc(size: int, flags: int) -> int:
    return _calls.pointer("cudaHostAlloc", size, flags)


def freeHost(ptr: int) -> None:
    _calls.call("cudaFreeHost", ptr)


def hostRegister(ptr: int, size: int, flags: int) -> None:
    _calls.call("cudaHostRegister", ptr, size, flags)


def hostUnregister(ptr: int) -> None:
    _calls.call("cudaHostUnregister", ptr)


def memGetInfo() -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _calls.call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def memcpy(dst: int, src: int, size: int, kind: int) -> None:
    _calls.call("cudaMemcpy", dst, src, size, kind)


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    _calls.call("cudaMemcpyAsync", dst, src, size, kind, stream)


def memcpyPeer(dst: int, dstDevice: int, src: int, srcDevice: int, size: int) -> None:
    _calls.call("cudaMemcpyPeer", dst, dstDevice, src, srcDevice, size)


def memcpyPeerAsync(
    dst: int, dstDevice: int, src: int, srcDevice: int, size: int, stream: int
) -> None:
    _calls.call("cudaMemcpyPeerAsync", dst, dstDevice, src, srcDevice, size, stream)


def memset(ptr: int, value: int, size: int) -> None:
    _calls.call("cudaMemset", ptr, value, size)


def memsetAsync(ptr: int, value: int, size: int, stream: int) -> None:
    _calls.call("cudaMemsetAsync", ptr, value, size, stream)


# --- streams, events, graphs ---


def streamCreate() -> int:
    return _calls.pointer("cudaStreamCreate")


def streamCreateWithFlags(flags: int) -> int:
    return _calls.pointer("cudaStreamCreateWithFlags", flags)


def streamDestroy(stream: int) -> None:
    _calls.call("cudaStreamDestroy", stream)


def streamSynchronize(stream: int) -> None:
    _calls.call("cudaStreamSynchronize", stream)


def streamQuery(stream: int) -> int:
    return _calls.status("cudaStreamQuery", stream)


def streamGetFlags(stream: int) -> int:
    flags = ctypes.c_uint()
    _calls.call("cudaStreamGetFlags", stream, ctypes.byref(flags))
    return flags.value


def streamWaitEvent(stream: int, event: int, flags: int = 0) -> None:
    _calls.call("cudaStreamWaitEvent", stream, event, flags)


def streamBeginCapture(stream: int, mode: int = streamCaptureModeRelaxed) -> None:
    _calls.call("cudaStreamBeginCapture", stream, mode)


def streamEndCapture(stream: int) -> int:
    graph = ctypes.c_void_p()
    _calls.call("cudaStreamEndCapture", stream, ctypes.byref(graph))
    return graph.value or 0


def streamIsCapturing(stream: int) -> bool:
    status = ctypes.c_int()
    _calls.call("cudaStreamIsCapturing", stream, ctypes.byref(status))
    if status.value == streamCaptureStatusInvalidated:
        raise RuntimeError("the stream was capturing, but an error has invalidated the capture")
    return status.value == streamCaptureStatusActive


def eventCreate() -> int:
    return _calls.pointer("cudaEventCreate")


def eventCreateWithFlags(flags: int) -> int:
    return _calls.pointer("cudaEventCreateWithFlags", flags)


def eventDestroy(event: int) -> None:
    _calls.call("cudaEventDestroy", event)


def eventRecord(event: int, stream: int) -> None:
    _calls.call("cudaEventRecord", event, stream)


def eventSynchronize(event: int) -> None:
    _calls.call("cudaEventSynchronize", event)


def eventQuery(event: int) -> int:
    return _calls.status("cudaEventQuery", event)


def eventElapsedTime(start: int, end: int) -> float:
    """Return the milliseconds between the host's calls to `eventRecord`; devices have no clock."""
    out = ctypes.c_float()
    _calls.call("cudaEventElapsedTime", ctypes.byref(out), start, end)
    return out.value


def graphInstantiate(graph: int) -> int:
    return _calls.pointer("cudaGraphInstantiate", graph, 0)


def graphLaunch(graphExec: int, stream: int) -> None:
    _calls.call("cudaGraphLaunch", graphExec, stream)


def graphUpload(graphExec: int, stream: int) -> None:
    _calls.call("cudaGraphUpload", graphExec, stream)


def graphDestroy(graph: int) -> None:
    _calls.call("cudaGraphDestroy", graph)


def graphExecDestroy(graphExec: int) -> None:
    _calls.call("cudaGraphExecDestroy", graphExec)
