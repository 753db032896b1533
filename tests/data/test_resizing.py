from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.data_files import random_bytes, write_cifar10_binary, write_mnist
from pyalexnet.data import Loader, open_dataset
from pyalexnet.data.dataset import ArraySplit
from pyalexnet.data.resizing import ResizedSplit
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [5, 19])
def test_images_are_resized_as_pillow_does(channels: int, size: int) -> None:
    images = random_bytes(6, 10, 10, channels)
    split = ResizedSplit(ArraySplit(images, np.arange(6)), size)
    assert split.shape == (size, size, channels) and not split.decodes and split.name(4) == "4"
    order = np.array([5, 0, 5, 2])
    for image, number in zip(split.read(order), order, strict=True):
        plain = images[number, :, :, 0] if channels == 1 else images[number]
        expected = Image.fromarray(plain).resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(image.reshape(size, size, -1).squeeze(), np.asarray(expected))
    np.testing.assert_array_equal(split.labels, np.arange(6))


def test_sets_in_memory_are_resized_on_request(tmp_path: Path) -> None:
    for spec, shape in (
        (f"mnist:{write_mnist(tmp_path / 'digits')}", (28, 28, 1)),
        (f"fashion-mnist:{tmp_path / 'digits'}", (28, 28, 1)),
        (f"cifar10:{write_cifar10_binary(tmp_path / 'batches')}", (32, 32, 3)),
        ("shapes", (32, 32, 3)),
    ):
        plain = open_dataset(spec)
        assert plain.train.shape == plain.val.shape == shape
        same = open_dataset(spec, size=shape[0])
        assert isinstance(same.train, ArraySplit)
        large = open_dataset(spec, size=40)
        assert large.train.shape == large.val.shape == (40, 40, shape[2])
        assert (large.classes, large.mirror) == (plain.classes, plain.mirror)
        with Loader(large.val, 4, workers=2) as loader:
            batch = next(iter(loader.epoch()))
            np.testing.assert_array_equal(batch.labels, plain.val.labels[: len(batch.labels)])
            assert batch.images.std() > 0
        with pytest.raises(DataError, match="image size is 0; expected 1 to 4096"):
            open_dataset(spec, size=0)
