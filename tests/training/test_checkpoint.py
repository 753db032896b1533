"""Checkpoints: whole, or not at all."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import tracemalloc
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
        data={"spec": "folder:x", "name": "folder", "train": 9, "val": 4, "val_share": None},
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


def test_same_bytes_for_the_same_checkpoint_which_the_library_reads(tmp_path: Path) -> None:
    one = checkpoint(net=tiny.BRANCHED)
    one.colour = Colour(np.arange(3.0), np.eye(3)[:, ::-1])
    order = dict(reversed(one.model.items()))  # type: ignore[call-overload]
    one.save(tmp_path / "a.safetensors")
    dataclasses.replace(one, model=order).save(tmp_path / "b.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["pyalexnet"])["net"]["name"] == "branched"
        for name, array in one.model.items():
            np.testing.assert_array_equal(file.get_tensor(f"model.{name}"), array)
        np.testing.assert_array_equal(file.get_tensor("colour.vectors"), np.eye(3)[:, ::-1])


def test_arrays_lie_in_memory_in_any_order(tmp_path: Path) -> None:
    plain = checkpoint(net=tiny.NET)
    turned = {name: np.asfortranarray(array)[...] for name, array in plain.model.items()}
    backward = {name: array[::-1].copy()[::-1] for name, array in plain.optimiser.items()}
    plain.save(tmp_path / "a.safetensors")
    changed = dataclasses.replace(plain, model=turned, optimiser=backward)
    changed.save(tmp_path / "b.safetensors")
    first, second = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert first == second


def test_memory_is_that_of_the_tensors(tmp_path: Path) -> None:
    net = Net("wide", input=(1, 100, 100), layers=(Linear(100, activation=""),))
    large = dataclasses.replace(checkpoint(net=net), classes=[str(n) for n in range(100)])
    size = 2 * sum(array.nbytes for array in large.model.values())
    tracemalloc.start()
    try:
        large.save(tmp_path / "a.safetensors")
        assert tracemalloc.get_traced_memory()[1] < size / 10
        tracemalloc.reset_peak()
        loaded = load(tmp_path / "a.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 1.4 * size
    finally:
        tracemalloc.stop()
    assert loaded.model["fc1.weight"].flags.writeable


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.safetensors"
    whole = dataclasses.replace(checkpoint(), colour=Colour(np.ones(3), np.eye(3)))
    for name in ("model.fc1.weight", "optimizer.momentum.fc1.bias", "mean", "colour.vectors"):
        saved = copy.deepcopy(whole)
        arrays = {"model": saved.model, "optimizer": saved.optimiser, "mean": {"mean": saved.mean}}
        arrays["colour"] = saved.colour._asdict() if saved.colour else {}
        part, _, rest = name.partition(".")
        array: Any = arrays[part][rest or "mean"]
        array[..., -1] = number
        saved.save(path)
        expected = rf"a\.safetensors: tensor {name} holds -?(nan|inf); expected finite numbers$"
        with pytest.raises(CheckpointError, match=expected):
            load(path)
        with pytest.raises(CheckpointError, match=expected):
            pyalexnet.load(path, "host")


def test_a_model_that_is_not_finite_or_has_other_names_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = Model(SMALLEST, "host", 2)
    state = model.state()
    model.load_state({**state, "fc1.bias": np.full(2, np.nan, np.float32)})
    with pytest.raises(CheckpointError, match=r"tensor model\.fc1\.bias holds nan"):
        save_model(model, path)
    model.load_state(state)
    for wrong in ({"classes": [1, 2]}, {"image_shape": (2, 2)}, {"image_shape": (2, 2, 3)}):
        with pytest.raises(CheckpointError, match=f"{next(iter(wrong))} is .*; expected"):
            save_model(model, path, **wrong)  # type: ignore[arg-type]
    assert not path.exists()
    save_model(model, path)
    load(path)
    with pytest.raises(CheckpointError, match="has a model alone"):
        checkpoints.load_run(path)
    checkpoint().save(path)
    assert checkpoints.load_run(path).progress.step == 7


#: Fields, by their place in the metadata, with values that they cannot have.
WRONG: dict[str, list[Any]] = {
    "classes": [7, ["a"], ["a", "b", "c"], ["a", 1], "ab", {}],
    "image_shape": [7, [3, 3], [3, 3, 0], [3, -3, 1], [3, 3.0, 1], [True, 3, 1], [3, 3, 3], "331"],
    "data": [7, [], {"spec": "x"}],
    "data.spec": [7, None],
    "data.train": ["3", -1, None, 2**64],
    "data.val_share": [2, "a", -0.5],
    "progress": [7, [], {}],
    "progress.step": [-1, 3, 0.5, True, None, 2**32, "7", [7]],
    "progress.epoch": [-1, None, 2**63],
    "progress.position": [-1, 6, False],
    "progress.best_epoch": ["", -1],
    "progress.seconds": [-1, None, "1", 10**400],
    "progress.data_seconds": [True],
    "progress.totals": [[], [1, 2, 3], [1, 2, 3, None], [1, 2, 3, -4], 7, None],
    "progress.best": [2, -0.1, "a", True],
    "progress.schedule": [None, [], {}, {"drops": 0}, {"leap": 1}],
    "progress.schedule.drops": [-1, None, 0.5, 10**9],
    "progress.schedule.stalled": [None, -1],
    "options": [7, []],
    "options.seed": [None, -1, 2**64, "1", 1.0],
    "options.lr": ["0.1", True, -1, 1e300],
    "options.batch_size": [0, None, 2.5, 2**64],
    "options.schedule": [7, None, "never", "plateau:" + "9" * 5000, "epochs:2,1"],
    "options.mirror": [1, "yes"],
    "options.net": [7, ["a"]],
    "options.\x1b[31m": [1],
    "net": [7, [], {}, {"layers": 1, "input": 2}],
    "net.input": [None, [1, 2], [1, 2, True]],
    "net.name": [7, None, "x\ny" * 99],
    "net.layers": [None, [[]], [{"layer": "Linear", "features": 2**63, "activation": ""}]],
    "net.normalization": [7, {"mean": "x"}],
    "crc32": [None, 7, [], {}],
    "crc32.mean": [None, "7", -1, 0.5],
}


@pytest.mark.parametrize("field", WRONG)
def test_fields_of_other_types_or_ranges(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    with safe_open(path, framework="numpy") as file:
        whole = json.loads(file.metadata()["pyalexnet"])
    *parents, key = field.split(".")
    for value in [*WRONG[field], None]:
        about = copy.deepcopy(whole)
        inner = about
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
        if value is None:
            inner.pop(key)
            if field in MAY_LACK:
                rewrite(path, about)
                load(path)
                continue
        rewrite(path, about | {part: None for part in whole if part not in about})
        with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged.*; expected") as error:
            load(path)
            pytest.fail(f"{field} {value!r} was taken")
        assert str(error.value).isprintable() and len(str(error.value)) < len(str(path)) + 700
        if parents and field.isprintable() and "net" not in parents and "crc32" not in parents:
            assert key.replace("_", "-") in str(error.value).replace("_", "-")


MAY_LACK = {
    "data.val_share",
    "options.mirror",
    "options.net",
    "options.\x1b[31m",
    "net.name",
    "net.normalization",
}


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def test_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    whole, values = header_of(path)
    mean = whole["mean"]
    for change in (
        {"mean": mean | {"data_offsets": [0, 2**40]}},
        {"mean": mean | {"shape": [2**40, 3, 1]}},
        {"mean": mean | {"shape": [2**62, 2**62, 0]}},
        {"mean": mean | {"shape": [1] * 70}},
        {"mean": mean | {"shape": [True, 3, 3]}},
        {"mean": mean | {"dtype": "F16"}},
        {"mean": mean | {"dtype": ["F32"]}},
        {"mean": mean | {"data_offsets": [mean["data_offsets"][0]]}},
        {"model.fc1.bias": whole["model.fc1.bias"] | {"data_offsets": [0, 8]}},  # overlaps
        {"again": mean},
        {"empty": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        {"x\x1b[31m" * 99: 7},
        {"__metadata__": {"pyalexnet": 7}},
        {"__metadata__": []},
    ):
        text = json.dumps(whole | change).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + values)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged") as error:
            load(path)
            pytest.fail(f"{change} was taken")
        assert str(error.value).isprintable() and len(str(error.value)) < len(str(path)) + 300
    checkpoint().save(path)
    path.write_bytes(path.read_bytes() + bytes(8))
    with pytest.raises(CheckpointError, match="damaged: it has 124 bytes of tensors; expected"):
        load(path)
    for start in (b"", b"\0" * 7, b"\xff" * 8, (2**31).to_bytes(8, "little"), b"\0" * 8, b"\1"):
        path.write_bytes(start + bytes(7) + b"[]")
        with pytest.raises(CheckpointError, match=r"a\.safetensors: .*damaged"):
            load(path)


def test_metadata_nested_deeply(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for deep in (90, 2000):
        text = '{"format": 2, "net": ' + "[" * deep + "]" * deep + "}"
        metadata = {"pyalexnet": text, "crc32": str(zlib.crc32(text.encode()))}
        save_file({"mean": np.zeros(1, np.float32)}, path, metadata)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: .*nested too deeply"):
            load(path)


def test_a_net_that_is_large_takes_no_memory(tmp_path: Path) -> None:
    """Its tensors, which are small, are compared with it before anything is allocated."""
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    layer = {"layer": "Linear", "features": 10**9, "activation": ""}
    net = json.loads(SMALLEST.to_json()) | {"layers": [layer | {"features": 2, "name": "a"}, layer]}
    rewrite(path, {"net": net, "classes": ["a", "b"]})
    with pytest.raises(CheckpointError, match="number of classes is 2; expected 1000000000"):
        load(path)
    net["layers"] = [layer, layer | {"features": 2}]
    rewrite(path, {"net": net})
    with pytest.raises(CheckpointError, match=r"tensor model\.fc1\.\w+ is .*; expected"):
        load(path)
