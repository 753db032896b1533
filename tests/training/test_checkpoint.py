"""Checkpoints: whole, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import pyalexnet
from helpers import tiny
from pyalexnet.data.dataset import Colour
from pyalexnet.errors import CheckpointError, UserError
from pyalexnet.model import Model, Totals
from pyalexnet.nn.layers import Conv, Linear
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.training import checkpoint as checkpoints
from pyalexnet.training.checkpoint import (
    Checkpoint,
    Progress,
    check_net,
    load,
    save_model,
)
from pyalexnet.training.options import Options

pytestmark = pytest.mark.host_only("reads and writes files")

SMALLEST = Net("smallest", input=(1, 2, 2), layers=(Linear(2, activation=""),))


def checkpoint(seed: int = 0, net: Net = SMALLEST) -> Checkpoint:
    rng = np.random.default_rng(seed)

    def arrays(prefix: str = "") -> dict[str, Any]:
        shapes = {f"{prefix}{name}": p.shape for name, p in net.parameters().items()}
        return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}

    shape = (3, 3, net.input[0])
    schedule = {"drops": 1, "best": 0.25, "stalled": 0}
    return Checkpoint(
        net=net,
        classes=["cat", "Köter", "cow"][: net.classes],
        data={"spec": "folder:x", "name": "folder", "train": 3, "val": 4, "val_share": None},
        mean=rng.uniform(0, 255, shape).astype(np.float32),
        image_shape=shape,
        model=arrays(),
        optimiser=arrays("momentum."),
        progress=Progress(7, 1, 3, 0.1, 0.05, Totals(1 / 3, 2.0, 3.0, 4.0), 0.25, 1, schedule),
        options=dataclasses.asdict(
            Options(
                data="folder:x",
                seed=2**64 - 1,
                lr=0.1,
                batch_size=2,
                epochs=9,
                schedule="plateau:2",
            )
        ),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved = checkpoint(net=tiny.NET)
    saved.save(path)
    loaded = load(path)
    for field in ("net", "classes", "image_shape", "data", "progress", "options"):
        assert getattr(loaded, field) == getattr(saved, field)
    np.testing.assert_array_equal(loaded.mean, saved.mean)
    for part in ("model", "optimiser"):
        old, new = getattr(saved, part), getattr(loaded, part)
        assert new.keys() == old.keys()
        for name in old:
            assert new[name].dtype == np.float32
            np.testing.assert_array_equal(new[name], old[name])
    assert loaded.colour is None


def test_colours_are_kept_to_the_bit(tmp_path: Path) -> None:
    saved = checkpoint()
    vectors = np.random.default_rng(0).normal(size=(3, 3))
    saved.colour = Colour(np.array([3, 2, 1 / 3]), vectors.T)  # not contiguous
    saved.save(tmp_path / "a.safetensors")
    colour = load(tmp_path / "a.safetensors").colour
    assert colour is not None
    for one, other in zip(colour, saved.colour, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)


def test_file_is_readable_by_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    checkpoint().save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: "):
            load(path)
            pytest.fail(f"byte {position} was not noticed")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged"):
            load(path)
            pytest.fail(f"cutting to {length} bytes was not noticed")


def test_damaged_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    whole = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    whole[start + header["optimizer.momentum.fc1.weight"]["data_offsets"][0]] ^= 16
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"tensor optimizer\.momentum\.fc1\.weight"):
        load(path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "none", "no such file; expected a checkpoint"),
        (tmp_path, "cannot be read: it is a folder; expected a file"),
        (tmp_path / "pipe", "cannot be read: not a regular file"),
        (Path("/dev/null"), "cannot be read: not a regular file"),
    ):
        with pytest.raises(CheckpointError, match=f"{path}: {words}"):
            load(path)


def test_foreign_files(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("These are not the weights you are looking for. " * 9)
    with pytest.raises(CheckpointError, match=r"a\.txt: damaged, or no safetensors file"):
        load(text)
    foreign = tmp_path / "b.safetensors"
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, foreign, {"format": "pt"})
    with pytest.raises(CheckpointError, match="expected a checkpoint of pyalexnet"):
        load(foreign)


def rewrite(path: Path, about: dict[str, Any]) -> None:
    """Replace a checkpoint's metadata, checksum and all."""
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        old = json.loads(file.metadata()["pyalexnet"])
    text = json.dumps({k: v for k, v in (old | about).items() if v is not None})
    save_file(tensors, path, {"pyalexnet": text, "crc32": str(zlib.crc32(text.encode()))})


