"""Prints a table of the bytes that each GPU sends in a training step, by way of splitting the work.

    python benchmarks/traffic.py

The numbers are computed, not measured; docs/parallel.md has the formulas and this output.
"""

from __future__ import annotations

import math

from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Linear

BYTES = 4  # float32
GPUS = (2, 8, 64, 1024)
GROUP = 8  # GPUs that share the fully connected layers, in the last column


def sizes() -> tuple[int, int, int]:
    """Counts parameters of convolutional and fully connected layers, and floats sent per image.

    The latter are the inputs of the fully connected layers, their gradients, and the logits.
    """
    net = zoo.alexnet()
    conv = full = crossing = 0
    for i, (_, parameters) in enumerate(net.layer_parameters()):
        count = sum(parameter.size for parameter in parameters.values())
        if isinstance(net.layers[i], Linear):
            full += count
            crossing += 2 * math.prod(net.input_shapes(i)[0])
        else:
            conv += count
    return conv, full, crossing + net.classes


def ring(gpus: int, parameters: float) -> float:
    """Returns the bytes that each GPU sends to sum gradients in a ring."""
    return 2 * (gpus - 1) / gpus * BYTES * parameters


def weird(gpus: int, batch: float, group: int) -> float:
    """Returns the bytes of "one weird trick": a group of GPUs shares the fully connected layers.

    `batch` is the whole job's; a group exchanges the activations of its share.
    """
    conv, full, crossing = sizes()
    groups = gpus // group
    activations = (group - 1) / group * (batch / groups) * BYTES * crossing
    return ring(gpus, conv) + activations + ring(groups, full / group)


def main() -> None:
    """Prints the table."""
    conv, full, crossing = sizes()
    print(
        f"{conv:,} parameters in convolutional layers, {full:,} in fully connected ones; "
        f"{crossing:,} floats are sent per image.\n"
        f"The trick sends less than plain data parallel up to "
        f"{2 * full / crossing:,.0f} images in the whole batch.\n"
    )
    print(f"| GPUs | images per step | data parallel | one weird trick | in groups of {GROUP} |")
    print("|---:|---:|---:|---:|---:|")
    for gpus in GPUS:
        for batch in sorted({1024, 128 * gpus}):
            grouped = weird(gpus, batch, GROUP) if gpus > GROUP else None
            values = (ring(gpus, conv + full), weird(gpus, batch, gpus), grouped)
            cells = ("–" if value is None else f"{value / 1e6:,.0f} MB" for value in values)
            print(f"| {gpus:,} | {batch:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
