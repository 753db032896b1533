"""The kernels for this machine's processors: csrc/bindings.cpp. tests/test_build.py compares."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from pyalexnet.device import Array

TARGET: str
IMAGES_MULTIPLE: int

class _Execution(TypedDict):
    order: str
    seed: int
    tiles: str

class Kernels:
    """The kernels, on one stream of one device.

    Arrays are C-contiguous and on that device, results come first. Calls return when the work is
    queued; on the host, when it is done. They raise ValueError naming the argument that is wrong.
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
    ) -> None:
        """y = activation(conv(x, w) + b); b may be None."""

    def conv_backward_data(
        self, dx: Array, dy: Array, w: Array, *, stride: int, pad: int, groups: int
    ) -> None:
        """The gradient of a convolution's input."""

    def conv_backward_weights(
        self,
        dw: Array,
        x: Array,
        dy: Array,
        workspace: Array | None,
        *,
        stride: int,
        pad: int,
        groups: int,
    ) -> None:
        """The gradient of a convolution's filters; workspace may be None if none is needed."""

    def conv_workspace(
        self,
        x: Sequence[int],
        dw: Sequence[int],
        dy: Sequence[int],
        *,
        stride: int,
        pad: int,
        groups: int,
    ) -> int:
        """Floats of workspace that conv_backward_weights needs for arrays of these shapes."""

    def bias_backward(self, db: Array, dy: Array) -> None:
        """The biases' gradient: db (K), the sum of dy (K, ...)."""

    def activation_forward(self, y: Array, x: Array, *, kind: str) -> None:
        """y = activation(x); y may be x."""

    def activation_backward(self, dx: Array, dy: Array, y: Array, *, kind: str) -> None:
        """dx from dy and the output y; dx may be dy."""

    def dropout(
        self,
        y: Array,
        x: Array,
        *,
        p: float,
        scale: float,
        seed: int,
        layer: int,
        step: int,
        first_feature: int,
        first_image: int,
    ) -> None:
        """y = x scale with probability 1 - p, else 0; y may be x."""

    def add(self, y: Array, a: Array, b: Array) -> None:
        """y = a + b; y may be a or b."""

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
        """A step of all parameters, in place."""

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
        """Local response normalisation across channels."""

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
    ) -> None:
        """The gradient of lrn_forward's input."""

    def maxpool_forward(
        self, y: Array, argmax: Array, x: Array, *, size: int, stride: int, pad: int
    ) -> None:
        """Max pooling; argmax is where in its window each maximum is."""

    def maxpool_backward(
        self, dx: Array, dy: Array, argmax: Array, *, size: int, stride: int, pad: int
    ) -> None:
        """The gradient of maxpool_forward's input."""

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
        """Loss, its gradient and ranks; the first two and totals may be None."""

    def augment(
        self,
        x: Array,
        images: Array,
        crops: Array,
        mean: Array,
        scale: Array,
        shifts: Array | None,
    ) -> None:
        """Crops of images as a net's input; shifts may be None."""

def build_info() -> dict[str, str]:
    """What this build was made for and how."""

def set_execution(
    order: Literal["forward", "reverse", "shuffled"] = "forward",
    seed: int = 0,
    tiles: Literal["host", "gpu", "gpu-plain-loads"] = "host",
) -> None:
    """How launches run from now on."""

def execution() -> _Execution:
    """What set_execution has set."""

def set_threads(count: int) -> None:
    """Sets the number of workers; 0 for the default."""

def threads() -> int:
    """The number of workers."""
