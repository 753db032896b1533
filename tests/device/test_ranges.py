"""Every launcher opens a range with its name, in which profilers show what it launches.

NVTX tells ranges to the profiler; here that is the emulator, which records them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from helpers import target
from helpers.kernels import ops

pytestmark = pytest.mark.skipif(not target.EMULATED, reason="only the emulator records ranges")

N = 4  # images


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def sgd() -> None:
    one = zeros(1)
    ops.sgd(*(zeros(64) for _ in "wgv"), np.array([0, 64]), one, one, momentum=0.5)


#: Calls of functions of `pyalexnet.ops`, at tiny sizes, by the launcher that each calls.
CALLS: dict[str, list[Callable[[], object]]] = {
    "conv_forward": [
        lambda: ops.conv_forward(zeros(2, 3, 3, N), zeros(2, 2, 2, 4)),
        lambda: ops.linear_forward(zeros(2, N), zeros(2, 4)),
    ],
    "conv_backward_data": [
        lambda: ops.conv_backward_data(zeros(4, 2, 2, N), zeros(2, 2, 2, 4), (2, 3, 3, N)),
        lambda: ops.linear_backward_data(zeros(4, N), zeros(2, 4)),
    ],
    "conv_backward_weights": [
        lambda: ops.conv_backward_weights(zeros(2, 3, 3, N), zeros(4, 2, 2, N), (2, 2, 2, 4)),
        lambda: ops.linear_backward_weights(zeros(2, N), zeros(4, N)),
    ],
    "bias_backward": [lambda: ops.bias_backward(zeros(2, N))],
    "activation_forward": [lambda: ops.activation_forward(zeros(2, N), "relu")],
    "activation_backward": [lambda: ops.activation_backward(zeros(2, N), zeros(2, N), "tanh")],
    "lrn_forward": [lambda: ops.lrn_forward(zeros(2, 1, 1, N))],
    "lrn_backward": [lambda: ops.lrn_backward(zeros(2, 1, 1, N), zeros(2, 1, 1, N))],
    "maxpool_forward": [lambda: ops.maxpool_forward(zeros(1, 3, 3, N), size=3, stride=2)],
    "maxpool_backward": [
        lambda: ops.maxpool_backward(
            *(zeros(1, 1, 1, N), zeros(1, 1, 1, N, dtype=np.uint16), (1, 3, 3, N)), size=3, stride=2
        )
    ],
    "dropout": [lambda: ops.dropout(zeros(2, N), p=0.5, scale=2.0, seed=1, layer=0, step=0)],
    "add": [lambda: ops.add(zeros(2, N), zeros(2, N))],
    "softmax_cross_entropy": [
        lambda: ops.softmax_cross_entropy(zeros(3, N), zeros(N, dtype=np.int32), k=1)
    ],
    "sgd": [sgd],
    "augment": [
        lambda: ops.augment(
            *(zeros(N, 2, 2, 1, dtype=np.uint8), zeros(N, 3, dtype=np.int32)),
            *(zeros(2, 2, 1), zeros(1)),
            size=(2, 2),
        )
    ],
}


def test_every_launcher_is_called_here() -> None:
    kernels = {name for name in dir(target.DEVICE.lib.Kernels) if not name.startswith("_")}
    assert kernels - {"conv_plan"} == set(CALLS)  # that one launches nothing


@pytest.mark.parametrize("launcher", CALLS)
def test_a_launcher_opens_a_range_with_its_name(launcher: str) -> None:
    from cupy.cuda import _calls

    if _calls.ranges() is None:
        pytest.skip("the CUDA toolkit has no NVTX")
    for call in CALLS[launcher]:
        call()
        assert _calls.ranges() == [launcher]
