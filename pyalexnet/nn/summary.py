"""A table of a net's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyalexnet.device import Shape
from pyalexnet.nn.device_net import DeviceNet
from pyalexnet.text import printable


def layer_values(
    parts: Sequence[DeviceNet], optimiser_bytes: Callable[[DeviceNet], int]
) -> list[dict[str, Any]]:
    """For each device, its net, device, layers and bytes, as JSON values.

    `flops` are those of the forward pass of one image, a multiplication and an addition being two.
    `activation_bytes` are those that a layer keeps for the backward pass of a full batch.
    `algorithm` is a convolution's, see `ops.conv_plan`.
    """
    values = []
    for part in parts:
        net, shapes, kept = part.net, part.net.shapes(), part.activation_bytes()
        at_input = math.prod(shapes[0]) * part.images * 4
        layers = [_layer("input", shapes[0], "", 0, 0, at_input)]
        algorithms = part.algorithms()
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            count = sum(parameter.size for parameter in parameters.values())
            macs = net.layers[i].macs(*net.input_shapes(i))
            layers.append(_layer(name, shapes[i + 1], algorithms[i], count, 2 * macs, kept[i]))
        sums = {key: sum(layer[key] for layer in layers) for key in _SUMMED}
        optimiser = optimiser_bytes(part)
        values.append(
            {"net": net.name, "device": part.device.name, "layers": layers}
            | sums
            | {"weight_bytes": part.parameter_bytes(), "optimiser_bytes": optimiser}
        )
    return values


_SUMMED = ("parameters", "flops", "activation_bytes")


def _layer(name: str, output: Shape, algorithm: str, *numbers: int) -> dict[str, Any]:
    head = {"name": name, "output": list(output), "algorithm": algorithm}
    return head | dict(zip(_SUMMED, numbers, strict=True))


def layer_table(parts: Sequence[DeviceNet], optimiser_bytes: Callable[[DeviceNet], int]) -> str:
    """`layer_values` as a table, in MFLOP and MB."""
    rows: list[str] = []
    line = "{:<12}{:>14}{:>14}{:>12}{:>10}  {}".format
    for part in layer_values(parts, optimiser_bytes):
        if len(parts) > 1:
            rows += ["", f"{printable(part['net'])}, on {part['device']}"]
        rows.append(line("layer", "output", "parameters", "MFLOP", "MB", "algorithm"))
        for layer in part["layers"]:
            head = layer["name"], _by(layer["output"])
            rows.append(line(*head, *_counts(layer), layer["algorithm"]))
        rows.append(line("total", "", *_counts(part), ""))
        optimiser = part["optimiser_bytes"]
        owners = "weights, gradients and momenta" if optimiser else "weights and gradients"
        rows.append(f"{owners}: {(part['weight_bytes'] + optimiser) / 1e6:,.1f} MB")
    return "\n".join(row.rstrip() for row in rows)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _counts(values: Mapping[str, Any]) -> tuple[str, str, str]:
    parameters, flops, kept = (values[key] for key in _SUMMED)
    return (
        f"{parameters:,}" if parameters else "",
        f"{flops / 1e6:,.1f}" if flops else "",
        f"{kept / 1e6:,.1f}",
    )
