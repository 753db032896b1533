"""Changed checkpoints, recipes, nets and metrics: errors of the package's own, or usable values."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from helpers.mutate import COUNT, changed_values, mutations, survives
from pyalexnet.data.dataset import Colour, Dataset, Split
from pyalexnet.errors import UserError
from pyalexnet.model import Model, Totals
from pyalexnet.nn import zoo
from pyalexnet.nn.net import Net
from pyalexnet.training import metrics, recipes, tensor_file
from pyalexnet.training.checkpoint import Checkpoint, Progress, check_data, check_net, load
from pyalexnet.training.options import Options
from pyalexnet.training.plan import decide
from pyalexnet.training.state import TrainingState

pytestmark = [pytest.mark.host_only("reads files"), pytest.mark.slow]

OPTIONS = Options(
    net="tiny.json",
    data="folder:x",
    image_size=10,
    device="host",
    batch_size=2,
    epochs=9,
    lr=0.01,
    schedule="plateau:2",
    workers=0,
)
SCHEDULE = {"drops": 0, "best": 0.5, "stalled": 1}
LINE = {"epoch": 1, "step": 4, "train_loss": 1.5, "train_top1_error": 0.5, "val_loss": 1.0}
LINE |= {"val_top1_error": 0.25, "lr": 0.01, "seconds": 1.5, "date": "2026-01-01", "host": "a"}


def report(what: str, counts: tuple[int, int], expect_refused: bool = True) -> None:
    taken, refused = counts
    print(f"{what}: {taken + refused} changed copies, {taken} taken, {refused} refused")
    assert taken + refused == COUNT and bool(refused) == expect_refused


class Blank(Split):
    """Images that nobody reads."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape, self.labels = shape, np.zeros(4, np.int32)

    def read_into(self, indices: Any, out: Any) -> None:
        raise NotImplementedError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", str)  # thousands of files would wait for the disk
    model = Model(tiny.NET, "host", 2)
    state = {name: np.ones_like(array) for name, array in model.state().items()}
    shape = (10, 10, 3)
    Checkpoint(
        net=tiny.NET,
        classes=list(tiny.CLASSES),
        image_shape=shape,
        model=state,
        optimiser={f"momentum.{name}": array for name, array in state.items()},
        mean=np.full(shape, 120, np.float32),
        colour=Colour(np.ones(3), np.eye(3)),
        data={"spec": "folder:x", "name": "folder", "train": 4, "val": 4, "val_share": 0.1},
        progress=Progress(
            5,
            2,
            1,
            1.0,
            0.5,
            Totals(1.0, 2.0, 3.0, 4.0),
            0.5,
            1,
            {"drops": 0, "best": 0.5, "stalled": 1},
        ),
        options=dataclasses.asdict(OPTIONS),
    ).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def use(path: Path) -> None:
    """Load a checkpoint as the commands do, and go on from it."""
    checkpoint = load(path)
    model = build(checkpoint)
    if not checkpoint.options or not checkpoint.data:
        return
    split = Blank(checkpoint.image_shape)
    dataset = Dataset("folder", checkpoint.classes, split, split, mirror=True)
    options = checkpoint.options | {"data": "folder:x"}  # other names are the data sources' affair
    plan = decide(Options.of(options), dataset, checkpoint.net, 1)
    check_net(path, checkpoint.net, plan.net)
    check_data(path, checkpoint, dataset)
    state = TrainingState(plan, model)
    state.restore(checkpoint, path)
    model.set_totals(state.progress.totals)
    state.set_rate(4)
    state.end_epoch(0.25)
    state.progress.epoch, state.progress.position = state.progress.epoch + 1, 0
    state.progress.step += 1
    assert state.finished in (False, True)
    state.checkpoint(dataset, checkpoint.mean, checkpoint.colour).save(path)
    load(path)


def build(checkpoint: Checkpoint) -> Model:
    try:
        model = checkpoint.build("host", 2)
    except MemoryError as error:  # which commands turn into a line
        raise UserError("not enough memory") from error
    if np.prod(checkpoint.image_shape) < 10**6:
        images = np.zeros((1, *checkpoint.image_shape), np.uint8)
        assert model.predict(images).shape == (1, len(checkpoint.classes))
    return model


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give a checkpoint's tensors, and the object in its metadata."""
    with tensor_file.opened(path) as file:
        tensors = {name: file.read(name) for name in file.entries}
        return tensors, json.loads(file.metadata["pyalexnet"])


def write(path: Path, tensors: dict[str, Any], about: Any) -> None:
    """Write a checkpoint whose metadata have the right checksum."""
    text = json.dumps(about)
    metadata = {"pyalexnet": text, "crc32": str(zlib.crc32(text.encode()))}
    tensor_file.write(path, tensors, metadata)


