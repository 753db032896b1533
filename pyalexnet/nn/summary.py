"""A table of a net's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pyalexnet.device import Shape
from pyalexnet.nn.device_net import DeviceNet


def layer_table(parts: Sequence[DeviceNet], optimiser_bytes: Callable[[DeviceNet], int]) -> str:
    """The layers on each device: shapes, parameters, cost and memory.

    MFLOP are those of the forward pass of one image, a multiplication and an addition being two. MB
    are the activations that a layer keeps for the backward pass of a full batch.
    """
    rows: list[str] = []
    line = "{:<12}{:>14}{:>14}{:>12}{:>10}".format
    for part in parts:
        net, shapes, kept = part.net, part.net.shapes(), part.activation_bytes()
        if len(parts) > 1:
            rows += ["", f"{net.name}, on {part.device.name}"]
        rows.append(line("layer", "output", "parameters", "MFLOP", "MB"))
        at_input = math.prod(shapes[0]) * part.images * 4
        rows.append(line("input", _by(shapes[0]), "", "", f"{at_input / 1e6:,.1f}"))
        counts, macs = [], []
        for i, (name, parameters) in enumerate(net.layer_parameters()):
            counts.append(sum(parameter.size for parameter in parameters.values()))
            macs.append(net.layers[i].macs(*net.input_shapes(i)))
            rows.append(line(name, _by(shapes[i + 1]), *_counts(counts[-1], macs[-1], kept[i])))
        rows.append(line("total", "", *_counts(sum(counts), sum(macs), at_input + sum(kept))))
        optimiser = optimiser_bytes(part)
        owners = "weights, gradients and momenta" if optimiser else "weights and gradients"
        rows.append(f"{owners}: {(part.parameter_bytes() + optimiser) / 1e6:,.1f} MB")
    return "\n".join(row.rstrip() for row in rows)


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _counts(parameters: int, macs: int, kept: int) -> tuple[str, str, str]:
    return (
        f"{parameters:,}" if parameters else "",
        f"{2 * macs / 1e6:,.1f}" if macs else "",
        f"{kept / 1e6:,.1f}",
    )
