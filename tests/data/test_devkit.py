from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from helpers.imagenet_files import Miniature, add_file, unpack, write_imagenet
from pyalexnet.data.imagenet.devkit import META, TRUTH, read_devkit
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return write_imagenet(tmp_path_factory.mktemp("devkit"), classes=4, train=2, val=2)


def kit(path: Path, meta: bytes | None, truth: bytes | None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in ((META, meta), (TRUTH, truth)):
            if content is not None:
                add_file(archive, f"kit/{name}", content)
    return path


def member(mini: Miniature, name: str) -> bytes:
    with tarfile.open(mini.devkit) as archive:
        file = archive.extractfile(f"ILSVRC2012_devkit_t12/{name}")
        assert file is not None
        return file.read()


def test_leaves_by_wnid(mini: Miniature) -> None:
    found = read_devkit(mini.devkit)
    assert [synset.wnid for synset in found.synsets] == mini.wnids == sorted(mini.wnids)
    assert [synset.id for synset in found.synsets] == mini.ids
    assert mini.ids != sorted(mini.ids)  # or the two orders are the same
    assert [synset.words for synset in found.synsets] == mini.words
    assert {synset.train_images for synset in found.synsets} == {2}
    assert found.truth.tolist() == [mini.ids[label] for label in mini.val_labels]


@pytest.mark.parametrize("below", ["", "ILSVRC2012_devkit_t12"])
def test_unpacked(mini: Miniature, tmp_path: Path, below: str) -> None:
    folder = unpack(mini.devkit, tmp_path / "a") / below
    found, packed = read_devkit(folder), read_devkit(mini.devkit)
    assert found.synsets == packed.synsets
    np.testing.assert_array_equal(found.truth, packed.truth)


def table(**columns: list[object]) -> bytes:
    synsets = np.empty((len(next(iter(columns.values()))), 1), [(name, object) for name in columns])
    for name, values in columns.items():
        synsets[name][:, 0] = values
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    # Without the time of day, so that a test has the same name in every process.
    return b"MATLAB 5.0 MAT-file".ljust(116) + file.getvalue()[116:]


def synsets(**changes: list[object]) -> bytes:
    return table(
        **{
            "ILSVRC2012_ID": [1, 2],
            "WNID": ["n1", "n2"],
            "words": ["one", "two"],
            "num_children": [0, 0],
            "num_train_images": [5, 6],
            **changes,
        }
    )


def test_one_class_alone(tmp_path: Path) -> None:
    columns = {"ILSVRC2012_ID": [7], "WNID": ["n1"], "words": ["one"], "num_children": [0]}
    meta = table(**columns, num_train_images=[5])
    assert read_devkit(kit(tmp_path / "a", meta, b"7\r\n7\n")).synsets == [("n1", "one", 7, 5)]


@pytest.mark.parametrize(
    ("meta", "truth", "message"),
    [
        (None, b"1\n", "no data/meta.mat; expected"),
        (synsets(), None, "no data/ILSVRC2012_validation_ground_truth.txt; expected"),
        (None, None, "no data/meta.mat and no data/ILSVRC2012_validation"),
        (b"", b"1\n", "meta.mat: cannot be read"),
        (b"MATLAB 5.0 MAT-file".ljust(200), b"1\n", "meta.mat: cannot be read"),
        (synsets()[:300], b"1\n", "meta.mat: cannot be read"),
        (table(WNID=["n1", "n2"]), b"1\n", "meta.mat: cannot be read"),
        (synsets(num_children=[1, 3]), b"1\n", "synsets without children is 0; expected 1000"),
        (synsets(WNID=["n1", "n1"]), b"1\n", "two leaves have the same wnid"),
        (synsets(ILSVRC2012_ID=[1, 1]), b"1\n", "two leaves have the same id"),
        (synsets(num_children=[0, 1]), b"1\n2\n", "an ILSVRC2012_ID is 2; expected a leaf"),
        (synsets(), b"1\nn2\n", "truth.txt: .*; expected one ILSVRC2012_ID per line"),
        (synsets(), b"1\n99999999999999999999\n", "truth.txt: .*; expected one ILSVRC2012_ID per"),
        (synsets(), b"1\n3\n", "an ILSVRC2012_ID is 3; expected a leaf"),
    ],
)
def test_invalid_kits(
    tmp_path: Path, meta: bytes | None, truth: bytes | None, message: str
) -> None:
    with pytest.raises(DataError, match=rf"kit\.tar\.gz: .*{message}"):
        read_devkit(kit(tmp_path / "kit.tar.gz", meta, truth))


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_files_that_are_not_archives(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kit").write_bytes(content)
    with pytest.raises(DataError, match=r"kit: cannot be read as the devkit's \.tar\.gz"):
        read_devkit(tmp_path / "kit")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.7])
def test_truncated(mini: Miniature, tmp_path: Path, part: float) -> None:
    whole = mini.devkit.read_bytes()
    (tmp_path / "kit").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DataError, match="kit: "):
        read_devkit(tmp_path / "kit")


def test_member_that_would_fill_memory(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / TRUTH).write_bytes(b"1\n")
    with (tmp_path / META).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DataError, match=r"meta\.mat: size is 1,073,741,824 bytes; expected"):
        read_devkit(tmp_path)


def test_without_scipy(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"without SciPy: pip install 'pyalexnet\[imagenet\]'"):
        read_devkit(mini.devkit)
