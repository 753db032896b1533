"""The built-in nets: the published counts, shapes and initial weights; nets from files."""

from __future__ import annotations

import json

import pytest

from pyalexnet.errors import NetError
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear
from pyalexnet.nn.net import Net

pytestmark = pytest.mark.host_only("computes nothing")

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
        (zoo.alexnet(), PAPER, 60_965_224, 724.4),
        (zoo.alexnet_code(), PAPER, 60_965_224, 724.4),
        (zoo.alexnet_caffe(), PAPER, 60_965_224, 724.4),
        (zoo.alexnet_he(), PAPER, 60_965_224, 724.4),
        (zoo.alexnet_one_tower(), ONE_TOWER, 61_100_840, 714.2),
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
    net = zoo.alexnet()
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
    parameters = zoo.alexnet().parameters()
    assert list(parameters)[:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]
    for name, parameter in parameters.items():
        layer, kind = name.split(".")
        if kind == "weight":
            assert (parameter.std, parameter.constant, parameter.decays) == (0.01, 0, True)
        else:
            one = layer in ("conv2", "conv4", "conv5", "fc6", "fc7")
            assert (parameter.std, parameter.constant, parameter.decays) == (0, one, False)


def test_the_papers_towers():
    """conv3 and the fully connected layers read both towers; LRN stays within one."""
    net = zoo.alexnet()
    groups = {n: layer.groups for n, layer in zip(net.names, net.layers, strict=True) if n in PAPER
              and isinstance(layer, Conv)}  # fmt: skip
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    assert [layer for layer in net.layers if isinstance(layer, LRN)] == [LRN(groups=2)] * 2
    assert net.layers[0] == Conv(
        96, 11, stride=4, pad=0, ceil_mode=True, std=0.01
    )  # not padded by 2
    assert LRN() == LRN(size=5, k=2.0, alpha=1e-4, beta=0.75)
    assert [layer for layer in net.layers if isinstance(layer, Dropout)] == [Dropout(0.5)] * 2


def kinds(net):
    """Lists the kinds of layers in order; a built-in activation counts as a layer."""
    order = []
    for layer in net.layers:
        order.append(type(layer).__name__)
        if getattr(layer, "activation", ""):
            order.append("ReLU")
    return order


def initial(net):
    """Lists each weight layer's initial standard deviation and bias."""
    layers = [layer for layer in net.layers if isinstance(layer, Conv | Linear)]
    return [(layer.std, layer.bias) for layer in layers]


def test_the_codes_net():
    net = zoo.alexnet_code()
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
    net = zoo.alexnet_caffe()
    assert kinds(net) == kinds(zoo.alexnet())
    assert net.input == (3, 227, 227)
    assert net.layers[0] == Conv(96, 11, stride=4, std=0.01)
    assert net.shapes()[1:] == zoo.alexnet().shapes()[1:]
    assert [layer for layer in net.layers if isinstance(layer, LRN)] == [
        LRN(size=5, k=1.0, alpha=2e-5, beta=0.75, groups=1)
    ] * 2
    assert initial(net) == [
        *[(0.01, 0), (0.01, 0.1), (0.01, 0), (0.01, 0.1), (0.01, 0.1)],
        *[(0.005, 0.1), (0.005, 0.1), (0.01, 0)],
    ]


def test_the_net_that_starts_at_once():
    net = zoo.alexnet_he()
    assert (kinds(net), net.shapes()) == (kinds(zoo.alexnet()), zoo.alexnet().shapes())
    assert initial(net) == [(None, 0)] * 8
    assert net.parameters()["fc7.weight"].std == pytest.approx((2 / 4096) ** 0.5)


def test_the_one_tower_net():
    net = zoo.alexnet_one_tower()
    kinds = [type(layer) for layer in net.layers[-5:]]
    assert kinds == [Dropout, Linear, Dropout, Linear, Linear]
    assert all(layer.inverted for layer in net.layers if isinstance(layer, Dropout))
    assert not any(isinstance(layer, LRN) for layer in net.layers)
    assert net.shapes()[1] == (64, 55, 55)
    assert net.normalization.scales(3) == pytest.approx([1 / 58.395, 1 / 57.12, 1 / 57.375])


@pytest.mark.parametrize("pixels", range(28, 65))
@pytest.mark.parametrize("channels", [1, 3])
def test_small_takes_images_of_28_to_64_pixels(pixels, channels):
    net = zoo.small(input=(channels, pixels, pixels), classes=7)
    assert net.classes == 7
    assert zoo.get("small", input=(channels, pixels, pixels), classes=7) == net


@pytest.mark.parametrize("name", zoo.NAMES)
def test_json_brings_back_the_net(name):
    net = zoo.get(name)
    assert Net.from_json(net.to_json()) == net
    assert json.loads(net.to_json())["name"] == name


def test_a_net_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(zoo.small(classes=3).to_json())
    assert zoo.get(path) == zoo.get(str(path)) == zoo.small(classes=3)
    other = zoo.get(path, input=(1, 28, 28), classes=5)
    assert (other.input, other.classes) == ((1, 28, 28), 5)


def test_impossible_sizes_name_the_layer():
    with pytest.raises(
        NetError, match="net alexnet, layer pool5: MaxPool: its input is 1×1 padded by 0"
    ):
        zoo.get("alexnet", input=(3, 32, 32))


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(
        NetError, match=r"net is 'vgg'; expected alexnet, .*alexnet-one-tower, small or"
    ):
        zoo.get("vgg")
    with pytest.raises(NetError, match=r"none\.json: no such file"):
        zoo.get(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"\xff{")
    with pytest.raises(NetError, match=r"bad\.json"):
        zoo.get(bad)
    bad.write_text("{")
    with pytest.raises(NetError, match=r"bad\.json: damaged, or not JSON"):
        zoo.get(bad)
    with pytest.raises(NetError, match="features is 0"):
        zoo.get("small", classes=0)