def test_later_format(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    rewrite(path, {"format": checkpoints.FORMAT + 1})
    with pytest.raises(CheckpointError, match=f"format is {checkpoints.FORMAT + 1}; expected"):
        load(path)


@pytest.mark.parametrize(
    "about",
    [
        *({"net": None}, {"net": {"name": "x"}}, {"progress": {"leap": 1}}, {"progress": 3}),
        *({"classes": None}, {"crc32": None}, {"crc32": 3}),
    ],
)
def test_metadata_without_sense(tmp_path: Path, about: dict[str, Any]) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    rewrite(path, about)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged"):
        load(path)


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint(seed=0).save(path)
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(broken, fail)
    with pytest.raises(UserError, match=r"a\.safetensors: cannot be written: .*No space"):
        checkpoint(seed=1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        checkpoint().save(tmp_path / "none" / "a.safetensors")


def test_the_first_difference_of_two_nets_is_named() -> None:
    path = Path("a.safetensors")
    check_net(path, tiny.NET, tiny.NET)
    check_net(path, tiny.NET, dataclasses.replace(tiny.NET, name="renamed"))
    wider = dataclasses.replace(tiny.NET, layers=(Conv(9, 3, pad=1), *tiny.NET.layers[1:]))
    longer = dataclasses.replace(
        tiny.NET, layers=(*tiny.NET.layers[:3], Linear(9), *tiny.NET.layers[3:])
    )
    for other, expected in (
        (wider, r"a\.safetensors: .*layer conv1 is Conv\(filters=8.*expected Conv\(filters=9"),
        (longer, r"layer dropout2 is .*expected Linear"),
        (dataclasses.replace(tiny.NET, input=(3, 9, 9)), r"input is \(3, 8, 8\); expected \(3, 9"),
        (
            dataclasses.replace(tiny.NET, normalization=Normalization(0.5)),
            r"normalization is .*scale=0\.015625.*; expected .*scale=0\.5",
        ),
    ):
        with pytest.raises(CheckpointError, match=expected):
            check_net(path, tiny.NET, other)


def test_a_model_is_saved_with_the_shape_of_its_images(tmp_path: Path) -> None:
    """What pyalexnet-eval compares with a data set's."""
    net = dataclasses.replace(tiny.NET, normalization=Normalization(1 / 64, mean=128.0))
    model = Model(net, "host", 2)
    path = tmp_path / "a.safetensors"
    save_model(model, path)
    assert load(path).image_shape == (8, 8, 3)  # the net's input, as nothing else is known
    images = np.full((2, 12, 11, 3), 7, np.uint8)
    expected = model.predict(images)
    save_model(model, path, classes=["a", "b", "c"])
    assert (load(path).image_shape, load(path).mean) == ((12, 11, 3), None)
    np.testing.assert_array_equal(pyalexnet.load(path, "host", 2).predict(images), expected)
    model.set_mean_image(np.zeros((9, 9, 3), np.float32))
    save_model(model, path)
    assert load(path).image_shape == (9, 9, 3)
    save_model(model, path, image_shape=(20, 20, 3))
    assert load(path).image_shape == (20, 20, 3)
    with pytest.raises(UserError, match="classes: 2; expected the 3 of net tiny"):
        save_model(model, path, classes=["a", "b"])
