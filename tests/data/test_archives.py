from __future__ import annotations

import errno
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.imagenet_files import add_file, unpack, write_imagenet
from pyalexnet.data.imagenet import tar as tars
from pyalexnet.data.imagenet.archives import list_source
from pyalexnet.data.imagenet.devkit import Devkit, Synset
from pyalexnet.data.imagenet.labels import assemble
from pyalexnet.data.imagenet.listing import Group, Listing, Names, Source
from pyalexnet.errors import DataError, MachineError

pytestmark = pytest.mark.host_only("reads files")


def tar(members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members.items():
            add_file(archive, name, content)
    return file.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents(source: Source, group: str) -> dict[str, bytes]:
    """Returns the content of a group's files, read as a worker does."""
    found = source.groups[group]
    prefix = f"{group}/" if group else ""
    names = Names(prefix.encode() + name for name in found.names)
    labels = np.zeros(len(names), np.int32)
    listing = Listing(source.place, names, labels, found.offsets, found.sizes)
    with listing.reader() as read:
        return {os.fsdecode(found.names[i]): read(i) for i in range(len(names))}


CLASSES = {
    "n2": {"n2_9.JPEG": b"nine" * 300, "n2_10.jpg": b"", "n2_2.png": b"2"},
    "n1": {"n1_1.JPEG": b"one"},
}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_image_of_nested_tars_is_found(tmp_path: Path, form: int) -> None:
    outer = tar({f"{name}.tar": tar(images, form) for name, images in CLASSES.items()}, form)
    source = list_source(write(tmp_path / "train.tar", outer))
    assert set(source.groups) == {"n1", "n2"} and not source.skipped
    for name, images in CLASSES.items():
        assert contents(source, name) == images
        assert list(source.groups[name].names) == sorted(image.encode() for image in images)


def test_folders_tars_of_folders_and_flat_ones(tmp_path: Path) -> None:
    members = {
        f"./{c}/{name}": image for c, images in CLASSES.items() for name, image in images.items()
    }
    source = list_source(write(tmp_path / "a.tar", tar(members)))
    write(tmp_path / "b" / "n1" / "n1_1.JPEG", b"one")
    for name, image in CLASSES["n2"].items():
        write(tmp_path / "b" / "n2" / name, image)
    folder = list_source(tmp_path / "b")
    for name, images in CLASSES.items():
        assert contents(source, name) == contents(folder, name) == images
    for flat in (
        list_source(write(tmp_path / "c.tar", tar({"./b.JPEG": b"b", "a.JPEG": b"a"}))),
        list_source(write(tmp_path / "c" / "b.JPEG", b"b").parent),
    ):
        assert set(flat.groups) == {""}
        assert contents(flat, "")["b.JPEG"] == b"b"


def test_long_names_are_read(tmp_path: Path) -> None:
    name = f"{'long' * 50}.JPEG"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = write(tmp_path / "a.tar", tar({f"n1/{name}": b"x", "n1/é.JPEG": b"y"}, form))
        assert contents(list_source(path), "n1") == {name: b"x", "é.JPEG": b"y"}


def test_duplicate_names_are_skipped(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        add_file(archive, "n1.tar", tar({"x/a.JPEG": b"1", "y/a.JPEG": b"2"}))
        add_file(archive, "n1.tar", tar({"b.JPEG": b"1"}))
    source = list_source(write(tmp_path / "train.tar", file.getvalue()))
    assert contents(source, "n1") == {"a.JPEG": b"1"}
    assert source.groups["n1"].skipped == [("n1/a.JPEG", "another file has this name")]
    assert source.skipped == [("n1.tar", "another archive has this name")]


def test_other_files_are_skipped_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "n1"
    for name in ("a.JPEG", "._a.JPEG", "notes.txt", "a\x1b.JPEG"):
        write(folder / name, b"x")
    os.mkfifo(folder / "pipe.JPEG")
    (folder / "nowhere.JPEG").symlink_to(tmp_path / "nothing")
    write(folder / "within" / "b.JPEG", b"x")
    (folder / "within" / "back").symlink_to(folder)
    (folder / "circle.JPEG").symlink_to(folder / "circle.JPEG")
    with write(folder / "huge.JPEG", b"x").open("r+b") as file:
        file.truncate(1 << 30)  # sparse: takes no space
    write(tmp_path / "README", b"x")
    (tmp_path / ".hidden").mkdir()
    source = list_source(tmp_path)
    assert list(source.groups) == ["n1"]
    assert list(source.groups["n1"].names) == [b"a.JPEG", b"within/b.JPEG"]
    reasons = dict(source.groups["n1"].skipped + source.skipped)
    expected = {
        "n1/._a.JPEG": "hidden",
        "n1/notes.txt": "not named as an image (.jpg, .jpeg, .png)",
        "n1/a\\x1b.JPEG": "name has control characters",
        "n1/pipe.JPEG": "not a file",
        "n1/within/back/": "a link to a folder that is read already",
        "n1/circle.JPEG": "cannot be read: Too many levels of symbolic links",
        "n1/nowhere.JPEG": "cannot be read: No such file or directory",
        "n1/huge.JPEG": "size is 1,073,741,824 bytes; expected at most 268,435,456",
        "README": "not named as an image (.jpg, .jpeg, .png)",
    }
    assert reasons == expected


@pytest.fixture(scope="module")
def whole() -> bytes:
    members = {f"{name}.tar": tar(images) for name, images in CLASSES.items()}
    return tar(members)


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 3000, 10240, 10752, 11264, 20000, 20992, 21000])
def test_truncated_outer_tar(tmp_path: Path, whole: bytes, cut: int) -> None:
    assert cut < len(whole) - 1024
    with pytest.raises(DataError, match=r"train\.tar: (truncated|damaged)"):
        list_source(write(tmp_path / "train.tar", whole[:cut]))


@pytest.mark.parametrize("cut", [0, 1, 511, 600, 1500])
def test_truncated_inner_tar(tmp_path: Path, cut: int) -> None:
    outer = tar({"n1.tar": tar(CLASSES["n2"])[:cut]})
    with pytest.raises(DataError, match=r"train\.tar: n1\.tar: (truncated|damaged)"):
        list_source(write(tmp_path / "train.tar", outer))


def test_nested_archive_may_lack_its_end_marker(tmp_path: Path) -> None:
    inner = tar({"a.JPEG": b"a"})[:1024]
    source = list_source(write(tmp_path / "train.tar", tar({"n1.tar": inner})))
    assert contents(source, "n1") == {"a.JPEG": b"a"}


def test_damaged_header_does_not_pass_for_the_end(tmp_path: Path) -> None:
    content = bytearray(tar({"a.JPEG": b"a", "b.JPEG": b"b"}))
    content[1024:1034] = b"#" * 10  # within b's header
    with pytest.raises(DataError, match=r"a\.tar: damaged: no member header at byte 1,024"):
        list_source(write(tmp_path / "a.tar", bytes(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, or not a tar archive"),
        (b"x" * 2000, "damaged, or not a tar archive"),
        (b"<html>404</html>", "an HTML page, such as a server's answer; expected a tar archive"),
        (b"\r\n<!DOCTYPE HTML>" * 100, "an HTML page"),
        (b"\x1f\x8b\x08\x00rest", "compressed; expected an uncompressed archive, as published"),
        (b"BZh9rest", "compressed"),
        (b"\xfd7zXZ\0rest", "compressed"),
    ],
)
def test_files_that_are_not_archives(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.tar: {message}"):
        list_source(write(tmp_path / "a.tar", content))


def raw(size: bytes, type: bytes = b"0", name: bytes = b"b.JPEG") -> bytes:
    """Returns a header with any bytes as size, and a checksum that is right."""
    begin = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0"
    end = type + bytes(100) + b"ustar  \0"
    checksum = sum(begin) + 8 * ord(" ") + sum(end)
    return (begin + b"%06o\0 " % checksum + end).ljust(512, b"\0")


FIRST = tar({"a.JPEG": b"a"})[:1024]
NEGATIVE = b"\xff" * 10 + b"\xfe\x00"  # -512 in base 256
END = bytes(1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FIRST + raw(NEGATIVE) + END, "damaged: no member header at byte 1,024"),
        (FIRST + raw(NEGATIVE, b"L") + END, "damaged: no member header at byte 1,024"),
        (FIRST + raw(NEGATIVE, b"x") + END, "damaged: no member header at byte 1,024"),
        (FIRST + raw(b"-1000") + END, "damaged: no member header at byte 1,024"),
        (FIRST + raw(b"1_0") + END, "damaged: no member header at byte 1,024"),
        (FIRST + raw(b"77777777777") + END, "truncated: ends at byte 2,560, within b.JPEG"),
        (FIRST + raw(b"\x80" + b"\xff" * 11) + END, "truncated: ends at byte 2,560, within b"),
        (
            FIRST + raw(b"10000000000", b"L") + END,
            "damaged: an extended header at byte 1,024 has 1",
        ),
        (
            FIRST + raw(b"1000000", b"L") + bytes(1 << 19),
            "damaged: an extended header at byte 1,024 has 2",
        ),
        (
            FIRST + raw(b"1000000", b"x") + bytes(1 << 19),
            "damaged: an extended header at byte 1,024 has 2",
        ),
        (FIRST + raw(b"12", b"x") + b"9" * 10 + bytes(502), "damaged: no member header at byte 1,"),
        (
            FIRST + raw(b"10", b"x") + b"8 size=1" + bytes(504),
            "damaged: no member header at byte 1",
        ),
        (FIRST + raw(b"12", b"x") + b"10 size=-\n" + bytes(502) + raw(b"0"), "damaged: no member"),
        (
            FIRST + raw(b"13", b"x") + b"99 size=12\n" + bytes(501),
            "damaged: no member header at by",
        ),
        (FIRST + raw(b"0")[:300], "truncated within the member header at byte 1,024"),
    ],
)
def test_hostile_headers(tmp_path: Path, content: bytes, message: str) -> None:
    for path, name in (
        (write(tmp_path / "a.tar", content), r"a\.tar: "),
        (write(tmp_path / "b.tar", tar({"n1.tar": content})), r"b\.tar: n1\.tar: "),
    ):
        with pytest.raises(DataError, match=name + message):
            list_source(path)


