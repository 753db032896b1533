from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.imagenet_files import READABLE_ODD, Miniature, odd_image, unpack, write_imagenet
from pyalexnet import files
from pyalexnet.commands import prepare as prepare_command
from pyalexnet.data import Dataset, open_dataset
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.devkit import read_devkit
from pyalexnet.data.imagenet.labels import ImageNet, assemble
from pyalexnet.data.imagenet.pool import say
from pyalexnet.data.imagenet.preparation import Preparation
from pyalexnet.data.imagenet.prepare import verify
from pyalexnet.data.imagenet.writing import Task, write_shard
from pyalexnet.data.images import decode_image
from pyalexnet.data.sources.shards import Encoding, open_imagenet, read_description
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads and writes files")

SIZE = 32
Captured = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Prepared:
    """A command's output folder and printed output."""

    mini: Miniature
    folder: Path
    printed: str

    def open(self) -> Dataset:
        return open_dataset(f"imagenet:{self.folder}")


def words(mini: Miniature, out: Path, *more: str) -> list[str]:
    sources = [f"--train={mini.train}", f"--val={mini.val}", f"--devkit={mini.devkit}"]
    small = [f"--size={SIZE}", "--shard-images=8", "--workers=2"]
    return [*sources, *small, f"--output={out}", *more]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    folder = tmp_path_factory.mktemp("imagenet")
    return write_imagenet(folder, classes=3, train=6, val=4, oddities=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return write_imagenet(tmp_path_factory.mktemp("plain"), classes=2, train=9, val=2, seed=3)


def run(command: list[str], *, patch: str = "", status: int = 0) -> str:
    """Runs the command in its own session, after the Python code `patch`; returns its output."""
    code = (
        f"import os, signal, sys\nfrom pyalexnet.commands import prepare\n{patch}\n"
        "sys.exit(prepare.main())"
    )
    # Waits until all processes close standard output, so a surviving worker causes a timeout.
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def prepared(
    request: pytest.FixtureRequest, mini: Miniature, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    out = tmp_path_factory.mktemp("prepared") / request.param
    return Prepared(mini, out, run(words(mini, out, f"--format={request.param}")))


@pytest.fixture(scope="module")
def whole(plain: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    out = tmp_path_factory.mktemp("whole") / "out"
    return Prepared(plain, out, run(words(plain, out, "--format=raw")))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_classes_and_labels(prepared: Prepared) -> None:
    mini, data = prepared.mini, prepared.open()
    assert data.classes == [f"{w} {name}" for w, name in zip(mini.wnids, mini.words, strict=True)]
    assert data.ids == mini.ids
    expected = list(mini.val_labels)
    for position in mini.unreadable_val:
        expected[position] = -1
    assert data.val.labels.tolist() == expected
    names = [data.val.name(i) for i in range(len(data.val))]
    assert names == [f"ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(len(expected))]
    of_train = [data.train.name(i) for i in range(len(data.train))]
    assert of_train == sorted(of_train)
    assert [mini.wnids[label] for label in data.train.labels] == [n[:9] for n in of_train]
    assert len(of_train) == 3 * 6 + len(READABLE_ODD)


def test_odd_images_are_read_as_they_should_be(prepared: Prepared) -> None:
    train, wnid = prepared.open().train, prepared.mini.wnids[0]
    names = [train.name(i) for i in range(len(train))]
    plain = decode_image(odd_image("disguise"), SIZE, name="plain").astype(int)
    grey = np.repeat(plain @ [[0.299], [0.587], [0.114]], 3, axis=-1)
    for kind in READABLE_ODD:
        index = names.index(f"{wnid}/{wnid}_{kind}.JPEG")
        image = train.read(np.array([index]))[0].astype(int)
        expected = grey if kind in ("grey", "deep") else plain  # not turned by EXIF
        assert np.abs(image - expected)[:, 4:12].max() <= 8, kind  # left, off the edge
        assert np.abs(image - expected)[:, 20:28].max() <= 8, kind


def test_skipped_files_are_listed(prepared: Prepared) -> None:
    skipped = read_description(prepared.folder)["left_out"]
    reasons = {item["name"]: item["reason"] for item in skipped}
    assert reasons.keys() == prepared.mini.odd.keys()
    for name, reason in prepared.mini.odd.items():
        assert reason in reasons[name]
    splits = {item["name"]: item["split"] for item in skipped}
    assert {name for name, split in splits.items() if split == "val"} == {
        "ILSVRC2012_val_00000002.JPEG"
    }
    assert len(re.findall("^skipped in (?:train|val): ", prepared.printed, re.MULTILINE)) == 5
    assert f"… {len(skipped)} in all" in prepared.printed
    assert "\x1b" not in prepared.printed


def test_nothing_is_written_elsewhere(prepared: Prepared) -> None:
    assert [path.name for path in prepared.folder.parent.iterdir()] == [prepared.folder.name]
    archives = {prepared.mini.train, prepared.mini.val, prepared.mini.devkit}
    assert set(prepared.mini.train.parent.iterdir()) == archives


def test_progress_and_sizes_are_printed(whole: Prepared) -> None:
    assert "18 training and 4 validation images in 2 classes" in whole.printed
    assert f"{(18 + 4) * (SIZE * SIZE * 3 + 64) / 1000:.3g} kB" in whole.printed
    assert "preparing: 22 of 22 images" in whole.printed
    assert "skipped" not in whole.printed


@pytest.mark.parametrize("val", ["flat", "folders"])
def test_unpacked_archives_give_the_same(whole: Prepared, tmp_path: Path, val: str) -> None:
    mini = whole.mini
    train = unpack(mini.train, tmp_path / "train")
    flat = unpack(mini.val, tmp_path / "val")
    command = [f"--train={train}", f"--val={flat}", f"--size={SIZE}", "--format=raw"]
    if val == "folders":
        for file, label in zip(sorted(flat.iterdir()), mini.val_labels, strict=True):
            (flat / mini.wnids[label]).mkdir(exist_ok=True)
            file.rename(flat / mini.wnids[label] / file.name)
    else:
        command.append(f"--devkit={unpack(mini.devkit, tmp_path / 'devkit')}")
    run([*command, f"--output={tmp_path / 'out'}", "--workers=1"])
    data, expected = open_imagenet(tmp_path / "out"), whole.open()
    assert data.ids == (None if val == "folders" else mini.ids)
    assert data.classes == (mini.wnids if val == "folders" else expected.classes)
    for one, two in ((data.train, expected.train), (data.val, expected.val)):
        every = np.arange(len(two))
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.read(every), two.read(every))
    assert data.mean is not None and expected.mean is not None
    np.testing.assert_array_equal(data.mean, expected.mean)


def test_number_of_processes_changes_no_bit(prepared: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(words(prepared.mini, out, f"--format={prepared.folder.name}", "--workers=1"))
    assert contents(out) == contents(prepared.folder)


# When to kill a run: a shard is written but not recorded; its record is being written; it is
# recorded; only the description is missing.
KILLS = {
    "before a record": """
from pyalexnet.data.imagenet.pool import say
from pyalexnet.data.imagenet.preparation import Preparation as P
record = P.record
def killing(self, written):
    if len(self.shards) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, written)
P.record = killing
""",
    "within a record": """
replace, calls = os.replace, []
def killing(old, new):
    calls.append(new)
    if len(calls) == 3:
        os.truncate(old, 100)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(old, new)
os.replace = killing
""",
    "after a record": """
from pyalexnet.data.imagenet.pool import say
from pyalexnet.data.imagenet.preparation import Preparation as P
record = P.record
def killing(self, written):
    record(self, written)
    if len(self.shards) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
P.record = killing
""",
    "before the description": """
replace = os.replace
def killing(old, new):
    if str(new).endswith("dataset.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(old, new)
os.replace = killing
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("when", KILLS)
def test_killed_command_resumes_to_the_same_bits(
    whole: Prepared, tmp_path: Path, when: str
) -> None:
    out = tmp_path / "out"
    command = words(whole.mini, out, "--format=raw")
    run(command, patch=KILLS[when], status=-signal.SIGKILL)
    assert (out / "unfinished.npz").exists() and not (out / "dataset.json").exists()
    (out / f".pyalexnet-{'0' * 16}.tmp").write_bytes(b"left by a killed process")
    printed = run(command)
    assert " of 4 shards are finished" in printed
    assert contents(out) == contents(whole.folder)


INTERRUPT = """
from pyalexnet.data.imagenet.pool import say
from pyalexnet.data.imagenet.preparation import Preparation as P
record = P.record
def interrupting(self, written):
    record(self, written)
    if len(self.shards) == 2:
        {}
P.record = interrupting
"""


@pytest.mark.parametrize(
    "signal",
    [
        "os.killpg(0, signal.SIGINT)",  # also to workers, as a terminal does
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGHUP)",
    ],
)
def test_interrupted_command_says_how_to_resume(
    whole: Prepared, tmp_path: Path, signal: str
) -> None:
    out = tmp_path / "out"
    command = words(whole.mini, out, "--format=raw")
    printed = run(command, patch=INTERRUPT.format(signal), status=130)
    assert "2 of 4 shards are finished; run the same command again to continue" in printed
    assert printed.endswith("pyalexnet-prepare: interrupted\n") and "Traceback" not in printed
    assert not [name for name in contents(out) if name.startswith(".")]
    run(command)
    assert contents(out) == contents(whole.folder)


def test_ignored_hangup_stays_ignored(whole: Prepared, tmp_path: Path) -> None:
    """As under nohup."""
    hangup = "os.kill(os.getpid(), signal.SIGHUP)"
    patch = f"signal.signal(signal.SIGHUP, signal.SIG_IGN){INTERRUPT.format(hangup)}"
    run(words(whole.mini, tmp_path / "out", "--format=raw"), patch=patch)
    assert contents(tmp_path / "out") == contents(whole.folder)


def script(mini: Miniature, out: Path) -> str:
    """Returns Python code that prepares as `words` without the idiom of a main module."""
    return f"""
from pathlib import Path
from pyalexnet.data.imagenet.prepare import prepare
from pyalexnet.data.sources.shards import Encoding
prepare(
    Path({str(mini.train)!r}), Path({str(mini.val)!r}), Path({str(out)!r}),
    devkit=Path({str(mini.devkit)!r}), encoding=Encoding("raw", {SIZE}, 90), shard_images=8,
    workers=2,
)
"""


def test_function_in_standard_input_and_without_semaphores(whole: Prepared, tmp_path: Path) -> None:
    """As in a notebook, and on a machine without a usable /dev/shm."""
    shm = """
import _multiprocessing
def full(*_):
    raise OSError(28, "No space left on device")
_multiprocessing.SemLock = full
"""
    subprocess.run(
        [sys.executable, "-"],
        input=shm + script(whole.mini, tmp_path / "out"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
        check=True,
        timeout=120,
    )
    assert contents(tmp_path / "out") == contents(whole.folder)


def test_few_descriptors_allow_fewer_processes(whole: Prepared, tmp_path: Path) -> None:
    patch = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))"
    command = words(whole.mini, tmp_path / "out", "--format=raw", "--workers=40")
    run([*command, "--shard-images=1"], patch=patch)
    assert len(contents(tmp_path / "out")) == 2 + 2 * 22


def test_no_process_can_be_started(
    plain: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def none(*_: object, **more: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none)
    assert prepare_command.main(words(plain, tmp_path / "out")) == 1
    message = "a worker process cannot be started: [Errno 11] Resource temporarily unavailable"
    assert message in capsys.readouterr().err


def test_standard_output_that_is_full_stops_nothing(whole: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open("/dev/full", "w") as full:
        subprocess.run([sys.executable, "-c", script(whole.mini, out)], stdout=full, timeout=120)
    assert contents(out) == contents(whole.folder)


def test_lines_in_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    say("é … Δ\t\x1b")
    assert printed.getvalue() == b"\xe9 \\u2026 \\u0394\\t\\x1b\n"


def test_links_in_the_output_are_not_followed(
    plain: Miniature, tmp_path: Path, capsys: Captured
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    other.write_text("precious")
    for name in ("unfinished.npz", "train-00000.npy"):
        (out / name).symlink_to(other)
        assert prepare_command.main(words(plain, out)) == 2
        assert f"output folder {out}: {name} is a link; expected" in capsys.readouterr().err
        (out / name).unlink()
    (out / ".pyalexnet.lock").symlink_to(other)
    assert prepare_command.main(words(plain, out)) == 2
    assert f"output folder {out}: cannot be written" in capsys.readouterr().err
    assert other.read_text() == "precious"


PLACES = ["train", "val", "devkit", "train/n1.tar", "train/n1/a.JPEG", "devkit/data/meta.mat"]
PLACES += ["out/unfinished.npz", "out/dataset.json", "out/mean.npy", "out/train-00000.npy"]


@pytest.mark.parametrize("place", PLACES)
def test_no_pipe_is_waited_for(
    whole: Prepared, tmp_path: Path, capsys: Captured, place: str
) -> None:
    """Whatever the command opens may be a pipe: the test hangs if it waits for the other end."""
    mini, out = whole.mini, tmp_path / "out"
    inputs = {"train": mini.train, "val": mini.val, "devkit": mini.devkit}
    kind = place.partition("/")[0]
    more = []
    if kind in inputs:
        inputs[kind] = tmp_path / kind
    else:
        shutil.copytree(whole.folder, out)
        (out / place[4:]).unlink(missing_ok=True)
        if "unfinished" in place:
            (out / "dataset.json").unlink()
        more = ["--verify"] * ("unfinished" not in place)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / place)
    command = [f"--{name}={path}" for name, path in inputs.items()]
    command += [f"--output={out}", f"--size={SIZE}", "--format=raw", "--shard-images=8", *more]
    assert prepare_command.main([*command, "--workers=1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("pyalexnet-prepare: error: "), err


def test_output_within_a_source(plain: Miniature, tmp_path: Path, capsys: Captured) -> None:
    """Also by another path."""
    train = unpack(plain.train, tmp_path / "train")
    (tmp_path / "link").symlink_to(train)
    sources = [f"--train={train}", f"--val={plain.val}", f"--devkit={plain.devkit}"]
    (tmp_path / "within").symlink_to(train / plain.wnids[0])
    for out in (train, *(tmp_path / name for name in ("link", "link/a/out", "within"))):
        assert prepare_command.main([*sources, f"--output={out}"]) == 2
        assert f"is inside {train}; expected another folder" in capsys.readouterr().err
    assert not (train / "a").exists()


def test_worker_that_dies_is_reported(whole: Prepared, tmp_path: Path) -> None:
    patch = """
from pyalexnet.data.imagenet import pool
from pyalexnet.data.imagenet.pool import say
from pyalexnet.data.imagenet.preparation import Preparation as P
record, start, started = P.record, pool.processes.start, []
def starting(*arguments):
    started.append(start(*arguments))
    return started[-1]
def killing(self, written):
    record(self, written)
    for child in started:
        child.kill()
        child.wait()
pool.processes.start, P.record = starting, killing
"""
    out = tmp_path / "out"
    command = words(whole.mini, out, "--format=raw", "--workers=1", "--shard-images=2")
    printed = run(command, patch=patch, status=1)
    assert "error: a worker process was killed by SIGKILL, as Linux does when memory" in printed
    assert "run the same command again" in printed and "Traceback" not in printed
    assert "1 of 11 shards are finished" in run(command)


def test_finished_folder_is_left_alone(whole: Prepared, capsys: Captured) -> None:
    before = contents(whole.folder)
    command = words(whole.mini, whole.folder, "--format=raw", "--workers=1")
    with files.locked(whole.folder):  # it is not written to, and may be read-only
        assert prepare_command.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert prepare_command.main(words(whole.mini, whole.folder, "--format=jpeg")) == 2
    assert "--format is jpeg; expected raw, with which it was started" in capsys.readouterr().err
    assert contents(whole.folder) == before


@pytest.mark.slow
def test_verify(prepared: Prepared, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(prepared.folder, tmp_path / "copy"))
    printed = run([f"--output={folder}", "--verify"])
    assert "38 images in 6 shards, all as they were written" in printed
    for name, change in (
        ("train-00000.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("train-00001.npy", lambda content: content[:-1]),
        ("train-00002.index.npy", lambda content: content[:-9] + b"\1" + content[-8:]),
        ("val-00000.npy", None),
        ("mean.npy", lambda content: content + b"x"),
    ):
        path = folder / name
        if change is None:
            path.unlink()
        else:
            path.write_bytes(change(path.read_bytes()))
    printed = run([f"--output={folder}", "--verify"], status=2)
    assert "Traceback" not in printed
    for message in (
        "train-00000.npy: damaged: SHA-256 differs from dataset.json",
        "train-00001.npy: damaged: ",
        "train-00002.index.npy: damaged: SHA-256 differs",
        "val-00000.npy: no such file",
        "mean.npy: missing, or damaged: SHA-256 differs",
    ):
        assert message in printed
    assert "val-00001" not in printed and "train-00003" not in printed
    (folder / "dataset.json").write_text('{"version": 1}')
    assert "dataset.json: damaged" in run([f"--output={folder}", "--verify"], status=2)


def images_of(mini: Miniature) -> ImageNet:
    return assemble(list_source(mini.train), list_source(mini.val), read_devkit(mini.devkit))


def first_shard(**changes: object) -> Callable[[Any], object]:
    return lambda description: description["train"]["shards"][0].update(changes)


DAMAGES: dict[str, Callable[[Any], object]] = {
    "a shard's images": first_shard(images=-8),
    "a shard's bytes": first_shard(bytes="8"),
    "a shard's sha256": first_shard(sha256=None),
    "a shard's keys": lambda description: description["val"]["shards"][0].pop("index_sha256"),
    "train's number of images": lambda description: description["train"].update(images=1),
    "the images' size": lambda description: description["encoding"].update(size=2**40),
    "KeyError: 'shards'": lambda description: description["val"].pop("shards"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_description(whole: Prepared, tmp_path: Path, what: str) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "copy"))
    path = folder / "dataset.json"
    description = json.loads(path.read_bytes())
    DAMAGES[what](description)
    path.write_text(json.dumps(description))
    message = rf"dataset\.json: damaged.*: {what}"
    with pytest.raises(DataError, match=message):
        verify(folder, workers=1)
    if "size" not in what:  # that is another option
        run = Preparation(folder, images_of(whole.mini), Encoding("raw", SIZE, 90), 8)
        with pytest.raises(DataError, match=message):
            run.finished()


STATES: dict[str, Callable[[Any], object]] = {
    "a shard that is none": lambda state: state["shards"].append(["train", 99, {}]),
    "a negative count": lambda state: state["shards"][0][2].update(images=-1),
    "no bytes": lambda state: state["shards"][0][2].pop("bytes"),
    "fewer images than sums": lambda state: state["shards"].clear(),
    "a split that is none": lambda state: state["left_out"].append(["test", ["a", "b"]]),
    "nesting": lambda state: state.update(left_out=json.loads("[" * 500 + "]" * 500)),
    "no identity": lambda state: state.pop("identity"),
    "another type": lambda state: state.update(identity=[1]),
}


@pytest.mark.parametrize("what", [*STATES, "text", "sums", "bomb"])
def test_damaged_state(plain: Miniature, tmp_path: Path, what: str) -> None:
    encoding = Encoding("raw", 8, 90)
    run = Preparation(tmp_path, images_of(plain), encoding, 8)
    run.resume()
    run.record(write_shard(Task(tmp_path, "train", 0, run.part("train", 0), encoding, False)))
    path = tmp_path / "unfinished.npz"
    with np.load(path) as saved:
        arrays = dict(saved)
    if what in STATES:
        state = json.loads(arrays["state"].tobytes())
        STATES[what](state)
        arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    if what == "sums":
        arrays["total"] = arrays["total"][:4]
    (np.savez_compressed if what == "bomb" else np.savez)(path, **arrays)
    if what == "text":
        path.write_text("text")
    with pytest.raises(DataError, match=r"damaged; delete .* and start again|is damaged|nested"):
        Preparation(tmp_path, images_of(plain), encoding, 8).resume()


def test_strict_names_the_first(mini: Miniature, tmp_path: Path, capsys: Captured) -> None:
    assert prepare_command.main(words(mini, tmp_path / "out", "--strict", "--workers=1")) == 2
    assert "../../n00000002.tar: name leads out of its folder" in capsys.readouterr().err


def test_no_room(
    plain: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    usage = namedtuple("usage", "free")(60_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert prepare_command.main(words(plain, tmp_path / "out", "--format=raw", "--workers=1")) == 2
    captured = capsys.readouterr()
    assert "error: output folder" in captured.err
    assert "free space is 60 kB; expected 72.4 kB" in captured.err
    assert not list((tmp_path / "out").glob("*-*.npy"))


def test_full_disk(whole: Prepared, tmp_path: Path) -> None:
    patch = """
def full(*_):
    raise OSError(28, "No space left on device")
os.fsync = full
"""
    printed = run(words(whole.mini, tmp_path / "out"), patch=patch, status=1)
    assert "unfinished.npz: cannot be written: No space left on device" in printed


def test_no_image_can_be_read(tmp_path: Path, capsys: Captured) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "n1").mkdir(parents=True)
        (tmp_path / split / "n1" / "a.JPEG").write_bytes(b"text")
    command = [f"--train={tmp_path / 'train'}", f"--val={tmp_path / 'val'}", "--workers=1"]
    for form, message in (
        ("jpeg", "readable images in the sample is 0"),
        ("raw", "readable images is 0"),
    ):
        assert (
            prepare_command.main([*command, f"--output={tmp_path / form}", f"--format={form}"]) == 2
        )
        assert message in capsys.readouterr().err


def test_mistakes(plain: Miniature, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo\x1b.jpg").write_text("x")
    out = tmp_path / "out"
    sources = [f"--train={plain.train}", f"--val={plain.val}"]
    for command, message in (
        ([f"--output={out}"], "--train and --val missing; expected both, or only --verify"),
        ([f"--output={out}", "--val=x"], "--train missing"),
        ([f"--output={out}", "--verify"], "out: no dataset.json"),
        (words(plain, out, "--size=0"), "size is 0"),
        (words(plain, out, "--size=100000"), "size is 100000; expected 1 to 4096"),
        (words(plain, out, "--quality=101"), "quality is 101"),
        (words(plain, out, "--shard-images=0"), "shard-images is 0"),
        (words(plain, out, "--workers=0"), "workers is 0; expected 1 to 1024"),
        (words(plain, out, "--workers=-1"), "workers is -1; expected 1 to 1024"),
        (words(plain, out, "--workers=1025"), "workers is 1025; expected 1 to 1024"),
        ([f"--output={out}", *sources], "not in class folders; expected --devkit"),
        ([f"--output={out}", *sources, f"--devkit={tmp_path}/nothing"], "nothing: no such file"),
        ([f"--output={out}", f"--train={tmp_path}/nothing", "--val=x"], "nothing: no such"),
        (words(plain, tmp_path / "file"), "file: cannot be created"),
        (words(plain, tmp_path / "full"), "contains photo\\x1b.jpg; expected a new or empty"),
        ([f"--train={tmp_path}", "--val=x", f"--output={out}"], f"is inside {tmp_path}"),
        (words(plain, Path("~no-such-user/x")), "there is no user no-such-user; expected one"),
        ([f"--output={out}", *sources, "--devkit=~no-such-user/x"], "there is no user"),
        ([f"--output={out}", "--train=~no-such-user/x", "--val=x"], "there is no user"),
    ):
        assert prepare_command.main(command) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


def test_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stopped:
        prepare_command.main(["--help"])
    assert stopped.value.code == 0
    assert "Labels are the ranks of the sorted WNIDs" in " ".join(capsys.readouterr().out.split())


def test_two_at_once(plain: Miniature, tmp_path: Path, capsys: Captured) -> None:
    with files.locked(tmp_path):
        assert prepare_command.main(words(plain, tmp_path)) == 2
    assert "another process is writing to it" in capsys.readouterr().err


def test_folder_is_found_by_the_trainer(whole: Prepared) -> None:
    data = whole.open()
    assert data.mean is not None and data.mean.shape == (SIZE, SIZE, 3)
    assert data.colour is not None and data.colour.values[0] > data.colour.values[2] >= 0
    with pytest.raises(DataError, match=r"image size is 64; expected 32: .* are not resized"):
        open_dataset(f"imagenet:{whole.folder}", size=64)
