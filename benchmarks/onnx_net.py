"""Nets as ONNX graphs for inference, and the libraries that run them, for the benchmarks.

Both libraries compute in fp32: OpenVINO would take bf16 where the CPU has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from nets import NoCounterpart, overhang
from onnx import helper, numpy_helper

from pyalexnet.device import Floats, Shape
from pyalexnet.nn.layers import (
    LRN,
    Add,
    Concat,
    Conv,
    Dropout,
    Layer,
    Linear,
    MaxPool,
    ReLU,
    Tanh,
)
from pyalexnet.nn.net import Net

Infer = Callable[[Floats], Floats]  #: (N, C, H, W) to logits (N, classes)


def save(net: Net, state: Mapping[str, Floats], batch: int, path: Path) -> None:
    """Writes a net in test mode, from "x" (N, C, H, W) to "logits" (N, classes).

    `state` is as `pyalexnet.Model.state` returns it. Raises NoCounterpart for a layer that ONNX has
    not.
    """
    graph = _Graph(net, state, batch)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, *net.input])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, net.classes])],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, str(path))


class _Graph:
    """The nodes and weights of a net."""

    def __init__(self, net: Net, state: Mapping[str, Floats], batch: int) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._batch, self._state = batch, state
        self._count = 0
        values = ["x"]
        for i, (name, layer) in enumerate(zip(net.names, net.layers, strict=True)):
            inputs = [values[source] for source in net.sources[i]]
            values.append(self._layer(name, layer, inputs, net.input_shapes(i)))
        self.nodes[-1].output[0] = "logits"

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self._count += 1
        output = f"v{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _tensor(self, array: Any) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _layer(self, name: str, layer: Layer, inputs: list[str], shapes: tuple[Shape, ...]) -> str:
        x, shape = inputs[0], shapes[0]
        if isinstance(layer, Conv):
            return self._conv(name, layer, x, shape)
        if isinstance(layer, Linear):
            weight, bias = (self._tensor(self._state[f"{name}.{s}"]) for s in ("weight", "bias"))
            x = self._node("Flatten", x) if len(shape) > 1 else x
            return self._activate(self._node("Gemm", x, weight, bias), layer.activation)
        if isinstance(layer, MaxPool):
            return self._node("MaxPool", x, **_window(layer, shape))
        if isinstance(layer, LRN):
            return self._lrn(layer, x, shape)
        if isinstance(layer, Dropout):
            scale = np.float32(1.0 if layer.inverted else 1 - layer.p)
            return x if scale == 1 else self._node("Mul", x, self._tensor(scale))
        if isinstance(layer, Add):
            return self._activate(self._node("Sum", *inputs), layer.activation)
        if isinstance(layer, Concat):
            return self._node("Concat", *inputs, axis=1)
        if isinstance(layer, ReLU | Tanh):
            return self._activate(x, layer.prefix)
        raise NoCounterpart(f"ONNX has no counterpart of {layer}")

    def _activate(self, x: str, activation: str) -> str:
        return self._node({"relu": "Relu", "tanh": "Tanh"}[activation], x) if activation else x

    def _conv(self, name: str, layer: Conv, x: str, shape: Shape) -> str:
        weight = self._tensor(np.moveaxis(self._state[f"{name}.weight"], -1, 0))
        bias = self._tensor(self._state[f"{name}.bias"])
        y = self._node("Conv", x, weight, bias, group=layer.groups, **_window(layer, shape))
        return self._activate(y, layer.activation)

    def _lrn(self, layer: LRN, x: str, shape: Shape) -> str:
        channels, *pixels = shape
        groups = layer.groups
        if groups > 1:
            split = [self._batch * groups, channels // groups, *pixels]
            x = self._node("Reshape", x, self._tensor(np.array(split)))
        # ONNX divides alpha by the window's size, the paper does not.
        how = {"alpha": layer.alpha * layer.size, "beta": layer.beta, "bias": layer.k}
        x = self._node("LRN", x, size=layer.size, **how)
        if groups > 1:
            x = self._node("Reshape", x, self._tensor(np.array([self._batch, *shape])))
        return x


def _window(layer: Conv | MaxPool, shape: Shape) -> dict[str, list[int]]:
    rows, columns = overhang(layer, shape)
    pad = layer.pad
    return {
        "kernel_shape": [layer.size] * 2,
        "strides": [layer.stride] * 2,
        "pads": [pad, pad, pad + rows, pad + columns],
    }


def onnx_runtime(path: Path, threads: int) -> Infer:
    """Runs a graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Its threads would go on spinning in the turns of others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def infer(x: Floats) -> Floats:
        logits: Floats = session.run(None, {"x": x})[0]
        return logits

    return infer


def openvino(path: Path, threads: int) -> Infer:
    """Runs a graph in OpenVINO."""
    import openvino

    how = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", how).create_infer_request()

    def infer(x: Floats) -> Floats:
        logits: Floats = request.infer({"x": x}, share_inputs=True)["logits"]
        return logits

    return infer
