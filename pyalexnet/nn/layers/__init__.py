"""The layers that a net can have.

=================  ==============================================================
`base`             `Layer`, what it is given (`LayerBuffers`, `StepContext`) and what it declares
                   (`Parameter`, `TensorSpec`)
`conv` `linear`    the layers with weights
`norm` `pool`      LRN, max pooling; `window` has what convolution and pooling share
`activation`       ReLU and tanh as layers of their own
`dropout`          dropout
`merge`            `Add` and `Concat`, which join branches
`loss`             `SoftmaxCrossEntropy`, after a net's last layer
=================  ==============================================================

A new layer is a file here, a line in `KINDS`, and a test in tests/nn.
"""

from __future__ import annotations

from pyalexnet.nn.layers.activation import ReLU, Tanh
from pyalexnet.nn.layers.base import Layer, LayerBuffers, Parameter, StepContext, TensorSpec
from pyalexnet.nn.layers.conv import Conv
from pyalexnet.nn.layers.dropout import Dropout
from pyalexnet.nn.layers.linear import Linear
from pyalexnet.nn.layers.loss import LossBuffers, SoftmaxCrossEntropy
from pyalexnet.nn.layers.merge import Add, Concat
from pyalexnet.nn.layers.norm import LRN
from pyalexnet.nn.layers.pool import MaxPool

__all__ = [
    "KINDS",
    "LRN",
    "Add",
    "Concat",
    "Conv",
    "Dropout",
    "Layer",
    "LayerBuffers",
    "Linear",
    "LossBuffers",
    "MaxPool",
    "Parameter",
    "ReLU",
    "SoftmaxCrossEntropy",
    "StepContext",
    "Tanh",
    "TensorSpec",
]

#: Every kind of layer, by its name in a net's JSON file.
KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (Conv, LRN, MaxPool, ReLU, Tanh, Linear, Dropout, Add, Concat)
}
