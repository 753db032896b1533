"""Data and nets that do not fit each other are refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import target, tiny
from helpers.data_files import write_image, write_mnist
from pyalexnet.data.dataset import ArraySplit, Dataset
from pyalexnet.errors import UserError
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.nn import zoo
from pyalexnet.nn.layers import Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training.options import Options
from pyalexnet.training.plan import decide
from pyalexnet.training.trainer import train


def images(size: int, classes: int = 10, channels: int = 3) -> Dataset:
    split = ArraySplit(
        np.zeros((classes, size, size, channels), np.uint8), np.arange(classes, dtype=np.int64)
    )
    names = [f"class {label}" for label in range(classes)]
    return Dataset("folder", names, split, split, mirror=True)


@pytest.mark.host_only("computes nothing")
@pytest.mark.parametrize(
    ("net", "stored", "percent", "size"),
    [
        ("alexnet", 32, 98, 256),
        ("alexnet", 64, 92, 256),
        ("alexnet", 193, 26, 256),
        ("alexnet", 194, None, None),
        ("alexnet", 224, None, None),
        ("alexnet", 256, None, None),
        ("alexnet-caffe", 224, None, None),  # 227
        ("alexnet-caffe", 32, 98, 259),
        ("small", 28, None, None),
    ],
)
def test_nets_that_would_read_mostly_zeros_are_refused(
    net: str, stored: int, percent: int | None, size: int | None
) -> None:
    options = Options(net=net, data="folder:photos")
    if percent is None:
        assert decide(options, images(stored)).net.input[1] > 0
        return
    reads = zoo.get(net).input[1]
    with pytest.raises(
        UserError,
        match=rf"net {net} reads {reads}×{reads}, but images of folder:photos are "
        rf"{stored}×{stored}: zeros would fill {percent} % .*; expected at most 25 %: give "
        rf"--image-size {size}, or another net, such as --net small",
    ):
        decide(options, images(stored))


@pytest.mark.host_only("computes nothing")
def test_prepared_images_cannot_be_enlarged() -> None:
    options = Options(net="alexnet", data="imagenet:prepared")
    message = "expected at most 25 %: give pyalexnet-prepare's --size 256, or another net"
    with pytest.raises(UserError, match=message) as caught:
        decide(options, images(64))
    assert "image-size" not in str(caught.value)


@pytest.mark.host_only("computes nothing")
def test_a_little_border_is_noted() -> None:
    plan = decide(Options(net="alexnet-caffe", data="folder:photos"), images(224))
    expected = "3 % of the net's 227×227 are zeros around images of 224×224 (image-size)"
    assert plan.border == expected
    assert not decide(Options(net="alexnet", data="folder:photos"), images(224)).border


@pytest.mark.host_only("computes nothing")
def test_the_default_data_are_too_small_for_large_nets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="net alexnet reads 224×224, but images of shapes are 32"):
        train(net="alexnet", output=str(tmp_path / "run"), device=target.NAME)


def test_images_in_memory_are_enlarged_on_request(tmp_path: Path) -> None:
    grey = Net("grey", (1, 40, 40), (Linear(10, ""),), Normalization(0.001))
    file = tiny.write_net(tmp_path / "grey.json", grey)
    more: dict[str, Any] = {"net": str(file), "data": str(write_mnist(tmp_path / "digits"))}
    with pytest.raises(UserError, match=r"images of .*digits are 28×28: zeros would fill 51 %"):
        tiny.run(tmp_path, image_size=None, **more)
    outcome = tiny.run(tmp_path, image_size=40, epochs=1, lr=1e-3, overwrite=True, **more)
    saved = checkpoints.load(outcome.folder / "last.safetensors")
    assert saved.image_shape == (40, 40, 1) and saved.data["name"] == "mnist"
    assert saved.mean is not None and saved.mean.shape == (40, 40, 1)
    result = evaluate([outcome.folder / "last.safetensors"], device=target.NAME)
    error = tiny.records(outcome.folder)[-1]["val_top1_error"]
    assert result.metrics.top1_error == pytest.approx(error)


@pytest.mark.host_only("computes nothing")
def test_one_class_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "backup" / "photos" / "ant" / f"{number}.jpg")
    backup = tmp_path / "backup"
    with pytest.raises(
        UserError, match=r"backup: has one class, 'photos'; expected at least two\. If photos is"
    ):
        train(data=str(backup), output=str(tmp_path / "run"), device=target.NAME)


@pytest.mark.host_only("computes nothing")
def test_a_share_of_data_with_validation_images_is_refused(tmp_path: Path) -> None:
    for given, message in (
        (0.2, "val-share is 0.2, but .*data has validation images of its own; expected no"),
        (1.0, "val-share is 1.0; expected more than 0 and less than 1"),
    ):
        with pytest.raises(UserError, match=message):
            tiny.run(tmp_path, val_share=given)
