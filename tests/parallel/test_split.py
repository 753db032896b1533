"""The paper's split over two devices: two halves of the same net, with four exchanges."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from helpers import checks, target, tiny
from pyalexnet.errors import DeviceError, NetError
from pyalexnet.model import Model
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import LRN, Add, Conv, Dropout, Linear, MaxPool, ReLU
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.nn.optim import SGD
from pyalexnet.parallel import exchange, split
from pyalexnet.parallel.exchange import Exchange
from pyalexnet.parallel.split import TowerDropout

ONE, BOTH = target.NAME, target.PAIR
BATCH = 12
SCALED = Normalization(scale=1 / 64)


def miniature() -> Net:
    """The paper's net with an eighth of its filters and 1/64 of its features, for 67×67 images."""
    layers = []
    for layer in zoo.alexnet(classes=10).layers:
        if isinstance(layer, Conv):
            layers.append(dataclasses.replace(layer, filters=layer.filters // 8, std=None, bias=0))
        elif isinstance(layer, Linear) and layer.activation:
            features = layer.features // 64
            layers.append(dataclasses.replace(layer, features=features, std=None, bias=0))
        elif isinstance(layer, Linear):
            layers.append(dataclasses.replace(layer, std=None))
        else:
            layers.append(layer)
    return Net("miniature", (3, 67, 67), tuple(layers), SCALED)


NET = miniature()


def batch(count: int = BATCH, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 70, 70, 3), np.uint8)
    crops = np.stack([rng.integers(0, 4, count), rng.integers(0, 4, count), np.arange(count) % 2])
    return images, rng.integers(0, 10, count).astype(np.int32), crops.T.astype(np.int32)


def make(devices_: str, net: Net = NET) -> Model:
    model = Model(net, devices_, BATCH, seed=3)
    model.set_mean_image(np.full((70, 70, 3), 120, np.float32))
    return model


def trained(devices_: str, steps: int) -> tuple[Model, SGD]:
    model = make(devices_)
    sgd = SGD(model, lr=0.01)
    for step in range(steps):
        model.forward_backward(*batch(seed=step), seed=1, step=step)
        sgd.step()
    return model, sgd


def assert_close(actual: dict, expected: dict, error: float) -> None:
    """Each tensor differs by at most `error` of its largest value."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(
            actual[name], tensor, rtol=0, atol=error * np.abs(tensor).max(), err_msg=name
        )


@pytest.mark.host_only("computes nothing")
def test_the_papers_towers_are_those_of_figure_2() -> None:
    std = 0.01
    towers = split.towers(zoo.alexnet())
    for number, tower in enumerate(towers):
        both = (
            Conv(48, 11, stride=4, ceil_mode=True, std=std),
            LRN(),
            MaxPool(3, 2),
            Conv(128, 5, pad=2, bias=1.0, std=std),
            LRN(),
            MaxPool(3, 2),
            Exchange(number),
            Conv(192, 3, pad=1, std=std),
            Conv(192, 3, pad=1, bias=1.0, std=std),
            Conv(128, 3, pad=1, bias=1.0, std=std),
            MaxPool(3, 2),
            Exchange(number),
            Linear(2048, bias=1.0, std=std),
            TowerDropout(tower=number),
            Exchange(number),
            Linear(2048, bias=1.0, std=std),
            TowerDropout(tower=number),
        )
        assert tower.layers[: len(both)] == both
    first, second = (tower.layers[len(both) :] for tower in towers)
    assert first == (Exchange(0, gives=False), Linear(1000, activation="", std=std))
    assert second == (Exchange(1, takes=False),)
    assert [tower.has_loss for tower in towers] == [True, False]
    sizes = [sum(p.size for p in net.parameters().values()) for net in towers]
    assert sum(sizes) == 60_965_224 and sizes[0] - sizes[1] == 4_097_000


def test_forward_has_the_same_bits_and_gradients_are_close() -> None:
    images, labels, crops = batch()
    one, two = make(ONE), make(BOTH)
    assert_close(two.state(), one.state(), 0)
    # A GPU splits a tower's sums otherwise than the whole net's.
    tolerance = 0.0 if target.IS_HOST else 1e-5
    np.testing.assert_allclose(
        two.logits(images, crops), one.logits(images, crops), rtol=tolerance, atol=tolerance
    )
    for model in (one, two):
        model.forward_backward(images, labels, crops, seed=5, step=7)
    found, expected = two.pop_metrics(), one.pop_metrics()
    assert found.loss == pytest.approx(expected.loss, rel=tolerance, abs=0)
    assert found._replace(loss=0) == expected._replace(loss=0)
    assert_close(two.gradients(), one.gradients(), 1e-5)


def test_many_steps_of_training_agree() -> None:
    """Gradients are summed in another order, and each step makes such differences larger."""
    steps = 8 if target.EMULATED else 20
    (one, sgd_one), (two, sgd_two) = trained(ONE, steps), trained(BOTH, steps)
    assert_close(two.state(), one.state(), 1e-4)
    changes = [np.abs(s.state()["momentum.conv1.weight"]).max() for s in (sgd_one, sgd_two)]
    assert min(changes) > 1e-5  # or nothing would have been shown
    assert two.pop_metrics().loss == pytest.approx(one.pop_metrics().loss, rel=1e-5)


def test_towers_mask_the_gradients_of_relus_that_only_one_layer_reads() -> None:
    """What an exchange reads is masked by its own layer, with both towers' gradients added."""
    layers = tuple(layer for layer in NET.layers if not isinstance(layer, Dropout))
    net = dataclasses.replace(NET, layers=layers)
    both, one = make(BOTH, net), make(ONE, net)
    masked = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for part in both.parts:
        names = dict(zip(part.net.names, part.layers, strict=True))
        assert [name for name, own in names.items() if own.dy_masked] == masked
    for model in (both, one):
        model.forward_backward(*batch(), seed=1)
    assert_close(both.gradients(), one.gradients(), 1e-5)


@pytest.mark.skipif(target.IS_HOST, reason="compares GPUs with the host")
@pytest.mark.parametrize(("gpus", "host"), [(ONE, "host"), (BOTH, "host,host")])
def test_gpus_take_the_steps_that_the_host_takes(gpus: str, host: str) -> None:
    (there, there_sgd), (here, here_sgd) = trained(gpus, 3), trained(host, 3)
    assert_close(there.state(), here.state(), 1e-5)
    assert_close(there_sgd.state(), here_sgd.state(), 1e-4)
    assert there.pop_metrics() == pytest.approx(here.pop_metrics(), rel=1e-6)
    images, labels, crops = batch(seed=9)
    probabilities = [model.predict(images, crops) for model in (there, here)]
    np.testing.assert_allclose(*probabilities, rtol=1e-5)
    for model in (there, here):
        model.evaluate(images, labels, crops)
    assert there.pop_metrics() == pytest.approx(here.pop_metrics(), rel=1e-6)


def test_exchanges_carry_what_the_figure_says_and_nothing_else() -> None:
    model = make(BOTH)
    images, labels, crops = batch()
    padded = target.DEVICE.pad_images(BATCH)
    halves = {"exchange2": 16 * 3 * 3, "exchange5": 16 * 1 * 1, "exchange6": 32, "exchange7": 32}
    number = 4 * padded
    model.logits(images, crops)
    # Both halves cross, but for fc8, which one tower has.
    expected = {k: 2 * size * number for k, size in halves.items()} | {"exchange7": 32 * number}
    assert exchange.pop_traffic(model.parts) == expected
    model.forward_backward(images, labels, crops, seed=0, step=0)
    assert exchange.pop_traffic(model.parts) == {
        name: 2 * moved for name, moved in expected.items()
    }
    assert exchange.pop_traffic(make(ONE).parts) == {}


@pytest.mark.host_only("computes nothing")
def test_traffic_of_the_papers_net() -> None:
    """Figure 2's crossings, in numbers an image, forward."""
    first, _ = split.towers(zoo.alexnet())
    sizes = {
        name: np.prod(shape)
        for name, layer, shape in zip(first.names, first.layers, first.shapes(), strict=False)
        if isinstance(layer, Exchange)
    }
    assert sizes == {
        "exchange2": 128 * 13 * 13,
        "exchange5": 128 * 6 * 6,
        "exchange6": 2048,
        "exchange7": 2048,
    }


def test_each_device_holds_about_half() -> None:
    [one] = make(ONE).parts
    for tower in make(BOTH).parts:
        share = tower.parameter_bytes() / one.parameter_bytes()
        assert 0.45 < share < 0.55
        assert 0.45 < sum(tower.activation_bytes()) / sum(one.activation_bytes()) < 0.6
    text = make(BOTH).summary()
    assert f"miniature, tower 1, on {target.NAMES[-1]}" in text and text.count("exchange6") == 2


def test_any_order_and_number_of_threads_same_bits() -> None:
    def bits(**how) -> bytes:
        with checks.execution(**how):
            model, _ = trained(BOTH, 2)
        return b"".join(array.tobytes() for array in model.state().values())

    expected = bits(order="forward", threads=1)
    ways = [{"order": "reverse"}, {"order": "shuffled", "seed": 1}, {"threads": 3}]
    for how in ways if target.IS_HOST else checks.WAYS:
        assert bits(**how) == expected, how


def test_state_goes_from_two_devices_to_one_and_back() -> None:
    two, momentum = trained(BOTH, 2)
    for where in (ONE, BOTH):
        model = make(where)
        sgd = SGD(model)
        model.load_state(two.state())
        sgd.load_state(momentum.state())
        assert_close(model.state(), two.state(), 0)
        assert_close(sgd.state(), momentum.state(), 0)


def test_a_run_continues_on_another_number_of_devices(tmp_path: Path) -> None:
    from pyalexnet.training import checkpoint  # other tests need no training

    for output, places in (("split", [BOTH, ONE]), ("whole", [ONE, BOTH])):
        tiny.run(tmp_path, output, device=places[0], epochs=1)
        file = tmp_path / output / "last.safetensors"
        before = checkpoint.load(file)
        model = Model(before.net, places[1], tiny.BATCH)
        model.load_state(before.model)
        assert_close(model.state(), dict(before.model), 0)
        tiny.run(tmp_path, output, device=places[1], epochs=2, resume=True)
    ends = [checkpoint.load(tmp_path / name / "last.safetensors") for name in ("split", "whole")]
    assert_close(dict(ends[0].model), dict(ends[1].model), 1e-4)


@pytest.mark.host_only("computes nothing")
def test_the_small_net_splits() -> None:
    first, second = split.towers(zoo.small())
    assert [n for n in first.names if n.startswith("exchange")] == [
        "exchange1",
        "exchange2",
        "exchange3",
        "exchange4",
    ]
    assert second.layers[-1] == Exchange(1, takes=False)


def test_names_and_inputs_of_a_chain_survive_the_split() -> None:
    """A layer that names the one before it reads the exchange between them."""
    layers = (
        Conv(4, 3, name="first", inputs=("input",)),
        ReLU(inputs=("first",)),
        Conv(4, 3, name="second", inputs=("relu1",)),
        Dropout(0.5, name="drop", inputs=("second",)),
        Linear(2, activation="", name="logits", inputs=("drop",)),
    )
    net = Net("named", (3, 67, 67), layers, SCALED)
    first, _ = split.towers(net)
    names = ["first", "relu1", "exchange1", "second", "drop", "exchange2", "logits"]
    assert [*first.names] == names
    one, two = (Model(net, where, BATCH, seed=3) for where in (ONE, BOTH))
    images, labels, crops = batch()
    for model in (one, two):
        model.forward_backward(images, labels % 2, crops, seed=1)
    assert_close(two.gradients(), one.gradients(), 1e-5)


def test_odd_features_have_the_whole_nets_dropout() -> None:
    """Tower 1's features begin at 3, within four that share their random words."""
    net = Net("odd", (1, 2, 2), (Linear(6), Dropout(0.5), Linear(2, activation="")), SCALED)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 2, 2, 1), np.uint8)
    labels, crops = np.arange(8, dtype=np.int32) % 2, np.zeros((8, 3), np.int32)
    one, two = (Model(net, where, 8, seed=3) for where in (ONE, BOTH))
    for model in (one, two):
        model.forward_backward(images, labels, crops, seed=1, step=0)
    assert_close(two.gradients(), one.gradients(), 1e-6)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Conv(5, 3), Linear(2, "")), "layer conv1: it has 5 filters; expected an even number"),
        ((Linear(5), Linear(2, "")), "layer fc1: it has 5 features"),
        ((Conv(4, 3), LRN(), Linear(2, "")), "layer lrn1: it normalises across both towers"),
        (
            (Conv(4, 3), Conv(6, 3, groups=1), Conv(6, 1, groups=3), Linear(2, "")),
            "layer conv3: it has 3 groups; expec",
        ),
        ((Conv(4, 3, groups=2), Linear(2, "")), "layer conv1: its groups see parts of the image"),
        ((ReLU(), Linear(2), Linear(2, "")), "layer relu0: it reads the image"),
        ((Linear(2, ""),), "layer fc1: it is the only one; expected more"),
        (
            (Conv(4, 3), ReLU(), Add(inputs=("relu1", "conv1")), Linear(2, "")),
            "layer add1: it reads relu1 and conv1; expected a chain",
        ),
    ],
)
def test_nets_that_cannot_be_split(layers: tuple, message: str) -> None:
    net = Net("odd", (2, 8, 8), layers)
    with pytest.raises(NetError, match=message):
        Model(net, BOTH, 4)


@pytest.mark.host_only("computes nothing")
def test_more_than_two_devices() -> None:
    with pytest.raises(DeviceError, match="3 devices; expected one, or two"):
        Model(NET, "host,host,host", 4)
