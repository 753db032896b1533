"""What each GPU sends in a training step of the paper's net, by way of dividing the work: a table.

    python benchmarks/traffic.py

Arithmetic, not a measurement; docs/parallel.md has the formulas and this output.
"""

from __future__ import annotations

import math

from pyalexnet import nets
from pyalexnet.layers import Linear

BYTES = 4  # float32
GPUS = (2, 8, 64, 1024)
GROUP = 8  # GPUs that divide the fully connected layers among them, in the last column


def sizes() -> tuple[int, int, int]:
    """Parameters of convolutional and of fully connected layers; floats that cross for an image.

    Those are the inputs of the fully connected layers on the way forward, their gradients on the
    way back, and the logits.
    """
    net = nets.alexnet()
    conv = full = crossing = 0
    for layer, shape, (_, parameters) in zip(
        net.layers, net.shapes(), net.layer_parameters(), strict=False
    ):
        count = sum(parameter.size for parameter in parameters.values())
        if isinstance(layer, Linear):
            full += count
            crossing += 2 * math.prod(shape)
        else:
            conv += count
    return conv, full, crossing + net.classes


def ring(gpus: int, parameters: float) -> float:
    """Bytes that each of so many GPUs sends to sum gradients in a ring."""
    return 2 * (gpus - 1) / gpus * BYTES * parameters


def weird(gpus: int, batch: float, group: int) -> float:
    """Bytes of "one weird trick": groups of GPUs divide the fully connected layers.

    `batch` images are the whole job's; a group exchanges the activations of its share.
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
        f"{crossing:,} numbers cross for an image.\n"
        f"The trick sends less than plain data parallel up to "
        f"{2 * full / crossing:,.0f} images in the whole batch.\n"
    )
    print(f"| GPUs | images a step | data parallel | one weird trick | in groups of {GROUP} |")
    print("|---:|---:|---:|---:|---:|")
    for gpus in GPUS:
        for batch in sorted({1024, 128 * gpus}):
            grouped = weird(gpus, batch, GROUP) if gpus > GROUP else None
            values = (ring(gpus, conv + full), weird(gpus, batch, gpus), grouped)
            cells = ("–" if value is None else f"{value / 1e6:,.0f} MB" for value in values)
            print(f"| {gpus:,} | {batch:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
