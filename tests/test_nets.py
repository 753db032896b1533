"""Architectures as data: the published counts, JSON, errors that name the layer."""

from __future__ import annotations

import json
import re

import pytest

from pyalexnet import nets
from pyalexnet.errors import NetError
from pyalexnet.layers import LRN, Conv, Dropout, Linear, MaxPool, ReLU, Tanh
from pyalexnet.nets import Net

pytestmark = pytest.mark.host_only("describes nets")

# Parameters and millions of multiply-adds of each weight layer.
PAPER = {
    "conv1": (34_944, 105.4),
    "conv2": (307_456, 223.9),
    "conv3": (885_120, 149.5),
    "conv4": (663_936, 112.1),
    "conv5": (442_624, 74.8),
    "fc6": (37_752_832, 37.7),
    "fc7": (16_781_312, 16.8),
    "fc8": (4_097_000, 4.1),
}
ONE_TOWER = PAPER | {
    "conv1": (23_296, 70.3),
    "conv2": (307_392, 223.9),
    "conv3": (663_936, 112.1),
    "conv4": (884_992, 149.5),
    "conv5": (590_080, 99.7),
}


@pytest.mark.parametrize(
    ("net", "layers", "total", "macs"),
    [
        (nets.alexnet(), PAPER, 60_965_224, 724.4),
        (nets.alexnet_code(), PAPER, 60_965_224, 724.4),
        (nets.alexnet_caffe(), PAPER, 60_965_224, 724.4),
        (nets.alexnet_he(), PAPER, 60_965_224, 724.4),
        (nets.alexnet_one_tower(), ONE_TOWER, 61_100_840, 714.2),
    ],
)
def test_parameters_and_cost(net, layers, total, macs):
    counts = {
        name: (
            sum(parameter.size for parameter in parameters.values()),
            round(layer.macs(shape) / 1e6, 1),
        )
        for (name, parameters), layer, shape in zip(
            net.layer_parameters(), net.layers, net.shapes(), strict=False
        )
        if parameters
    }
    assert counts == layers
    assert sum(parameter.size for parameter in net.parameters().values()) == total
    pairs = zip(net.layers, net.shapes(), strict=False)
    assert round(sum(layer.macs(shape) for layer, shape in pairs) / 1e6, 1) == macs


def test_the_papers_shapes():
    net = nets.alexnet()
    assert dict(zip(("input", *net.names), net.shapes(), strict=True)) == {
        "input": (3, 224, 224),
        "conv1": (96, 55, 55),
        "lrn1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "lrn2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "dropout6": (4096,),
        "fc7": (4096,),
        "dropout7": (4096,),
        "fc8": (1000,),
    }
    assert net.classes == 1000


def test_the_papers_initial_weights():
    parameters = nets.alexnet().parameters()
    assert list(parameters)[:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]
    for name, parameter in parameters.items():
        layer, kind = name.split(".")
        if kind == "weight":
            assert (parameter.std, parameter.constant, parameter.decayed) == (0.01, 0, True)
        else:
            one = layer in ("conv2", "conv4", "conv5", "fc6", "fc7")
            assert (parameter.std, parameter.constant, parameter.decayed) == (0, one, False)


def test_the_papers_towers():
    """What crosses between the towers: conv3 and the FC layers read both, LRN stays within."""
    net = nets.alexnet()
    groups = {n: layer.groups for n, layer in zip(net.names, net.layers, strict=True) if n in PAPER
              and isinstance(layer, Conv)}  # fmt: skip
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    assert [layer for layer in net.layers if isinstance(layer, LRN)] == [LRN(groups=2)] * 2
    assert net.layers[0] == Conv(96, 11, stride=4, pad=0, ceil=True, std=0.01)  # not padded by 2
    assert LRN() == LRN(size=5, k=2.0, alpha=1e-4, beta=0.75)
    assert [layer for layer in net.layers if isinstance(layer, Dropout)] == [Dropout(0.5)] * 2


