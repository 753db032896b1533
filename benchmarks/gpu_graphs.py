"""Times work on a GPU without the host's part of it: many calls in one CUDA graph, on both sides.

A launch takes the host some 20 µs, which is more than the smaller kernels take. A graph is launched
once for all its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyalexnet.device import Device

CALLS = 20  # in a graph


def can_capture(device: Device) -> bool:
    """Whether `device` is a GPU whose stream can be captured, which an emulated one cannot."""
    return hasattr(getattr(device, "_stream", None), "begin_capture")


def ours(device: Device, run: Callable[[], Any]) -> Callable[[], None]:
    """Returns a function that runs CALLS calls of `run` on `device` and waits for them."""
    gpu: Any = device
    run()  # loads the kernels, which a capture must not
    device.synchronize()
    with gpu._device, gpu._stream as stream:
        stream.begin_capture()
        for _ in range(CALLS):
            run()
        graph = stream.end_capture()

    def replay() -> None:
        graph.launch(stream)
        stream.synchronize()

    return replay


def pytorchs(run: Callable[[], Any]) -> Callable[[], None]:
    """Returns a function that runs CALLS calls of `run` on PyTorch's current stream and waits.

    The stream must not be the default one, which cannot be captured, and must be the one on which
    the tensors were made: autograd's backward pass runs where the forward pass ran.
    """
    import torch

    for _ in range(3):  # cuDNN chooses its algorithms
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(CALLS):
            run()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay
