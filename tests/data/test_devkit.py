from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scipy.io import savemat

from helpers.imagenet_files import Miniature, add_file, unpack, write_imagenet
from pyalexnet.data.imagenet.devkit import META, TRUTH, read_devkit
from pyalexnet.data.imagenet.matlab import MatlabError, read_structs
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
        (table(WNID=["n1", "n2"]), b"1\n", "meta.mat: cannot be read: synsets has no field words"),
        (synsets(WNID=["n1", 2]), b"1\n", "meta.mat: damaged: a synset is not of text and numb"),
        (synsets(num_train_images=[5, -6]), b"1\n", "a synset is not of text and numbers"),
        (synsets(ILSVRC2012_ID=[1, 1.5]), b"1\n", "a synset is not of text and numbers"),
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


@pytest.mark.parametrize("content", [b"", b"text" * 300, b"<html>404", None])
def test_files_that_are_not_archives(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kit").write_bytes(content)
    with pytest.raises(
        DataError,
        match=r"kit: (no such file|empty; expected the devkit|damaged, or not a tar|an HTML page)",
    ):
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
    with pytest.raises(DataError, match=r"meta\.mat: has more than 16,777,216 bytes; expected"):
        read_devkit(tmp_path)


def test_gzip_and_headers_that_would_fill_memory(tmp_path: Path) -> None:
    def header(size: int) -> bytes:
        member = tarfile.TarInfo("x")
        member.type, member.size = tarfile.XHDTYPE, size
        return member.tobuf(tarfile.USTAR_FORMAT)

    bomb = bytes(1 << 20) * 100
    for content, message in (
        (bomb, "unpacks to more than 67,108,864 bytes; expected the devkit's .tar.gz"),
        (header(1 << 31) + bytes(1024), "an extended header at byte 0 has 2,147,483,648 bytes"),
        (header(1 << 20) + bytes(1 << 21), "an extended header at byte 0 has 1,048,576 bytes"),
    ):
        (tmp_path / "kit").write_bytes(gzip.compress(content, 1))
        with pytest.raises(DataError, match=f"kit: .*{message}"):
            read_devkit(tmp_path / "kit")


def test_member_of_an_archive_is_bounded(tmp_path: Path) -> None:
    path = kit(tmp_path / "kit.tar.gz", synsets(), b"1 " * (3 << 20))
    with pytest.raises(DataError, match=r"ground_truth\.txt: has more than 4,194,304 bytes"):
        read_devkit(path)


def test_unpacked_tar_is_read(mini: Miniature, tmp_path: Path) -> None:
    (tmp_path / "kit.tar").write_bytes(gzip.decompress(mini.devkit.read_bytes()))
    assert read_devkit(tmp_path / "kit.tar").synsets == read_devkit(mini.devkit).synsets


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / META)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DataError, match=r"(pipe|meta\.mat): cannot be read: not a regular"):
            read_devkit(path)


MATLAB = sorted((Path(scipy.io.__file__).parent / "matlab/tests/data").glob("*structarr*LNX86.mat"))


@pytest.mark.parametrize("path", MATLAB or [None], ids=lambda path: path and path.stem)
def test_files_of_matlab_itself(path: Path | None) -> None:
    """SciPy comes with some, of versions that compress and that do not."""
    if path is None:
        pytest.skip("this SciPy has no files of MATLAB")
    found = read_structs(path.read_bytes(), "teststructarr", ("one", "two"), 1 << 20)
    assert found == [{"one": 1, "two": 2}, {"one": "number 1", "two": "number 2"}]


@pytest.mark.parametrize("compressed", [False, True])
def test_values_of_all_types(compressed: bool) -> None:
    values = ["", "é ü", 0, -7, 1.0, np.uint64(2**63), np.float32(3), np.int8(-1), 0.5, np.nan]
    values += [np.zeros((0, 0)), [1, 2], np.array(["a", 1], object), "x" * 3000]
    expected = ["", "é ü", 0, -7, 1, 2**63, 3, -1, *[None] * 5, "x" * 3000]
    table = np.empty((len(values), 1), [("value", object), ("other", object)])
    for row, value in zip(table[:, 0], values, strict=True):
        row["value"], row["other"] = value, {"deep": [1.0]}
    file = io.BytesIO()
    savemat(file, {"first": 1, "synsets": table}, do_compression=compressed)
    found = read_structs(file.getvalue(), "synsets", ("value",), 1 << 20)
    assert [row["value"] for row in found] == expected
    for name, message in (("none", "no variable none"), ("first", "first is no struct array")):
        with pytest.raises(MatlabError, match=message):
            read_structs(file.getvalue(), name, ("value",), 1 << 20)
    if compressed:
        with pytest.raises(MatlabError, match="unpacks to too many bytes"):
            read_structs(file.getvalue(), "synsets", ("value",), 4000)
