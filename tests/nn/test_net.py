"""Nets as data: chains and graphs of layers, JSON, errors that name the layer."""

from __future__ import annotations

import json
import re

import pytest

from helpers import tiny
from pyalexnet.errors import NetError
from pyalexnet.nn.layers import LRN, Add, Concat, Conv, Dropout, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

pytestmark = pytest.mark.host_only("computes nothing")

LOGITS = Linear(2, activation="")


def net_of(*layers):
    """Returns a net of these layers and logits, for maps (3, 8, 8)."""
    return Net("a", (3, 8, 8), (*layers, LOGITS))


# Graphs


def test_layers_read_the_one_before_or_those_that_they_name():
    net = net_of(
        Conv(3, 3, pad=1, name="trunk"),
        ReLU(),
        Add(inputs=("trunk", "relu1", "input")),
        Concat(inputs=("add1", "trunk")),
        MaxPool(2, 2),
    )
    assert net.names == ("trunk", "relu1", "add1", "concat1", "pool1", "fc2")
    assert net.sources == ((0,), (1,), (1, 2, 0), (3, 1), (4,), (5,))
    assert net.shapes() == ((3, 8, 8), *[(3, 8, 8)] * 3, (6, 8, 8), (6, 4, 4), (2,))
    assert net.input_shapes(3) == ((3, 8, 8), (3, 8, 8))
    assert list(net.parameters()) == ["trunk.weight", "trunk.bias", "fc2.weight", "fc2.bias"]
    assert net.buffers() == {}


def test_a_chain_may_name_its_inputs():
    assert net_of(Conv(3, 3), ReLU(inputs=("conv1",))).sources == ((0,), (1,), (2,))
    assert net_of(ReLU(inputs=("input",))).sources == ((0,), (1,))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (ReLU(inputs=("trunk",)),),
            "net a, layer relu0: an input is 'trunk', but no layer before has it; "
            "expected some of input",
        ),
        (
            (Conv(3, 3), ReLU(inputs=("fc2",))),  # a layer behind
            "layer relu1: an input is 'fc2', but no layer before has it; "
            "expected some of input, conv1",
        ),
        ((Conv(3, 3), ReLU(inputs=("relu1",))), "layer relu1: an input is 'relu1'"),  # itself
        (
            (ReLU(), ReLU(), Add(inputs=("relu0", "input"))),
            "layer add0: an input is 'relu0', but several layers have it",
        ),
        ((ReLU(), ReLU(inputs=("input",))), "net a: no layer reads relu0; expected one that does"),
        (
            (Conv(3, 3, name="x"), Conv(3, 3, name="x")),
            "net a: two layers are called x; expected one",
        ),
        ((ReLU(name="x"), ReLU(name="x")), "net a: two layers are called x; expected one"),
        # A name may not be another layer's default name either.
        ((Conv(3, 3), ReLU(name="conv1")), "net a: two layers are called conv1"),
        ((ReLU(name="input"),), "net a: two layers are called input"),
        ((ReLU(name="2nd"),), "net a, layer 1: name is '2nd'; expected letters"),
        ((Conv(3, 3), ReLU(name="a.b")), "net a, layer 2: name is 'a.b'"),
        ((ReLU(name=3),), "net a, layer 1: name is 3"),
        (
            (ReLU(name="r", inputs=("input", "input")),),
            "net a, layer r: ReLU: it has 2 inputs; expected one",
        ),
        (
            (Conv(3, 3), Conv(4, 1, inputs=("conv1", "conv1"))),
            "layer conv2: Conv: it has 2 inputs; expected one",
        ),
        ((Add(),), "layer add0: Add: its inputs are (3, 8, 8); expected two or more of equal"),
        (
            (Conv(4, 3), Add(inputs=("input", "conv1"))),
            "layer add1: Add: its inputs are (3, 8, 8), (4, 6, 6); expected two or more of equal",
        ),
        ((Concat(),), "layer concat0: Concat: its inputs are (3, 8, 8); expected two or more"),
        (
            (MaxPool(2, 2), Concat(inputs=("input", "pool0"))),
            "layer concat0: Concat: its inputs are (3, 8, 8), (3, 4, 4); expected two or more",
        ),
        (
            (Linear(3), Concat(inputs=("input", "fc1"))),
            "layer concat1: Concat: its inputs are (3, 8, 8), (3,); expected two or more",
        ),
    ],
)
def test_impossible_graphs_name_the_layer(layers, message):
    with pytest.raises(NetError, match=re.escape(message)):
        net_of(*layers)


def test_features_can_be_added_and_concatenated():
    net = net_of(
        Linear(4, name="one"),
        Linear(4, inputs=("input",), name="two"),
        Add(inputs=("one", "two")),
        Concat(inputs=("one", "add2")),
    )
    assert net.shapes()[-2] == (8,)


def test_an_output_has_no_more_channels_than_kernels_count():
    layers = [Conv(2**28 - 16, 1, inputs=("input",), name=f"c{i}") for i in range(8)]
    names = tuple(layer.name for layer in layers)
    message = "net a, layer all: Concat: an extent of its output is 2147483520; expected at most"
    with pytest.raises(NetError, match=message):
        net_of(*layers, Concat(inputs=names, name="all"))


# JSON


