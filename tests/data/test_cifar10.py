from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from helpers.data_files import cifar_batch, pickled, write_cifar10_binary, write_cifar10_python
from pyalexnet.data import open_dataset
from pyalexnet.data.sources.cifar10 import read_pickle
from pyalexnet.errors import DataError

pytestmark = pytest.mark.host_only("reads files")


def check(folder: Path) -> None:
    data = open_dataset(f"cifar10:{folder}")
    assert (len(data.train), len(data.val)) == (15, 3)
    assert data.train.shape == (32, 32, 3) and data.mirror and data.classes[3] == "cat"
    pixels, labels = cifar_batch(1)  # data_batch_2
    image = data.train.read(np.array([5]))[0]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[4, 7], pixels[2].reshape(3, 32, 32)[:, 4, 7])
    np.testing.assert_array_equal(image.transpose(2, 0, 1).ravel(), pixels[2])
    np.testing.assert_array_equal(data.train.labels[3:6], labels)
    np.testing.assert_array_equal(data.val.labels, cifar_batch(5)[1])


def test_binary(tmp_path: Path) -> None:
    check(write_cifar10_binary(tmp_path))


@pytest.mark.parametrize("python2", [True, False])
def test_python(tmp_path: Path, python2: bool) -> None:
    check(write_cifar10_python(tmp_path, python2=python2))


def test_unpacked_archives(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "a" / "cifar-10-batches-bin")
    write_cifar10_python(tmp_path / "b" / "cifar-10-batches-py")
    check(tmp_path / "a")
    check(tmp_path / "b")


def test_columns_first_array(tmp_path: Path) -> None:
    pixels, labels = cifar_batch(0)
    file = tmp_path / "batch"
    file.write_bytes(pickled({b"data": np.asfortranarray(pixels), b"labels": labels}))
    np.testing.assert_array_equal(read_pickle(file)[0], pixels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "size is 9218 bytes; expected a multiple of 3073"),
        (lambda content: b"", "size is 0 bytes"),
        (lambda content: b"\x0a" + content[1:], "label of image 0 is 10; expected 0 to 9"),
    ],
)
def test_damaged_binary_batch(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    file = write_cifar10_binary(tmp_path) / "data_batch_4.bin"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=rf"data_batch_4\.bin: {message}"):
        open_dataset(f"cifar10:{tmp_path}")


PIXELS, LABELS = cifar_batch(0)
WHOLE = pickled({b"data": PIXELS, b"labels": LABELS})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CIFAR-10 Python batch, damaged or truncated"),
        (b"not a pickle at all", "not a CIFAR-10 Python batch"),
        (WHOLE[: len(WHOLE) // 2], "truncated"),
        (WHOLE[:-1], "truncated"),
        (pickled([1, 2]), "content is a list; expected a dictionary"),
        (pickled({b"data": PIXELS}), "data or labels is missing"),
        (pickled({b"data": b"123", b"labels": LABELS}), "data or labels is missing or of another"),
        (
            pickled({b"data": PIXELS.astype(np.int16), b"labels": LABELS}),
            "data is no matrix of bytes",
        ),
        (
            pickled({b"data": PIXELS.astype(object), b"labels": LABELS}),
            "data is no matrix of bytes",
        ),
        (pickled({b"data": PIXELS[:, :3000], b"labels": LABELS}), r"\(3, 3000\); expected"),
        (pickled({b"data": PIXELS[:0], b"labels": []}), r"\(0, 3072\); expected"),
        (pickled({b"data": PIXELS, b"labels": LABELS[:2]}), "number of labels is 2; expected 3"),
        (pickled({b"data": PIXELS, b"labels": ["a", "b", "c"]}), "labels are not all integers"),
        (pickled({b"data": PIXELS, b"labels": [0, 1, 10]}), "label of image 2 is 10"),
        (
            pickled({b"data": PIXELS, b"labels": [0, 2**70, 1]}),
            "label of image 1 is -1; expected 0 to 9",
        ),
    ],
)
def test_damaged_python_batch(tmp_path: Path, content: bytes, message: str) -> None:
    (write_cifar10_python(tmp_path) / "data_batch_5").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_5: .*{message}"):
        open_dataset(f"cifar10:{tmp_path}")


class _Attack:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def test_pickle_cannot_run_code(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    attack = pickled({b"data": _Attack(Path.touch, marker), b"labels": [1]}, python2=False)
    pickle.loads(attack)
    assert marker.exists()  # the attack itself works
    marker.unlink()
    file = tmp_path / "batch"
    file.write_bytes(attack)
    with pytest.raises(DataError, match=r"batch: .* is not allowed in it"):
        read_pickle(file)
    assert not marker.exists()


@pytest.mark.parametrize("attack", [_Attack(eval, "1"), _Attack(np.zeros, 1 << 40)])
def test_pickle_names_nothing_else(tmp_path: Path, attack: _Attack) -> None:
    (tmp_path / "batch").write_bytes(pickled({b"labels": attack}, python2=False))
    with pytest.raises(DataError, match="is not allowed in it"):
        read_pickle(tmp_path / "batch")


def _nested(deep: int, repeated: bytes) -> bytes:
    """A pickle of a dictionary whose key is a tuple of tuples."""
    key = b"N" + b"".join(repeated % (number, number) for number in range(deep))
    return b"\x80\x02}" + key + b"Ns."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"]r\xff\xff\xff\x0f.", "a memo index is above the file's size"),
        (b"]p268435455\n.", "a memo index is above the file's size"),
        (b"]p-1\n.", "a memo index is above the file's size"),
        (_nested(40, b"q%ch%c\x86"), "a tuple is used twice"),
        (b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.", "nested too deeply"),
        (b"(" * 100_000, ""),
        (b"}N\x852\x86Ns.", "DUP is not allowed"),
        (b"\x8a\xff" + bytes(3), ""),
        (b"\x8b\xff\xff\xff\x7f.", ""),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", ""),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b"N.", ""),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\0N.", ""),
        (b"I" + b"9" * 100_000 + b"\n.", ""),
        (b"ccol\x1b]0;owned\nname\n.", "col\\\\x1b]0;owned.name is not allowed in it"),
        (b"0.", ""),
        (b"a.", ""),
        (b"u.", ""),
        (b"q\0.", ""),
    ],
)
def test_hostile_pickles_take_bounded_time_and_memory(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "batch").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_pickle(tmp_path / "batch")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message.replace("\\\\", "\\") in str(caught.value) and len(str(caught.value)) < 400
    assert peak < 1 << 26


def test_shapes_are_not_printed(tmp_path: Path) -> None:
    deep = b"N" + b"\x85" * 15
    content = pickled({b"data": PIXELS, b"labels": LABELS})
    shape = content.index(b"K\x03M\x00\x0c\x86")  # (3, 3072)
    changed = content[:shape] + deep + content[shape + 6 :]
    (tmp_path / "batch").write_bytes(changed)
    with pytest.raises(DataError, match=r"data is no matrix of bytes; expected [^()]*\(n, 3072\)"):
        read_pickle(tmp_path / "batch")


def test_missing_batches_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected data_batch_1\.bin .*cifar-10-batches-py"):
        open_dataset(f"cifar10:{tmp_path}")
    write_cifar10_binary(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"missing data_batch_2\.bin, test_batch\.bin; expected"):
        open_dataset(f"cifar10:{tmp_path}")
