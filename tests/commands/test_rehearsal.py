"""A miniature ImageNet from its archives to a ten-view error, by the commands a user types."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import target, tiny
from helpers.imagenet_files import READABLE_ODD, Miniature, unpack, write_imagenet
from pyalexnet.data import open_dataset
from pyalexnet.evaluation.predict import predict
from pyalexnet.nn.layers import LRN, Conv, Dropout, Linear, MaxPool
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization
from pyalexnet.training.checkpoint import load

pytestmark = pytest.mark.slow  # all of it takes half a minute

CLASSES, TRAIN, VAL = 24, 40, 5  # images a class
STORED, CROP = 40, 32
SECONDS = 1200 if target.EMULATED else 120  # in which any command here ends, or it hangs
STOPPED = 8  # steps after which a run is interrupted: it has learnt something, but makes mistakes

NET = Net(
    "rehearsal",
    input=(3, CROP, CROP),
    normalization=Normalization(scale=1 / 64),
    layers=(
        Conv(24, 5, stride=2, pad=2),
        LRN(k=1.0, groups=2),
        MaxPool(3, 2),
        Conv(48, 3, pad=1, groups=2),
        MaxPool(3, 2),
        Linear(128),
        Dropout(0.3),
        Linear(CLASSES, activation=""),
    ),
)

# Ctrl-C within a step.
INTERRUPT = f"""
import os, signal
from pyalexnet.nn.optim import SGD
step, steps = SGD.step, []
def stepping(self):
    step(self)
    steps.append(None)
    if len(steps) == {STOPPED}:
        os.kill(os.getpid(), signal.SIGINT)
