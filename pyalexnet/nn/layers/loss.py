"""The loss: softmax and cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyalexnet import ops
from pyalexnet.device import Array, Device, HostArray

TOP = 5  # classes in a top-5 answer; all of them if there are fewer


def has_top5(classes: int) -> bool:
    """Whether a top-5 error says anything of so many classes: of five or fewer it is always 0."""
    return classes > TOP


class LossBuffers:
    """Arrays of the loss on the device that has the logits.

    Attributes
    ----------
    labels : int32 (N,)
        -1 for padding and for images that do not count.
    logits : float32 (classes, N)
    outputs : ops.Loss
        The probabilities, dlogits, and each image's loss and rank.
    totals : float64 (4,)
        Running sums since they were last set: `Totals` of `pyalexnet.model`.
    """

    def __init__(self, device: Device, logits: Array, dlogits: Array | None) -> None:
        classes, images = logits.shape
        self.device = device
        self.labels = device.zeros((images,), np.int32)
        self.logits = logits
        self.outputs = ops.Loss(
            probabilities=device.empty((classes, images)),
            dlogits=dlogits,
            losses=device.empty((images,)),
            ranks=device.empty((images,), np.int32),
        )
        self.totals = device.zeros((4,), np.float64)

    def set_labels(self, labels: HostArray) -> None:
        """Copies labels int32 (B,) to the device; the padding gets -1."""
        padded = np.full(self.labels.shape, -1, np.int32)
        padded[: len(labels)] = labels
        self.device.copy_in(self.labels, padded)


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """Mean over the batch of -log(softmax(logits)[label]) (paper, section 3).

    The layer after a net's last. It has no parameters and no output to read on.
    """

    def forward_backward(self, buffers: LossBuffers, scale: float) -> None:
        """Adds losses and ranks to the totals; computes dlogits of the losses times `scale`."""
        self._run(buffers, buffers.outputs, buffers.totals, scale)

    def forward(self, buffers: LossBuffers) -> None:
        """Adds losses and ranks to the totals, and computes nothing else."""
        outputs = buffers.outputs._replace(probabilities=None, dlogits=None)
        self._run(buffers, outputs, buffers.totals)

    def probabilities(self, buffers: LossBuffers) -> Array:
        """Computes the classes' probabilities (classes, N); the labels do not matter."""
        self._run(buffers, buffers.outputs._replace(dlogits=None), None)
        assert buffers.outputs.probabilities is not None
        return buffers.outputs.probabilities

    def _run(
        self, buffers: LossBuffers, outputs: ops.Loss, totals: Array | None, scale: float = 1.0
    ) -> None:
        ops.softmax_cross_entropy(
            buffers.logits,
            buffers.labels,
            k=min(TOP, buffers.logits.shape[0]),
            scale=scale,
            totals=totals,
            out=outputs,
        )
