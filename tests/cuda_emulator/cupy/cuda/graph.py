"""CUDA graphs."""

from __future__ import annotations

from typing import Any

from cupy.cuda import runtime


class Graph:
    """A captured graph, created by `Stream.end_capture`."""

    graph = graphExec = 0

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream "
            "capture"
        )

    @classmethod
    def _of(cls, graph: int) -> Graph:
        made = cls.__new__(cls)
        made.graph = graph
        made.graphExec = runtime.graphInstantiate(graph)
        return made

    def __del__(self) -> None:
        if runtime is None:
            return
        if self.graph:
            runtime.graphDestroy(self.graph)
        if self.graphExec:
            runtime.graphExecDestroy(self.graphExec)

    def launch(self, stream: Any = None) -> None:
        runtime.graphLaunch(self.graphExec, _pointer(stream))

    def upload(self, stream: Any = None) -> None:
        runtime.graphUpload(self.graphExec, _pointer(stream))


def _pointer(stream: Any) -> int:
    from cupy.cuda.stream import get_current_stream

    return int((get_current_stream() if stream is None else stream).ptr)
