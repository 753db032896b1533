from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import (
    idx,
    write_cifar10_binary,
    write_cifar10_python,
    write_folder,
    write_image,
    write_mnist,
)
from pyalexnet.data import describe_sources, find_source, open_dataset
from pyalexnet.data.sources import SOURCES
from pyalexnet.errors import DataError, UserError

pytestmark = pytest.mark.host_only("reads files")

FASHION_LABELS = [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9]


def flat(folder: Path) -> Path:
    for name in ("ant", "bee"):
        for number in range(3):
            write_image(folder / name / f"{number}.png")
    return folder


def deep(folder: Path) -> Path:
    write_image(folder / "ant" / "2019" / "may" / "0.JPG")
    write_image(folder / "bee" / "1.webp")
    return folder


def fashion(folder: Path) -> Path:
    write_mnist(folder, train=len(FASHION_LABELS))
    labels = idx(np.array(FASHION_LABELS, np.uint8))
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    return folder


def zipped(folder: Path) -> Path:
    fashion(folder)
    file = folder / "train-labels-idx1-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return folder


def in_subfolder(folder: Path) -> Path:
    write_cifar10_python(folder / "cifar-10-batches-py")
    return folder


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    return folder


def begun(folder: Path) -> Path:
    folder.mkdir()
    (folder / "unfinished.npz").touch()
    return folder


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_folder, "folder"),
        (flat, "folder"),
        (deep, "folder"),
        (write_mnist, "mnist"),
        (fashion, "fashion-mnist"),
        (zipped, "fashion-mnist"),
        (write_cifar10_binary, "cifar10"),
        (write_cifar10_python, "cifar10"),
        (in_subfolder, "cifar10"),
        (prepared, "imagenet"),
        (begun, "imagenet"),
    ],
)
def test_a_folder_tells_its_kind(
    tmp_path: Path, write: Callable[[Path], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    source, place = find_source(str(folder))
    assert (source.name, place) == (name, folder)
    monkeypatch.chdir(tmp_path)
    for spec in ("data", "./data/"):
        source, place = find_source(spec)
        assert (source.name, place) == (name, Path(spec))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_source("~/data")[1] == folder


def test_a_folder_opens_like_its_kind(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos")
    found, named = (open_dataset(f"{kind}{photos}", size=8) for kind in ("", "folder:"))
    assert found.name == named.name == "folder" and found.classes == named.classes
    every = np.arange(6)
    np.testing.assert_array_equal(found.train.read(every), named.train.read(every))


def test_a_part_of_fashion_mnist_is_known_by_its_folder(tmp_path: Path) -> None:
    part = write_mnist(tmp_path / "A-tenth-of-Fashion-MNIST")
    assert find_source(str(part))[0].name == "fashion-mnist"
    assert find_source(f"mnist:{part}")[0].name == "mnist"


def test_a_damaged_set_is_recognised_and_named_when_it_is_opened(tmp_path: Path) -> None:
    digits = write_mnist(tmp_path / "digits")
    (digits / "train-labels-idx1-ubyte").write_bytes(b"x")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte: magic number is 78"):
        open_dataset(str(digits))
    (digits / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="digits: no train-labels file"):
        open_dataset(str(digits))
    batches = write_cifar10_binary(tmp_path / "batches")
    (batches / "data_batch_1.bin").unlink()
    with pytest.raises(DataError, match=r"batches: missing data_batch_1\.bin"):
        open_dataset(str(batches))


def test_what_a_folder_of_no_kind_holds_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing; expected one of") as caught:
        find_source(str(tmp_path))
    for source in SOURCES.values():
        if source.files:
            assert f"\n  {source.name}:DIR: {source.files}" in str(caught.value)
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg")
    with pytest.raises(DataError, match=r"holds 0\.jpg, 1\.jpg, 2\.jpg and 1 more; expected"):
        find_source(str(tmp_path))
    (tmp_path / "zoo").mkdir()
    for name in ("a.heic", "b.txt", "c.heic", "plain"):
        (tmp_path / "zoo" / name).touch()
    with pytest.raises(
        DataError, match=r"holds zoo/ \(\*\.heic, \*\.txt\), 0\.jpg, 1\.jpg and 2 more; expected"
    ):
        find_source(str(tmp_path))


def test_two_kinds_in_one_folder_are_for_the_user_to_choose(tmp_path: Path) -> None:
    both = write_mnist(flat(tmp_path / "both"))
    with pytest.raises(
        DataError, match=rf"holds mnist and folder; expected one .*mnist:{both} or folder:{both}"
    ):
        find_source(str(both))
    assert open_dataset(f"folder:{both}").classes == ["ant", "bee"]


def test_a_name_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flat(Path("shapes"))
    assert find_source("shapes")[0].name == "shapes"
    assert find_source("./shapes")[0].name == "folder"
    flat(Path("my:photos"))
    assert find_source("my:photos")[0].name == "folder"
    shutil.copytree("shapes", "mnist")
    assert find_source("mnist")[0].name == "folder"  # it alone names no data


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("imagenette:/x", "'imagenette:/x', no folder here"),
        ("photos", "'photos', no folder here"),
        ("train.tar", "'train.tar', a file"),
        ("mnist", "'mnist'"),
        ("mnist:", "'mnist:'"),
        ("folder", "'folder'"),
        ("shapes:", "'shapes:'"),
        ("shapes:/x", "'shapes:/x'"),
    ],
)
def test_unknown_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.tar").touch()
    expected = "shapes, DIR, mnist:DIR, .*folder:DIR or imagenet:DIR$"
    assert describe_sources().startswith("shapes, DIR, mnist:DIR, ")
    with pytest.raises(DataError, match=rf"^data is {found}; expected {expected}"):
        open_dataset(spec)


@pytest.mark.parametrize("spec", ["~nobody-of-that-name/x", "mnist:~nobody-of-that-name/x"])
def test_an_unknown_user_is_named(spec: str) -> None:
    with pytest.raises(UserError, match="there is no user nobody-of-that-name"):
        find_source(spec)