def test_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = raw(b"1", b"L") + b"x".ljust(512, b"\0")
    path = write(tmp_path / "a.tar", chain * 3000 + raw(b"0") + END)  # deeper than any recursion
    assert list_source(path).skipped == [("x", "not named as an image (.jpg, .jpeg, .png)")]
    monkeypatch.setattr(tars, "_MOST", 3000)
    with pytest.raises(DataError, match=r"a\.tar: has more than 3,000 members"):
        list_source(path)


def test_checksum_of_signed_bytes(tmp_path: Path) -> None:
    """As some old programs compute it."""
    header = bytearray(raw(b"1", name="é.JPEG".encode()))
    header[148:156] = b" " * 8
    signed = sum(byte - 256 * (byte > 127) for byte in header)
    header[148:156] = b"%06o\0 " % signed
    path = write(tmp_path / "a.tar", bytes(header) + b"x".ljust(512, b"\0") + END)
    assert contents(list_source(path), "") == {"é.JPEG": b"x"}


def test_size_in_a_pax_header_is_the_members(tmp_path: Path) -> None:
    pax = raw(b"12", b"x") + b"10 size=3\n".ljust(512, b"\0")
    long = raw(b"6", b"L") + b"n.JPEG".ljust(512, b"\0")
    for name, headers in (("b.JPEG", pax), ("n.JPEG", pax + long)):
        path = write(tmp_path / "a.tar", headers + raw(b"0") + b"abc".ljust(512, b"\0") + END)
        assert contents(list_source(path), "") == {name: b"abc"}


def test_sparse_files_are_skipped(tmp_path: Path) -> None:
    sparse = bytearray(raw(b"1000", b"S", b"s.JPEG"))
    sparse[482] = 1  # the map goes on in two more blocks
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    more = bytes(504) + b"\1" + bytes(7) + bytes(512)
    path = write(tmp_path / "a.tar", bytes(sparse) + more + bytes(512) + tar({"a.JPEG": b"a"}))
    source = list_source(path)
    assert contents(source, "") == {"a.JPEG": b"a"}
    assert source.skipped == [("s.JPEG", "a sparse file")]


def test_folder_of_class_archives(tmp_path: Path) -> None:
    """As while the training archive is unpacked: some classes are archives, some folders."""
    folder = tmp_path / "train"
    write(folder / "n1.tar", tar(CLASSES["n1"]))
    for name, image in CLASSES["n2"].items():
        write(folder / "n2" / name, image)
    write(folder / "n1" / "half.JPEG", b"half unpacked")
    write(folder / "ILSVRC2012_img_train.tar", b"x")
    source = list_source(folder)
    assert {name: contents(source, name) for name in source.groups} == CLASSES
    assert sorted(source.skipped) == [
        ("ILSVRC2012_img_train.tar", "an archive of the whole beside its parts"),
        ("n1/", "n1.tar is read instead"),
    ]
    (folder / "n1.tar").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(DataError, match=r"train/n1\.tar: an HTML page"):
        list_source(folder)


