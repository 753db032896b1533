"""A folder of classes without val/: which images are held out for validation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import write_folder, write_image, write_mnist
from pyalexnet.data import Dataset, Split, load_image, open_dataset
from pyalexnet.data.sources.image_files import held_out
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")

#: Of `NAMES` of class "ant", at a share of 0.01.
FIXED = [10, 69, 248, 423, 458, 504, 786, 788, 838, 924]
NAMES = [f"{number:04}.jpg".encode() for number in range(1000)]


def add(folder: Path, name: str) -> None:
    """Adds a file that is named as an image; it is not read here."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()


def names(split: Split) -> set[str]:
    return {split.name(index) for index in range(len(split))}


def flat(folder: Path, count: int = 40) -> Path:
    for class_name in ("ant", "bee", "cow"):
        for number in range(count):
            add(folder, f"{class_name}/{number:03}.jpg")
    return folder


def opened(folder: Path, share: float | None = None) -> Dataset:
    return open_dataset(str(folder), size=8, val_share=share)


def test_a_tenth_is_held_out(tmp_path: Path) -> None:
    data = opened(flat(tmp_path, 200))
    train, val = names(data.train), names(data.val)
    assert not train & val and len(train | val) == 600
    assert 40 <= len(val) <= 80
    assert data.val_share == 0.1 and data.classes == ["ant", "bee", "cow"]
    assert data.notes == (
        "no val/: a share of 0.1 of each class, chosen by file name, is held out (val-share)",
    )
    for split in (data.train, data.val):
        for index in range(len(split)):
            assert split.name(index).startswith(data.classes[split.labels[index]])


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_the_share_is_of_the_files(share: float) -> None:
    chosen = held_out("ant", NAMES, share)
    assert abs(chosen.sum() - share * 1000) <= 4 * (1000 * share * (1 - share)) ** 0.5 + 1
    assert 0 < chosen.sum() < 1000


def test_a_larger_share_keeps_what_a_smaller_one_held_out() -> None:
    tenth, fifth = (held_out("ant", NAMES, share) for share in (0.1, 0.2))
    assert (tenth <= fifth).all() and tenth.sum() < fifth.sum()


def test_the_choice_is_fixed_for_all_times_and_machines(tmp_path: Path) -> None:
    assert [int(i) for i in held_out("ant", NAMES, 0.01).nonzero()[0]] == FIXED
    script = (
        "from pyalexnet.data.sources.image_files import held_out;"
        "names = [f'{number:04}.jpg'.encode() for number in range(1000)];"
        "print([int(i) for i in held_out('ant', names, 0.01).nonzero()[0]])"
    )
    for seed in "1", "2":  # of Python's own hashes
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{FIXED}\n"


def test_classes_with_the_same_file_names_are_divided_otherwise() -> None:
    assert (held_out("ant", NAMES, 0.1) != held_out("bee", NAMES, 0.1)).any()


def test_a_file_that_is_added_moves_no_other(tmp_path: Path) -> None:
    before = opened(flat(tmp_path))
    for number in range(100, 160):
        add(tmp_path, f"ant/{number:03}.jpg")
        add(tmp_path, f"bee/new/{number:03}.webp")
    add(tmp_path, "zebra/1.jpg")
    add(tmp_path, "zebra/2.jpg")
    after = opened(tmp_path)
    assert names(before.train) < names(after.train) and names(before.val) < names(after.val)
    assert len(names(after.val)) > len(names(before.val)) + 1


def test_the_place_of_the_data_is_of_no_account(tmp_path: Path) -> None:
    one, other = (opened(flat(tmp_path / place)) for place in ("here", "there/below"))
    assert names(one.val) == names(other.val)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_class_of_two_has_one_on_each_side(tmp_path: Path, share: float) -> None:
    data = opened(flat(tmp_path, 2), share)
    for split in (data.train, data.val):
        assert split.labels.tolist() == [0, 1, 2]


def test_a_single_image_is_for_training(tmp_path: Path) -> None:
    flat(tmp_path, 2)
    add(tmp_path, "dog/1.jpg")
    for share in (0.001, 0.999):
        data = opened(tmp_path, share)
        assert "dog/1.jpg" in names(data.train) and data.classes[3] == "dog"
    with pytest.raises(DataError, match="each class has one image; expected at least two"):
        opened(flat(tmp_path / "single", 1))


def test_train_without_val_is_divided(tmp_path: Path) -> None:
    flat(tmp_path / "train")
    assert names(opened(tmp_path).val) == names(opened(tmp_path / "train").val)
    flat(tmp_path / "test")
    data = opened(tmp_path)
    assert data.classes == ["ant", "bee", "cow"] and data.val_share == 0.1
    assert data.notes[1].startswith("1 left out: test/ (")


def test_both_splits_read_their_images(tmp_path: Path) -> None:
    for number in range(4):
        for name in ("ant", "bee"):
            write_image(tmp_path / "train" / name / f"{number}.png", seed=number)
    for folder in (tmp_path, tmp_path / "train"):
        data = opened(folder, 0.5)
        for split in (data.train, data.val):
            for index, image in enumerate(split.read(np.arange(len(split)))):
                expected = load_image(tmp_path / "train" / split.name(index), 8)
                np.testing.assert_array_equal(image, expected)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for number in range(3):
            add(tmp_path, f"{name}/{number}.jpg")
    assert opened(tmp_path).classes == ["bus", "train"]


def test_own_validation_images_are_used(tmp_path: Path) -> None:
    data = opened(write_folder(tmp_path), 0.5)
    assert (len(data.train), len(data.val), data.val_share, data.notes) == (6, 4, None, ())
    assert open_dataset(str(write_mnist(tmp_path / "digits")), val_share=0.5).val_share is None


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_impossible_share(tmp_path: Path, share: float) -> None:
    write_image(tmp_path / "ant" / "0.jpg")
    with pytest.raises(DataError, match=r"val-share is .*; expected more than 0 and less than 1"):
        opened(tmp_path, share)