SGD.step = stepping
"""

ERRORS = r"loss ([\d.]+), top-1 error ([\d.]+) %, top-5 error ([\d.]+) % on (\d+) images"
PREDICTED = r"^.+?: (.+) ([\d.]+) %$"


def run(folder: Path, command: str, *words: object, patch: str = "", status: int = 0) -> str:
    """Run a command in a folder, after some lines of Python; gives what it prints."""
    code = (
        f"import sys\nfrom pyalexnet.commands import {command}\n{patch}\nsys.exit({command}.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@dataclass(frozen=True)
class Road:
    """Where the commands ran, and what each of them printed.

    Attributes
    ----------
    folder : Path
        Has `jpeg` and `raw`, prepared; `runs/whole`, trained in one go, `runs/resumed`, with an
        interruption, and `runs/other`, from another seed and with the paper's colour noise;
        `early.safetensors`, of the interruption.
    mini : Miniature
    printed : dict of str to str
    """

    folder: Path
    mini: Miniature
    printed: dict[str, str]

    def truth(self) -> list[int]:
        """The lines of the ground truth file: an ILSVRC2012_ID for each validation image."""
        name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
        with tarfile.open(self.mini.devkit) as archive:
            file = archive.extractfile(name)
            assert file is not None
            return [int(line) for line in file.read().split()]

    def rows(self, name: str) -> list[dict[str, str]]:
        """The lines of a predictions file, without those of images left out."""
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row["label"]]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("rehearsal")
    mini = write_imagenet(
        folder / "archives", classes=CLASSES, train=TRAIN, val=VAL, size=(44, 66), oddities=True
    )
    tiny.write_net(folder / "net.json", NET)
    printed = {}

    sources = [f"--train={mini.train}", f"--val={mini.val}", f"--devkit={mini.devkit}"]
    for form in ("jpeg", "raw"):
        how = [f"--size={STORED}", "--shard-images=300", f"--format={form}", f"--output={form}"]
        printed[form] = run(folder, "prepare", *sources, *how)
        printed[f"verify {form}"] = run(folder, "prepare", f"--output={form}", "--verify")

    def train(name: str, *words: str, data: str = "jpeg", patch: str = "", status: int = 0) -> None:
        what = ["--net=net.json", f"--data=imagenet:{data}", f"--output=runs/{name}"]
        what += [f"--device={target.NAME}"]
        how = ["--epochs=3", "--schedule=epochs:2", "--lr=0.02", "--batch-size=32"]
        printed[name] = run(folder, "train", *what, *how, *words, patch=patch, status=status)

    plain = "--colour-noise=0"  # which few images have by default, and three epochs are too few for
    train("whole", plain)
    train("resumed", plain, patch=INTERRUPT, status=130)
    shutil.copy(folder / "runs/resumed/last.safetensors", folder / "early.safetensors")
    [advice] = re.findall(r"resume with: pyalexnet-train (.*)", printed["resumed"])
    printed["resumed"] = run(folder, "train", *advice.split())
    # As the paper's recipe but for what the images' number and size ask for.
    train("other", "--seed=1", "--recipe=paper", f"--image-size={STORED}", data="raw")

    best = ["runs/whole/best.safetensors", "runs/other/best.safetensors"]
    for name, words in (
        ("early", ["early.safetensors", "--per-class", "--submission=early.txt"]),
        ("one", [best[0], "--data=imagenet:raw"]),
        ("two", [best[1]]),
        ("both", [*best, "--data=imagenet:raw"]),
    ):
        views = ["--views=ten", f"--predictions={name}.csv", f"--device={target.NAME}"]
        printed[f"eval {name}"] = run(folder, "evaluate", *words, *views)
    return Road(folder, mini, printed)


def errors(printed: str) -> list[tuple[float, float, float, int]]:
    """Loss, top-1 and top-5 error in percent, and images, of each line that has them."""
    found = re.findall(ERRORS, printed)
    return [(float(a), float(b), float(c), int(n)) for a, b, c, n in found]


@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_preparation_counts_all_and_names_what_it_leaves_out(road: Road, form: str) -> None:
    odd = road.mini.odd
    train = CLASSES * TRAIN + len(READABLE_ODD)
    total = train + CLASSES * VAL
    description = json.loads((road.folder / form / "dataset.json").read_text())
    assert {item["name"] for item in description["left_out"]} == odd.keys()
    assert f"{len(odd)} in all" in road.printed[form]
    assert f"{form}: {total:,} images" in road.printed[form]
    assert f"{total:,} images in 5 shards, all as they were" in road.printed[f"verify {form}"]
    for name in ("whole", "resumed"):
        images = f"{train} training and {CLASSES * VAL} validation images of {STORED}×{STORED}×3"
        assert images in road.printed[name]


def test_jpeg_and_raw_agree_to_within_the_encoding(road: Road) -> None:
    jpeg, raw = (open_dataset(f"imagenet:{road.folder / form}") for form in ("jpeg", "raw"))
    assert jpeg.classes == raw.classes and jpeg.ids == raw.ids
    for one, other in ((jpeg.train, raw.train), (jpeg.val, raw.val)):
        np.testing.assert_array_equal(one.labels, other.labels)
        every = np.arange(len(one))
        assert [one.name(i) for i in every] == [other.name(i) for i in every]
        difference = np.abs(one.read(every).astype(float) - other.read(every))
        each = difference.mean(axis=(1, 2, 3))
        assert 0 < each.mean() < 5 and each.max() < 12  # of 255; other images differ by about 60
    assert jpeg.mean is not None and raw.mean is not None
    assert np.abs(jpeg.mean - raw.mean).max() < 2


def test_training_learns_the_classes(road: Road) -> None:
    # By chance 96 %; where validation labels are ILSVRC2012_IDs rather than ranks, as much.
    for name in ("one", "two", "both"):
        for _, top1, top5, images in errors(road.printed[f"eval {name}"]):
            assert top1 < 20 and top5 < 2 and images == CLASSES * VAL - 1
    classes = [f"{w} {n}" for w, n in zip(road.mini.wnids, road.mini.words, strict=True)]
    for row in road.rows("one.csv"):
        position = int(row["image"][-13:-5]) - 1
        label = road.mini.val_labels[position]
        assert (int(row["label"]), row["class"]) == (label, classes[label])


def test_interrupted_and_resumed_has_the_same_bits(road: Road) -> None:
    assert f"resumed after step {STOPPED}" in road.printed["resumed"]
    whole, resumed = road.folder / "runs/whole", road.folder / "runs/resumed"
    for name in ("last.safetensors", "best.safetensors"):
        one, other = load(whole / name), load(resumed / name)
        for part in ("model", "optimiser"):
            for key, array in getattr(one, part).items():
                assert getattr(other, part)[key].tobytes() == array.tobytes(), f"{part} {key}"
    assert tiny.records(whole) == tiny.records(resumed)
    early = load(road.folder / "early.safetensors")
    assert early.progress.step == STOPPED
    np.testing.assert_array_equal(early.mean, np.load(road.folder / "jpeg" / "mean.npy"))


def test_submission_scores_as_printed(road: Road) -> None:
    lines = (road.folder / "early.txt").read_text().splitlines()
    truth = road.truth()
    assert len(lines) == len(truth) == CLASSES * VAL
    answers = [[int(number) for number in line.split()] for line in lines]
    assert {i for i, answer in enumerate(answers) if answer == [0] * 5} == {1}  # the truncated one
    scored = [(a, t) for a, t in zip(answers, truth, strict=True) if any(a)]
    top1 = 100 * np.mean([answer[0] != number for answer, number in scored])
    top5 = 100 * np.mean([number not in answer for answer, number in scored])
    assert all(len(set(answer)) == 5 and set(answer) <= set(truth) for answer, _ in scored)
    [printed] = errors(road.printed["eval early"])
    assert printed[1:] == (round(top1, 2), round(top5, 2), CLASSES * VAL - 1)
    assert 5 < top5 < top1 < 95  # so that a wrong order would be seen
    assert "by 10 views, 1 skipped" in road.printed["eval early"]


def test_predictions_agree_with_the_table_of_classes(road: Road) -> None:
    rows, printed = road.rows("early.csv"), road.printed["eval early"]
    table = re.findall(
        r"^ +(\d+)  (n\d{8}) \D+\d+ +(\d+) +([\d.]+) % +([\d.]+) %(?: +(n\d{8}) .* \((\d+)\))?$",
        printed,
        re.MULTILINE,
    )
    assert [int(line[0]) for line in table] != list(range(CLASSES))  # the worst comes first
    assert sorted(int(line[0]) for line in table) == list(range(CLASSES))
    for label, wnid, images, top1, top5, other, times in table:
        own = [row for row in rows if row["label"] == label]
        wrong = [row for row in own if row["label1"] != label]
        among = [row for row in own if label in (row[f"label{i}"] for i in range(1, 6))]
        assert wnid == road.mini.wnids[int(label)] and len(own) == int(images)
        assert float(top1) == round(100 * len(wrong) / len(own), 2)
        assert float(top5) == round(100 - 100 * len(among) / len(own), 2)
        mistaken = Counter(row["class1"].split()[0] for row in wrong)
        assert mistaken[other] == max(mistaken.values(), default=0) == int(times or 0)
    assert len(rows) == sum(int(line[2]) for line in table)


def test_two_nets_are_averaged(road: Road) -> None:
    first, second, average = errors(road.printed["eval both"])
    assert [first] == errors(road.printed["eval one"])
    assert [second] == errors(road.printed["eval two"])
    assert average[0] < (first[0] + second[0]) / 2  # −log is convex
    compared = 0
    for one, two, both in zip(
        *(road.rows(f"{n}.csv") for n in ("one", "two", "both")), strict=True
    ):
        assert one["image"] == two["image"] == both["image"]
        of_one, of_two, of_both = (
            {row[f"label{i}"]: float(row[f"probability{i}"]) for i in range(1, 6)}
            for row in (one, two, both)
        )
        for label in of_one.keys() & of_two.keys() & of_both.keys():
            mean = (of_one[label] + of_two[label]) / 2
            assert of_both[label] == pytest.approx(mean, rel=1e-4)
            compared += 1
    assert compared > CLASSES * VAL


def test_prediction_of_files_is_that_of_shards(road: Road, tmp_path: Path) -> None:
    flat = unpack(road.mini.val, tmp_path / "flat")
    rows = road.rows("two.csv")[:12]
    files = []
    for row in rows:  # as users have them: val/<wnid>/<name>
        folder = tmp_path / "val" / row["class"].split()[0]
        folder.mkdir(parents=True, exist_ok=True)
        files.append((flat / row["image"]).rename(folder / row["image"]))
    best, drawn = road.folder / "runs/other/best.safetensors", tmp_path / "four.png"
    views = ["--views=ten", f"--figure={drawn}", f"--device={target.NAME}"]
    printed = run(tmp_path, "predict", best, *files, *views)
    found = re.findall(PREDICTED, printed, re.MULTILINE)
    for row, (name, probability) in zip(rows, found, strict=True):
        assert name == row["class1"]
        assert float(probability) == pytest.approx(100 * float(row["probability1"]), abs=0.06)
    with Image.open(drawn) as figure:
        assert len(np.unique(np.asarray(figure.convert("RGB")).reshape(-1, 3), axis=0)) > 99
    truths = [prediction.truth for prediction in predict([best], files, device=target.NAME)]
    assert truths == [row["class"] for row in rows]