def kinds(net):
    """The order of layers, an activation of its own counting as one."""
    order = []
    for layer in net.layers:
        order.append(type(layer).__name__)
        if getattr(layer, "activation", ""):
            order.append("ReLU")
    return order


def initial(net):
    """What each weight layer's weights (their standard deviation) and biases begin with."""
    layers = [layer for layer in net.layers if isinstance(layer, Conv | Linear)]
    return [(layer.std, layer.bias) for layer in layers]


def test_the_codes_net():
    net = nets.alexnet_code()
    order = ["Conv", "LRN", "MaxPool", "ReLU", "Conv", "ReLU", "LRN", "MaxPool"]
    order += ["Conv", "ReLU", "Conv", "ReLU", "Conv", "MaxPool", "ReLU"]
    assert kinds(net) == [*order, *["Linear", "ReLU", "Dropout"] * 2, "Linear"]
    assert [layer for layer in net.layers if isinstance(layer, LRN)] == [
        LRN(size=5, k=2.0, alpha=2e-5, beta=0.75, groups=2)
    ] * 2
    assert initial(net) == [
        *[(0.01, 0), (0.01, 1), (0.03, 0), (0.03, 1), (0.03, 1)],
        *[(0.01, 1), (0.01, 1), (0.01, 0)],
    ]
    assert net.shapes()[1] == (96, 55, 55)


def test_caffes_net():
    net = nets.alexnet_caffe()
    assert kinds(net) == kinds(nets.alexnet())
    assert net.input == (3, 227, 227)
    assert net.layers[0] == Conv(96, 11, stride=4, std=0.01)
    assert net.shapes()[1:] == nets.alexnet().shapes()[1:]
    assert [layer for layer in net.layers if isinstance(layer, LRN)] == [
        LRN(size=5, k=1.0, alpha=2e-5, beta=0.75, groups=1)
    ] * 2
    assert initial(net) == [
        *[(0.01, 0), (0.01, 0.1), (0.01, 0), (0.01, 0.1), (0.01, 0.1)],
        *[(0.005, 0.1), (0.005, 0.1), (0.01, 0)],
    ]


def test_the_net_that_starts_at_once():
    net = nets.alexnet_he()
    assert (kinds(net), net.shapes()) == (kinds(nets.alexnet()), nets.alexnet().shapes())
    assert initial(net) == [(None, 0)] * 8
    assert net.parameters()["fc7.weight"].std == pytest.approx((2 / 4096) ** 0.5)


def test_the_one_tower_net():
    net = nets.alexnet_one_tower()
    kinds = [type(layer) for layer in net.layers[-5:]]
    assert kinds == [Dropout, Linear, Dropout, Linear, Linear]
    assert all(layer.inverted for layer in net.layers if isinstance(layer, Dropout))
    assert not any(isinstance(layer, LRN) for layer in net.layers)
    assert net.shapes()[1] == (64, 55, 55)
    assert net.scales == pytest.approx([1 / 58.395, 1 / 57.12, 1 / 57.375])


@pytest.mark.parametrize("pixels", range(28, 65))
@pytest.mark.parametrize("channels", [1, 3])
def test_small_takes_images_of_28_to_64_pixels(pixels, channels):
    net = nets.small(input=(channels, pixels, pixels), classes=7)
    assert net.classes == 7
    assert nets.get("small", input=(channels, pixels, pixels), classes=7) == net


@pytest.mark.parametrize("name", nets.NAMES)
def test_json_brings_back_the_net(name):
    net = nets.get(name)
    assert Net.from_json(net.to_json()) == net
    assert json.loads(net.to_json())["name"] == name


