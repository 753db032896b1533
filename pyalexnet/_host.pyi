"""Kernels for this machine's processors (csrc/bindings.cpp). tests/test_build.py compares."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from pyalexnet.device import Array

TARGET: str
IMAGES_MULTIPLE: int
FEW_IMAGES: int

class _Execution(TypedDict):
    order: str
    seed: int
    tiles: str
    l2_bytes: int

class Kernels:
    """The kernels, on one stream of one device.

    Arrays are C-contiguous and on that device; results come first. A call returns once the work is
    queued, on the host once it is done. It raises ValueError or TypeError naming the argument that
    is wrong. A result shares no memory with another array, unless it may be that very array.
    """

    def __init__(self) -> None: ...
    def conv_forward(
        self,
        y: Array,
        x: Array,
        w: Array,
        b: Array | None,
        *,
        stride: int,
        pad: int,
        groups: int,
        activation: str,
        algorithm: str,
        filters: Array | None,
        transformed: bool,
        images: int | None = None,
        workspace: Array | None,
    ) -> None:
        """Computes y = activation(conv(x, w) + b); b, filters and workspace may be None."""

    def conv_backward_data(
        self,
        dx: Array,
        dy: Array,
        w: Array,
        *,
        mask: Array | None = None,
        stride: int,
        pad: int,
        groups: int,
        algorithm: str,
        workspace: Array | None,
    ) -> None:
        """Computes dx, 0 unless mask > 0; mask may be None, workspace if none is needed."""

    def conv_backward_weights(
        self,
        dw: Array,
        x: Array,
        dy: Array,
        *,
        stride: int,
        pad: int,
        groups: int,
        algorithm: str,
        workspace: Array | None,
    ) -> None:
        """Computes dw, the gradient of the filters; workspace may be None if none is needed."""

    def conv_plan(
        self,
        x: Sequence[int],
        w: Sequence[int],
        y: Sequence[int],
        *,
        stride: int,
        pad: int,
        groups: int,
        algorithm: str,
    ) -> tuple[str, int, list[int]]:
        """Returns the algorithm, floats of its filters, floats of workspace by pass."""

    def bias_backward(self, db: Array, dy: Array) -> None:
        """Computes the biases' gradient db (K), the sum of dy (K, ...) over all other axes."""

    def activation_forward(self, y: Array, x: Array, *, kind: str) -> None:
        """Computes y = activation(x); y may be x."""

    def activation_backward(self, dx: Array, dy: Array, y: Array, *, kind: str) -> None:
        """Computes dx from dy and the output y; dx may be dy."""

    def dropout(
        self,
        y: Array,
        x: Array,
        *,
        mask: Array | None = None,
        p: float,
        scale: float,
        seed: int,
        layer: int,
        step: int,
        first_feature: int,
        first_image: int,
    ) -> None:
        """Computes y = x scale with probability 1 - p where mask > 0, else 0; y may be x."""

    def add(self, y: Array, a: Array, b: Array) -> None:
        """Computes y = a + b; y may be a or b."""

    def sgd(
        self,
        weights: Array,
        gradients: Array,
        momenta: Array,
        starts: Array,
        rates: Array,
        decays: Array,
        *,
        momentum: float,
    ) -> None:
        """Updates all parameters in place by one step."""

    def lrn_forward(
        self,
        y: Array,
        x: Array,
        *,
        size: int,
        k: float,
        alpha: float,
        beta: float,
        groups: int,
    ) -> None:
        """Normalises x across channels (local response normalisation)."""

    def lrn_backward(
        self,
        dx: Array,
        dy: Array,
        x: Array,
        *,
        size: int,
        k: float,
        alpha: float,
        beta: float,
        groups: int,
        masked: bool = False,
    ) -> None:
        """Computes dx, the gradient of lrn_forward's input; if masked, 0 unless x > 0."""

    def maxpool_forward(
        self,
        y: Array,
        argmax: Array,
        x: Array,
        *,
        size: int,
        stride: int,
        pad: int,
        masked: bool = False,
    ) -> None:
        """Max-pools x; argmax is a maximum's place in its window; if masked, 65535 unless y > 0."""

    def maxpool_backward(
        self, dx: Array, dy: Array, argmax: Array, *, size: int, stride: int, pad: int
    ) -> None:
        """Computes dx, the gradient of maxpool_forward's input."""

    def softmax_cross_entropy(
        self,
        probabilities: Array | None,
        dlogits: Array | None,
        losses: Array,
        ranks: Array,
        totals: Array | None,
        logits: Array,
        labels: Array,
        *,
        k: int,
        scale: float,
    ) -> None:
        """Computes losses, their gradient and ranks; the first two and totals may be None."""

    def augment(
        self,
        x: Array,
        images: Array,
        crops: Array,
        mean: Array,
        scale: Array,
        shifts: Array | None,
    ) -> None:
        """Writes crops of images to x, a net's input; shifts may be None."""

def build_info() -> dict[str, str]:
    """Describes this build: version, architectures, compilers, vectors."""

def set_execution(
    order: Literal["forward", "reverse", "shuffled"] = "forward",
    seed: int = 0,
    tiles: Literal["host", "gpu", "gpu-plain-loads"] = "host",
    l2_bytes: int = 0,
) -> None:
    """Sets how launches run from now on."""

def execution() -> _Execution:
    """Returns what set_execution set."""

def set_threads(count: int) -> None:
    """Sets the number of workers; 0 for the default."""

def threads() -> int:
    """Returns the number of workers."""
