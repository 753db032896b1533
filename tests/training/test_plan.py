"""What the options leave open: numbers that fit the data set's size, and a net's own defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from pyalexnet.data.dataset import ArraySplit, Dataset
from pyalexnet.errors import NetError, UserError
from pyalexnet.nn import zoo
from pyalexnet.nn.net import Net
from pyalexnet.training import recipes, trainer
from pyalexnet.training.checkpoint import load
from pyalexnet.training.options import Options
from pyalexnet.training.plan import Plan, decide, fit
from pyalexnet.training.trainer import Outcome

pytestmark = pytest.mark.host_only("computes nothing, or on the host")


def dataset(images: int, channels: int = 3, size: int = 8, classes: int = 3) -> Dataset:
    pixels = np.broadcast_to(np.uint8(0), (images, size, size, channels))
    split = ArraySplit(pixels, np.zeros(images, np.int32))
    return Dataset("some", list(map(str, range(classes))), split, split, mirror=True)


def plan(images: int, channels: int = 3, size: int = 8, **given: Any) -> Plan:
    return decide(Options(**{"net": "small", **given}), dataset(images, channels, size), cores=1)


def test_small_sets_have_small_batches_lower_rates_and_more_epochs() -> None:
    sizes = (1, 160, 500, 2_000, 6_000, 20_000, 60_000, 1_281_167)
    fits = [fit(images, small=True) for images in sizes]
    assert [one.batch_size for one in fits] == sorted(one.batch_size for one in fits)
    assert [one.epochs for one in fits] == sorted((one.epochs for one in fits), reverse=True)
    assert [one.lr for one in fits] == sorted(one.lr for one in fits)
    assert fits[0].batch_size == fits[1].batch_size == 16
    assert fits[1].epochs > 10 * fits[5].epochs


def test_large_sets_are_as_ever() -> None:
    for images in (20_000, 60_000, 1_281_167):
        small, large = (fit(images, small) for small in (True, False))
        assert (small.batch_size, small.epochs, small.lr) == (128, 7, 0.02)
        assert (large.batch_size, large.epochs, large.lr) == (128, 90, 0.01)
        assert (small.schedule, large.schedule) == ("step", "plateau:5")
        assert small.colour_noise == large.colour_noise == 0
    assert plan(20_000, size=32).crop_pad == 2


def test_the_rate_fits_a_batch_that_is_given() -> None:
    by_batch = [fit(20_000, True, batch).lr for batch in (8, 32, 128, 512)]
    assert by_batch == sorted(by_batch) and by_batch[0] < by_batch[1] < by_batch[2] == by_batch[3]
    assert plan(20_000, batch_size=16).lr == plan(160, batch_size=16).lr


def test_options_that_are_given_win() -> None:
    given = {
        "batch_size": 7,
        "epochs": 3,
        "lr": 0.5,
        "schedule": "constant",
        "warmup": 0.25,
        "colour_noise": 0.0,
        "crop_pad": 0,
        "mirror": False,
    }
    made = plan(160, **given)
    assert {name: getattr(made, name) for name in given} == given
    assert made.fitted == ""
    assert made.bias_lr == 1.0


def test_colour_noise_is_for_few_colour_images() -> None:
    assert plan(160).colour_noise > 0
    assert plan(160).colour_variant == "code"
    assert plan(160, colour_noise=0.1).colour_variant == "paper"
    assert plan(160, channels=1, size=28).colour_noise == 0
    assert plan(20_000).colour_noise == 0
    with pytest.raises(UserError, match="images of shapes have 1 channel"):
        plan(160, channels=1, size=28, colour_noise=0.1)


def test_the_head_says_what_is_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(160, size=64)
    assert made.fitted == (
        "160 images are few: batch 16, learning rate 0.0071, 120 epochs, colour noise 0.8, "
        "crop-pad 8"
    )
    assert plan(20_000).fitted == "20,000 images: batch 128, learning rate 0.02, 7 epochs"
    assert plan(20_000, epochs=3, lr=0.1).fitted == "20,000 images: batch 128"
    given = tiny.options(tmp_path, epochs=1)
    del given["batch_size"]
    trainer.train(output=str(tmp_path / "run"), **given)
    assert "\nfit     30 images are few: batch 16\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_are_unaffected_by_the_sets_size(name: str) -> None:
    options = recipes.load(name)
    few, many = (
        decide(Options(**options), dataset(images, size=256, classes=5), cores=1)
        for images in (100, 1_281_167)
    )
    assert few == many
    assert (few.warmup, few.fitted) == (0, "")
    assert {key: few.options[key] for key in options} == options


def test_a_net_carries_its_defaults() -> None:
    own = {"lr": 0.003, "epochs": 11, "batch-size": 24, "schedule": "cosine", "warmup": 2}
    net = dataclasses.replace(tiny.NET, training=own)
    again = Net.from_json(net.to_json())
    assert again.training == own
    assert again == tiny.NET  # another way to train is no other net

    made = decide(Options(net="x.json"), dataset(160), net, cores=1)
    assert (made.lr, made.bias_lr, made.epochs) == (0.003, 0.006, 11)
    assert (made.batch_size, made.schedule, made.warmup) == (24, "cosine", 2.0)
    made = decide(Options(net="x.json", lr=0.1, epochs=2), dataset(160), net, cores=1)
    assert (made.lr, made.epochs, made.batch_size) == (0.1, 2, 24)


def test_a_nets_wrong_defaults_are_named(tmp_path: Path) -> None:
    with pytest.raises(NetError, match=r"net tiny: training has 'data'; expected some of epochs"):
        dataclasses.replace(tiny.NET, training={"data": "shapes"})
    with pytest.raises(NetError, match=r"training is 3; expected an object"):
        Net.from_json(tiny.NET.to_json().replace('"layers"', '"training": 3, "layers"'))
    for own, message in (
        ({"lr": "fast"}, "net tiny, training: lr is 'fast'; expected a number"),
        ({"epochs": 0}, "net tiny, training: epochs is 0; expected at least 1"),
        ({"schedule": "never"}, "net tiny, training: schedule is 'never'; expected constant"),
    ):
        net = dataclasses.replace(tiny.NET, training=own)
        path = tiny.write_net(tmp_path / "tiny.json", net)
        with pytest.raises(UserError, match=message):
            decide(Options(net=str(path)), dataset(160), cores=1)


def same_as_small(folder: Path, **more: Any) -> tuple[Outcome, Outcome]:
    """The ends of two short runs on tiny photos: of `small`, and of a JSON file of its layers."""
    data = tiny.write_data(folder / "data")
    net = dataclasses.replace(zoo.get("small", input=(3, 64, 64), classes=3), name="base")
    path = tiny.write_net(folder / "base.json", net)
    given = {"data": f"folder:{data}", "device": "host", "workers": 0, "epochs": 1, **more}
    one, other = (
        trainer.train(net=name, output=str(folder / f"run{i}"), **given)
        for i, name in enumerate(("small", str(path)))
    )
    return one, other


def test_a_json_file_of_its_layers_trains_bit_for_bit_like_small(tmp_path: Path) -> None:
    one, other = (load(run.folder / "last.safetensors") for run in same_as_small(tmp_path))
    own = {"net": "", "output": ""}
    assert one.options | own == other.options | own
    assert one.model.keys() == other.model.keys()
    for name, weights in one.model.items():
        assert weights.tobytes() == other.model[name].tobytes(), name


def test_a_resumed_run_needs_no_file_of_its_net(tmp_path: Path) -> None:
    _, run = same_as_small(tmp_path)
    (tmp_path / "base.json").unlink()
    again = trainer.train(output=str(run.folder), resume=True, epochs=2)
    assert again.progress.epoch == 2