def test_json_of_every_kind_of_layer_and_of_defaults():
    net = Net(
        "mine",
        (2, 12, 12),
        (Conv(4, 3), Tanh(), ReLU(), LRN(k=1), MaxPool(), Dropout(0.1), Linear(3, activation="")),
        scale=(0.5, 2.0),
    )
    assert Net.from_json(net.to_json()) == net
    text = """{"name": "mine", "input": [2, 12, 12], "scale": [0.5, 2.0], "layers": [
        {"layer": "Conv", "filters": 4, "size": 3}, {"layer": "Tanh"}, {"layer": "ReLU"},
        {"layer": "LRN", "k": 1}, {"layer": "MaxPool"}, {"layer": "Dropout", "p": 0.1},
        {"layer": "Linear", "features": 3, "activation": ""}]}"""
    assert Net.from_json(text) == net


def test_a_net_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(nets.small(classes=3).to_json())
    assert nets.get(path) == nets.get(str(path)) == nets.small(classes=3)
    other = nets.get(path, input=(1, 28, 28), classes=5)
    assert (other.input, other.classes) == ((1, 28, 28), 5)


HEAD = '{"name": "a", "input": [3, 8, 8], "layers": '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a net in JSON"),
        ("[]", "expected an object of"),
        ('{"name": "a"}', "expected an object of"),
        (HEAD + '[], "rate": 1}', "expected an object of"),
        (HEAD + "3}", "expected lists"),
        (HEAD + "[]}", "net a: it has no layers"),
        (HEAD + "[7]}", 'layer 1: expected an object whose "layer" is one of Conv, LRN'),
        (HEAD + '[{"layer": "conv"}]}', "got {'layer': 'conv'}"),
        (HEAD + '[{"layer": ["Conv"]}]}', "got {'layer': ['Conv']}"),
        (HEAD + '[{"layer": "ReLU"}, {"layer": "Conv", "size": 3}]}', "layer 2, Conv: "),
        (HEAD + '[{"layer": "Conv", "filters": 1, "size": 3, "padding": 1}]}', "padding"),
        (HEAD + '[{"layer": "Conv", "filters": 1, "size": "3"}]}', "layer 1, Conv: size is '3'"),
        (HEAD + '[{"layer": "Linear", "features": 2, "activation": ""}], "scale": "x"}', "scale"),
        (HEAD + '[{"layer": "Linear", "features": 2, "activation": ""}], "scale": [1]}', "scale"),
        ('{"input": [3, 8], "layers": []}', "input is (3, 8)"),
        ('{"input": [3, 8, 0], "layers": []}', "input is (3, 8, 0)"),
        ('{"input": [3, 8, "8"], "layers": []}', "input is (3, 8, '8')"),
    ],
)
def test_json_errors(text, message):
    with pytest.raises(NetError, match=re.escape(message)):
        Net.from_json(text)


def test_impossible_sizes_name_the_layer():
    with pytest.raises(NetError, match="net alexnet, layer pool5: MaxPool: 3×3 windows do not fit"):
        nets.get("alexnet", input=(3, 32, 32))


@pytest.mark.parametrize(
    "last", [Linear(10), Linear(10, activation="tanh"), Conv(10, 3, activation=""), Dropout()]
)
def test_the_last_layer_gives_the_logits(last):
    with pytest.raises(NetError, match=f"net a, layer {last.prefix}.: the last layer"):
        Net("a", (3, 8, 8), (Conv(4, 3), last))


def test_scale_is_for_each_channel():
    last = Linear(2, activation="")
    assert Net("a", (3, 8, 8), (last,), scale=0.5).scales == (0.5, 0.5, 0.5)
    with pytest.raises(NetError, match=r"scale is \(1.0, 2.0\).*3 channels"):
        Net("a", (3, 8, 8), (last,), scale=(1.0, 2.0))


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(
        NetError, match=r"net 'vgg': expected alexnet, .*alexnet-one-tower, small or"
    ):
        nets.get("vgg")
    with pytest.raises(NetError, match=r"none\.json: .*No such file"):
        nets.get(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"\xff{")
    with pytest.raises(NetError, match=r"bad\.json"):
        nets.get(bad)
    bad.write_text("{")
    with pytest.raises(NetError, match=r"bad\.json: not a net in JSON"):
        nets.get(bad)
    with pytest.raises(NetError, match="features is 0"):
        nets.get("small", classes=0)
