"""The libraries that `step.py` compares with: PyTorch, and for inference ONNX Runtime and OpenVINO.

A peer has the weights that it is given, so that its logits can be compared with ours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyalexnet.device import Floats
from pyalexnet.nn.net import Net


class Work(NamedTuple):
    """What is timed."""

    net: Net
    train: bool
    device: str  #: "host" or "cuda:<index>"
    batch: int
    threads: int
    onnx: Path  #: where the net lies for ONNX Runtime and OpenVINO


class Peer(NamedTuple):
    """A library's way of the work."""

    run: Callable[[], object]  #: a training step, or the logits of the batch as a NumPy array
    logits: Callable[[Floats], Floats]  #: in test mode, of images (N, C, H, W)


#: Makes a peer with these weights; without, those of a peer of the same work before.
Make = Callable[[Work, Mapping[str, Floats] | None], Peer]


def installed(name: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(name) is not None


def makers(work: Work, compiled: bool) -> dict[str, Make]:
    """The peers that are installed, by name."""
    found: dict[str, Make] = {}
    if installed("torch"):
        for compile in (False, True)[: 1 + compiled]:
            for layout in ("", "channels last"):
                for tf32 in ("", "TF32") if work.device != "host" else ("",):
                    words = "PyTorch", "compiled" * compile, layout, tf32
                    found[" ".join(filter(None, words))] = _torch(compile, bool(layout), bool(tf32))
    if not work.train and work.device == "host" and installed("onnx"):
        for name, package in (("ONNX Runtime", "onnxruntime"), ("OpenVINO", "openvino")):
            if installed(package):
                found[name] = _onnx(package)
    return found


def versions(names: list[str]) -> str:
    """The versions of the libraries that peers of these names use."""
    libraries = {"PyTorch": "torch", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
    found = []
    for name, package in libraries.items():
        if any(own.startswith(name) for own in names):
            version = importlib.import_module(package).__version__
            found.append(f"; {name} {version.partition('-')[0]}")
    return "".join(found)


def _onnx(package: str) -> Make:
    def make(work: Work, state: Mapping[str, Floats] | None) -> Peer:
        import onnx_net

        if state is not None:
            onnx_net.save(work.net, state, work.batch, work.onnx)
        runner = {"onnxruntime": onnx_net.onnx_runtime, "openvino": onnx_net.openvino}[package]
        infer = runner(work.onnx, work.threads)
        x = np.random.default_rng(0).standard_normal((work.batch, *work.net.input), np.float32)
        return Peer(lambda: infer(x), infer)

    return make


def _torch(compiled: bool, channels_last: bool, tf32: bool) -> Make:
    def make(work: Work, state: Mapping[str, Floats] | None) -> Peer:
        import torch
        import torch_layers
        import torch_net

        torch_layers.prepare(work.device, work.threads)
        where = "cpu" if work.device == "host" else work.device
        layout = torch.channels_last if channels_last else torch.contiguous_format
        net = torch_net.TorchNet(work.net)
        if state is not None:
            net.load(state)
        net = net.to(where, memory_format=layout).train(work.train)
        forward = torch.compile(net) if compiled else net
        pixels = _pixels(work, where, layout)

        def logits(x: Floats) -> Floats:
            torch_layers.use_tf32(tf32)
            with torch.inference_mode():
                y = net.eval()(torch.from_numpy(x).to(where, memory_format=layout))
            net.train(work.train)
            return np.asarray(y.cpu())

        def infer() -> object:
            torch_layers.use_tf32(tf32)
            with torch.inference_mode():
                return forward(pixels()).cpu().numpy()

        step = _torch_step(net, forward, work, where)

        def train() -> None:
            torch_layers.use_tf32(tf32)
            step(pixels())
            if where != "cpu":
                torch.cuda.synchronize(where)

        return Peer(train if work.train else infer, logits)

    return make


def _pixels(work: Work, where: str, layout: Any) -> Callable[[], Any]:
    """Gives the batch: on the host as floats, on a GPU from uint8 in pinned memory."""
    import torch

    channels, rows, columns = work.net.input
    if where == "cpu":
        floats = torch.randn(work.batch, channels, rows, columns).to(memory_format=layout)
        return lambda: floats
    shape = (work.batch, rows, columns, channels)
    images = torch.randint(256, shape, dtype=torch.uint8).pin_memory()

    def upload() -> Any:
        found = images.to(where, non_blocking=True).permute(0, 3, 1, 2).float()
        return found.sub_(118).contiguous(memory_format=layout)

    return upload


def _torch_step(net: Any, forward: Any, work: Work, where: str) -> Callable[[Any], None]:
    """Forward, loss, backward, SGD with momentum and weight decay."""
    import torch

    weights = [p for p in net.parameters() if p.ndim > 1]
    biases = [p for p in net.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 5e-4}, {"params": biases, "lr": 0.02}],
        lr=0.01,
        momentum=0.9,
    )
    labels = torch.randint(work.net.classes, (work.batch,), device=where)

    def step(x: Any) -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step
