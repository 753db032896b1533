"""Streams and events."""

from __future__ import annotations

import threading
from typing import Any

from cupy.cuda import runtime
from cupy.cuda._waits import wait
from cupy.cuda.graph import Graph


class _Current(threading.local):
    """The current stream of each device, for each thread."""

    def __init__(self) -> None:
        self.streams: dict[int, Any] = {}
        self.before: list[tuple[int, Any]] = []


_current = _Current()


def get_current_stream(device_id: int = -1) -> Any:
    """Return the current stream of a device (default: the current device)."""
    device = runtime.getDevice() if device_id == -1 else device_id
    return _current.streams.get(device, Stream.null)


class Event:
    """A position in a stream."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.ptr = 0
        flags = runtime.eventBlockingSync * block + runtime.eventDisableTiming * disable_timing
        self.ptr = runtime.eventCreateWithFlags(flags)

    def __del__(self) -> None:
        if self.ptr and runtime is not None:
            runtime.eventDestroy(self.ptr)

    @property
    def done(self) -> bool:
        return runtime.eventQuery(self.ptr) == 0

    def record(self, stream: Any = None) -> None:
        runtime.eventRecord(self.ptr, (get_current_stream() if stream is None else stream).ptr)

    @wait
    def synchronize(self) -> None:
        runtime.eventSynchronize(self.ptr)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Return the milliseconds between the host's calls to `record`; devices have no clock."""
    return runtime.eventElapsedTime(start_event.ptr, end_event.ptr)


class _BaseStream:
    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr, self.device_id = ptr, device_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BaseStream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.ptr

    def _device(self) -> int:
        """Return the device on which to make this stream current; for the null stream, any."""
        current = runtime.getDevice()
        if self.device_id not in (-1, current):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with "
                f"the current device ({current})"
            )
        return current

    def __enter__(self) -> _BaseStream:
        device = self._device()
        _current.before.append((device, get_current_stream(device)))
        _current.streams[device] = self
        return self

    def __exit__(self, *_: object) -> None:
        device, stream = _current.before.pop()
        _current.streams[device] = stream

    def use(self) -> _BaseStream:
        _current.streams[self._device()] = self
        return self

    @property
    def done(self) -> bool:
        return runtime.streamQuery(self.ptr) == 0

    @property
    def is_non_blocking(self) -> bool:
        return bool(runtime.streamGetFlags(self.ptr) & runtime.streamNonBlocking)

    @wait
    def synchronize(self) -> None:
        runtime.streamSynchronize(self.ptr)

    def record(self, event: Event | None = None) -> Event:
        event = Event() if event is None else event
        runtime.eventRecord(event.ptr, self.ptr)
        return event

    @wait
    def wait_event(self, event: Event) -> None:
        runtime.streamWaitEvent(self.ptr, event.ptr)

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr in (0, runtime.streamLegacy):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        runtime.streamBeginCapture(
            self.ptr, runtime.streamCaptureModeRelaxed if mode is None else mode
        )

    def end_capture(self) -> Graph:
        return Graph._of(runtime.streamEndCapture(self.ptr))

    def is_capturing(self) -> bool:
        return runtime.streamIsCapturing(self.ptr)


class Stream(_BaseStream):
    """A queue of work on the current device."""

    null: _BaseStream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        if ptds:
            raise NotImplementedError(
                "the stand-in for CuPy does not support the per-thread default stream"
            )
        super().__init__(0, -1)
        if not null:
            flags = runtime.streamNonBlocking if non_blocking else runtime.streamDefault
            self.ptr = runtime.streamCreateWithFlags(flags)
            self.device_id = runtime.getDevice()

    def __del__(self) -> None:
        if self.ptr and runtime is not None:
            runtime.streamDestroy(self.ptr)


Stream.null = Stream(null=True)