def test_json_of_every_kind_of_layer_and_of_defaults():
    net = Net(
        "mine",
        (2, 12, 12),
        (
            *(Conv(4, 3), Tanh(), ReLU(), LRN(k=1), MaxPool(), Dropout(0.1)),
            Add("relu", inputs=("dropout1", "pool1"), name="sum"),
            Concat(inputs=("sum", "dropout1")),
            Linear(3, activation=""),
        ),
        Normalization(scale=(0.5, 2.0), mean=127.5),
    )
    assert Net.from_json(net.to_json()) == net
    text = """{"name": "mine", "input": [2, 12, 12],
        "normalization": {"scale": [0.5, 2.0], "mean": 127.5}, "layers": [
        {"layer": "Conv", "filters": 4, "size": 3}, {"layer": "Tanh"}, {"layer": "ReLU"},
        {"layer": "LRN", "k": 1}, {"layer": "MaxPool"}, {"layer": "Dropout", "p": 0.1},
        {"layer": "Add", "activation": "relu", "inputs": ["dropout1", "pool1"], "name": "sum"},
        {"layer": "Concat", "inputs": ["sum", "dropout1"]},
        {"layer": "Linear", "features": 3, "activation": ""}]}"""
    assert Net.from_json(text) == net


HEAD = '{"name": "a", "input": [3, 8, 8], "layers": '
LAST = '[{"layer": "Linear", "features": 2, "activation": ""}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object of"),
        ('{"name": "a"}', "expected an object of"),
        (HEAD + '[], "lr": 1}', "expected an object of"),
        (HEAD + "3}", "layers is 3; expected a list"),
        (HEAD + "[]}", "net a: layers is empty; expected at least one"),
        (HEAD + "[7]}", 'layer 1 is 7; expected an object whose "layer" is one of Conv'),
        (HEAD + '[{"layer": "conv"}]}', "layer 1 is {'layer': 'conv'}"),
        (HEAD + '[{"layer": ["Conv"]}]}', "layer 1 is {'layer': ['Conv']}"),
        (HEAD + '[{"layer": "ReLU"}, {"layer": "Conv", "size": 3}]}', "layer 2, Conv: "),
        (HEAD + '[{"layer": "Conv", "filters": 1, "size": 3, "padding": 1}]}', "padding"),
        (HEAD + '[{"layer": "Conv", "filters": 1, "size": "3"}]}', "layer 1, Conv: size is '3'"),
        (
            HEAD + '[{"layer": "ReLU", "inputs": "input"}]}',
            "layer 1, ReLU: inputs is 'input'; ex",
        ),
        (
            HEAD + '[{"layer": "ReLU", "inputs": [1]}]}',
            "layer 1, ReLU: inputs is [1]; expected",
        ),
        (HEAD + '[{"layer": "ReLU", "name": ["x"]}]}', "layer 1: name is ['x']; expected letters"),
        (HEAD + LAST + "], " + '"scale": 2}', "expected an object of"),
        (HEAD + LAST + "], " + '"normalization": 2}', "normalization is 2; expected an object of"),
        (HEAD + LAST + "], " + '"normalization": {"std": 1}}', "normalization is {'std': 1}"),
        (HEAD + LAST + "], " + '"normalization": {"scale": "x"}}', "net a: scale is 'x'"),
        (HEAD + LAST + "], " + '"normalization": {"mean": [1]}}', "net a: mean is (1,)"),
        ('{"input": [3, 8], "layers": []}', "input is (3, 8)"),
        ('{"input": [3, 8, 0], "layers": []}', "input is (3, 8, 0)"),
        ('{"input": [3, 8, "8"], "layers": []}', "input is (3, 8, '8')"),
        ('{"input": [3, 65536, 8], "layers": []}', "input is (3, 65536, 8); expected at most 65"),
        (
            '{"input": [4, 8, 268435456], "layers": []}',
            "expected at most 65535 rows, of at most 1073741823 numbers",
        ),
        (HEAD + LAST + "], " + '"normalization": {"scale": 1e-50}}', "net a: scale is 1e-50"),
        (HEAD + LAST + "], " + '"normalization": {"mean": 1e39}}', "net a: mean is 1e+39; expect"),
        (
            '{"name": 7, "input": [], "layers": []}',
            "name is 7; expected at most 200 printable characters",
        ),
        ('{"name": "a\\n", "input": [], "layers": []}', "name is 'a\\n'; expected at most 200"),
        ('{"input": 7, "layers": []}', "input is 7; expected a list"),
        (HEAD + "[" + "7," * 10_000 + "7]}", "10001 layers; expected at most 10000"),
        (HEAD + '[{"layer": "ReLU", "name": [1]}, ' + LAST[1:] + "]}", "name is [1]; expected"),
        (
            HEAD + '[{"layer": "Conv", "filters": 1, "size": 65536, "pad": 65536, '
            '"stride": 65536}, ' + LAST[1:] + "]}",
            "net a, layer conv1: Conv: window x channels is 65536 x 65536 x 3; expected at most",
        ),
    ],
)
def test_json_errors(text, message):
    with pytest.raises(NetError, match=re.escape(message)):
        Net.from_json(text)


@pytest.mark.parametrize(
    "last", [Linear(10), Linear(10, activation="tanh"), Conv(10, 3, activation=""), Dropout()]
)
def test_the_last_layer_gives_the_logits(last):
    with pytest.raises(NetError, match=f"net a, layer {last.prefix}.: the last layer"):
        Net("a", (3, 8, 8), (Conv(4, 3), last))


def test_json_brings_back_names_and_inputs():
    text = tiny.BRANCHED.to_json()
    assert Net.from_json(text) == tiny.BRANCHED
    entries = json.loads(text)["layers"]
    assert {"name", "inputs"} <= set(entries[-2])
    # Default names and inputs are left out.
    assert not {"name", "inputs"} & set(json.loads(net_of(ReLU()).to_json())["layers"][0])