def test_folder_of_one_archive(tmp_path: Path) -> None:
    """As a download; of class archives or of images."""
    outer = tar({f"{name}.tar": tar(images) for name, images in CLASSES.items()})
    source = list_source(write(tmp_path / "a" / "train.tar", outer).parent)
    assert {name: contents(source, name) for name in source.groups} == CLASSES
    source = list_source(write(tmp_path / "b" / "val.tar", tar(CLASSES["n2"])).parent)
    assert contents(source, "") == CLASSES["n2"]


def test_errors_of_the_system_name_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "train" / "n1" / "a.JPEG", b"a")
    write(tmp_path / "b.tar", tar({"a.JPEG": b"a"}))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        with pytest.raises(MachineError, match=r"train: cannot be read: Input/output error"):
            list_source(tmp_path / "train")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(MachineError, match=r"b\.tar: cannot be read: Input/output error"):
            list_source(tmp_path / "b.tar")
    source = list_source(tmp_path / "train")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"a\.JPEG: cannot be read: not a regular file"):
        contents(source, "n1")


def test_missing_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, message in (
        ("none", "no such file"),
        ("pipe", "cannot be read: not a regular file"),
        ("circle", "cannot be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            list_source(tmp_path / name)


def test_source_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tar({"a.JPEG": b"a" * 600}))
    source = list_source(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"a\.tar: truncated since its images were listed"):
        contents(source, "")
    path = write(tmp_path / "b" / "n1" / "a.JPEG", b"a")
    source = list_source(tmp_path / "b")
    path.unlink()
    with pytest.raises(DataError, match=r"a\.JPEG: no such file"):
        contents(source, "n1")


def devkit(wnids: list[str], truth: list[int]) -> Devkit:
    """Returns a kit of n classes in which the class of rank r has ID n-r."""
    synsets = [Synset(w, f"words {w}", len(wnids) - r, 1) for r, w in enumerate(wnids)]
    return Devkit(synsets, np.array(truth))


def source(groups: dict[str, list[bytes]]) -> Source:
    return Source(
        Path("place"),
        {
            name: Group(Names(sorted(images)), *np.zeros((2, len(images)), np.int64), [])
            for name, images in groups.items()
        },
    )


TRAIN = {"n2": [b"b", b"a"], "n1": [b"c"]}


def test_labels_are_ranks_of_sorted_wnids() -> None:
    kit = devkit(["n1", "n2"], [1, 2, 1])
    found = assemble(source(TRAIN), source({"": [b"v1", b"v3", b"v2"]}), kit)
    assert found.classes == [
        {"wnid": "n1", "words": "words n1", "id": 2},
        {"wnid": "n2", "words": "words n2", "id": 1},
    ]
    assert list(found.train.names) == [b"n1/c", b"n2/a", b"n2/b"]
    assert found.train.labels.tolist() == [0, 1, 1]
    assert list(found.val.names) == [b"v1", b"v2", b"v3"]
    assert found.val.labels.tolist() == [1, 0, 1]
    assert (
        "1 of 2 classes have more or fewer" in found.notes[0] and "n2: 2, not 1" in found.notes[0]
    )


def test_validation_images_in_class_folders_are_in_order_of_file_names() -> None:
    found = assemble(source(TRAIN), source({"n1": [b"v3", b"v1"], "n2": [b"v2"]}), None)
    assert found.classes == [{"wnid": "n1"}, {"wnid": "n2"}]
    assert list(found.val.names) == [b"n1/v1", b"n2/v2", b"n1/v3"]
    assert found.val.labels.tolist() == [0, 1, 0]
    assert found.val.labels.dtype == np.int32


def test_images_outside_of_class_folders() -> None:
    stray = source({**TRAIN, "": [b"stray\xff"]})
    found = assemble(stray, stray, None)
    reason = "not in a class folder"
    assert found.skipped == [(s, ("stray\\xff", reason)) for s in ("train", "val")]
    assert len(found.train) == len(found.val) == 3


def test_names_in_no_encoding(tmp_path: Path) -> None:
    for place in ("train", "val"):
        folder = tmp_path / place / os.fsdecode(b"\xff")
        write(folder / os.fsdecode(b"\xfe.JPEG"), b"x")
    (tmp_path / "train" / "a\nb").mkdir()
    found = assemble(list_source(tmp_path / "train"), list_source(tmp_path / "val"), None)
    assert list(found.train.names) == [b"\xff/\xfe.JPEG"]
    assert found.skipped == [("train", ("a\\nb", "name has control characters"))]


@pytest.mark.parametrize(
    ("train", "val", "kit", "message"),
    [
        ({}, TRAIN, None, "number of classes is 0; expected one archive or folder per class"),
        (TRAIN, {"": [b"v"]}, None, "images are not in class folders; expected --devkit"),
        (TRAIN, {"": [b"v"]}, devkit(["n1", "n2"], [1, 2]), "images is 1; expected 2, one per li"),
        (TRAIN, TRAIN, devkit(["n1"], []), "2 classes, of which 'n2' is only here; expected the"),
        (TRAIN, TRAIN, devkit(["n1", "n2", "n3"], []), "'n3' is only in the devkit; expected"),
        (TRAIN, TRAIN, devkit(["n1", "n3", "n4"], []), r"'n2' is only here \(and 2 more\)"),
        (
            TRAIN,
            {"n1": [b"v"]},
            None,
            "'n2' is only in the training images; expected the same 2 as in the tr",
        ),
        (TRAIN, {**TRAIN, "": [b"v"], "n3": [b"v"]}, None, "'n3' is only here"),
        ({**TRAIN, "n3": []}, TRAIN, None, "2 classes, of which"),
        ({**TRAIN, "n3": []}, {**TRAIN, "n3": [b"v"]}, None, "images in class n3 is 0; expected"),
    ],
)
def test_mismatched_sources(
    train: dict[str, list[bytes]], val: dict[str, list[bytes]], kit: Devkit | None, message: str
) -> None:
    with pytest.raises(DataError, match=f"place: .*{message}"):
        assemble(source(train), source(val), kit)


def test_names_and_parts() -> None:
    names = Names([b"a", b"", b"ccc", b"dd"])
    assert list(names) == [b"a", b"", b"ccc", b"dd"]
    assert list(names.part(1, 3)) == [b"", b"ccc"]
    assert list(names.part(3, 9)) == [b"dd"]
    assert list(Names.joined([names.part(2, 4), Names(), names.part(0, 1)])) == [
        b"ccc",
        b"dd",
        b"a",
    ]


CHANGES: dict[str, Callable[[Listing], Listing]] = {
    "name": lambda x: Listing(
        x.place, Names([b"n1/c", b"n2/a", b"n2/x"]), x.labels, x.offsets, x.sizes
    ),
    "ends": lambda x: Listing(
        x.place, Names([b"n1/c", b"n2/", b"an2/b"]), x.labels, x.offsets, x.sizes
    ),
    "label": lambda x: Listing(x.place, x.names, x.labels[::-1], x.offsets, x.sizes),
    "offset": lambda x: Listing(x.place, x.names, x.labels, x.offsets + 1, x.sizes),
    "size": lambda x: Listing(x.place, x.names, x.labels, x.offsets, x.sizes + 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_fingerprint_tells_lists_apart(what: str) -> None:
    train = assemble(source(TRAIN), source(TRAIN), None).train
    same = Listing(Path("elsewhere"), train.names, train.labels, train.offsets, train.sizes)
    assert same.fingerprint() == train.fingerprint()
    assert CHANGES[what](train).fingerprint() != train.fingerprint()


def test_unpacked_miniature_has_the_same_images(tmp_path: Path) -> None:
    mini = write_imagenet(tmp_path / "a", classes=2, train=3, val=2)
    packed = list_source(mini.train)
    unpacked = list_source(unpack(mini.train, tmp_path / "train"))
    for wnid in mini.wnids:
        assert contents(packed, wnid) == contents(unpacked, wnid)


def test_list_holds_no_object_for_each_image() -> None:
    wnids = [f"n{number:08}" for number in range(100)]

    def group(wnid: str) -> Group:
        names = Names(f"{wnid}_{number}.JPEG".encode() for number in range(1300))
        return Group(names, np.arange(1300), np.arange(1300), [])

    tracemalloc.start()
    try:
        train = Source(Path("train.tar"), {wnid: group(wnid) for wnid in wnids})
        val = Source(
            Path("val"), {wnid: Group(Names([b"v"]), *np.ones((2, 1), int), []) for wnid in wnids}
        )
        images = assemble(train, val, None)
        del train
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(images.train) == 130_000
    # 27 bytes of name and 8 + 4 + 8 + 8 of numbers per image; no object for each.
    assert held < 130_000 * 60
    assert peak < 130_000 * 150