def test_files(path: Path) -> None:
    def parse(content: bytes) -> None:
        path.write_bytes(content)
        use(path)

    report("checkpoint", survives(parse, mutations(path.read_bytes(), 1)))


def test_headers(path: Path) -> None:
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")

    def parse(header: Any) -> None:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[start:])
        use(path)

    report("checkpoint's header", survives(parse, changed_values(json.loads(whole[8:start]), 2)))


@pytest.mark.parametrize("part", ["net", "data", "progress", "options", "all"])
def test_metadata(path: Path, part: str) -> None:
    tensors, about = parts(path)

    def parse(changed: Any) -> None:
        write(path, tensors, changed)
        use(path)

    parse(about)
    if part == "all":
        values = changed_values(about, 2)
    else:
        values = ({**about, part: value} for value in changed_values(about[part], 3))
    report(f"checkpoint's metadata, {part}", survives(parse, values))


def test_tensors(path: Path) -> None:
    """With checksums made right."""
    tensors, about = parts(path)
    plain = {"crc32": dict(about["crc32"])}

    def parse(content: bytes) -> None:
        name = sorted(tensors)[len(content) % len(tensors)]
        floats = np.frombuffer(content[: len(content) // 4 * 4], np.float32)
        array = np.resize(floats, tensors[name].shape) if len(floats) else floats
        changed = {**tensors, name: array.astype(tensors[name].dtype)}
        kind = f"{changed[name].dtype} {changed[name].shape}"
        total = zlib.crc32(changed[name].tobytes(), zlib.crc32(kind.encode()))
        write(path, changed, about | {"crc32": plain["crc32"] | {name: total}})
        use(path)

    report("checkpoint's tensors", survives(parse, mutations(np.ones(99, "f4").tobytes(), 9)))


@pytest.mark.parametrize("net", [tiny.BRANCHED, zoo.get("alexnet-code")], ids=lambda net: net.name)
def test_nets(net: Net) -> None:
    def check(found: Net) -> None:
        assert len(found.shapes()) == len(found.layers) + 1
        assert found.parameters() and found.buffers() is not None
        assert Net.from_json(found.to_json()) == found

    net = dataclasses.replace(net, training={"epochs": 3, "lr": 0.1, "schedule": "step"})
    text = net.to_json()
    texts = mutations(text.encode(), 20)
    report(
        f"net {net.name}",
        survives(lambda content: check(Net.from_json(content.decode(errors="replace"))), texts),
    )
    values = changed_values(json.loads(text), 21)
    what = f"net {net.name}: values"
    report(what, survives(lambda value: check(Net.from_value(value)), values))


def toml(value: Any) -> str:
    """A JSON value as TOML, all on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return "nan" if value is None else json.dumps(value)


def tables(values: Iterator[Any]) -> Iterator[bytes]:
    """Recipes of these tables; what is no table, as a value outside of any."""
    for value in values:
        lines = value.items() if isinstance(value, dict) else {"x": value}.items()
        text = "\n".join(f"{json.dumps(key)} = {toml(other)}" for key, other in lines)
        yield text.encode(errors="surrogatepass")


def test_recipes(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"

    def parse(content: bytes) -> None:
        path.write_bytes(content)
        found = recipes.load(str(path))
        Options.of(found).check()
        path.write_text(recipes.text(dataclasses.asdict(Options.of(found))), errors="replace")
        recipes.load(str(path))

    given = {name: value for name, value in dataclasses.asdict(OPTIONS).items() if name != "net"}
    run = recipes.text(given)
    one = {name.replace("_", "-"): v for name, v in given.items() if v is not None}
    report("run.toml", survives(parse, mutations(run.encode(), 30)))
    report("run.toml: values", survives(parse, tables(changed_values({"run": one}, 31))))
    original = "[mine]\n" + recipes.FILE.read_text().split("[original]\n")[1].split("[")[0]
    report("recipe", survives(parse, mutations(original.encode(), 32)))


def test_metrics(tmp_path: Path) -> None:
    lines = [LINE | {"epoch": epoch} for epoch in range(1, 4)]

    def parse(content: bytes) -> None:
        (tmp_path / metrics.LINES).write_bytes(content)
        for record in metrics.read(tmp_path):
            assert record["epoch"] == int(record["epoch"])
            assert all(float(record[key]) is not None for key in ("lr", "val_loss", "train_loss"))

    def parse_values(values: Any) -> None:
        values = values if isinstance(values, list) else [values]
        parse("".join(json.dumps(line) + "\n" for line in values).encode())

    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    report(metrics.LINES, survives(parse, mutations(text, 40)), expect_refused=False)
    found = survives(parse_values, changed_values(lines, 41))
    report(f"{metrics.LINES}: values", found, expect_refused=False)
