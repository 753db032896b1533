"""CIFAR-10, as binary or Python batches (https://www.cs.toronto.edu/~kriz/cifar.html)."""

from __future__ import annotations

import pickle
import pickletools
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyalexnet.data.dataset import ArraySplit, Dataset, check_labels
from pyalexnet.errors import DataError
from pyalexnet.files import read_bytes
from pyalexnet.text import printable

CLASSES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]

FILES = (
    "data_batch_1.bin … data_batch_5.bin and test_batch.bin (binary), or the same without .bin "
    "(Python), directly or in cifar-10-batches-bin or cifar-10-batches-py"
)

_PIXELS = 3 * 32 * 32
_TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
_TEST = "test_batch"

_MOST_BYTES = 1 << 30  # of a batch; those of CIFAR-10 have 31 million
_MOST_OPCODES = 1 << 21  # 10,000 labels and 10,000 file names take 50,000
_NESTED = 20  # tuples within each other at most
_SHOWN = 80  # characters of a name in a message
# What pickles of protocols 0 to 5 use for plain values and arrays.
_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "MEMOIZE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "SETITEM"),
    *("GET", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("PUT", "BINPUT", "LONG_BINPUT", "TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"),
}

Records = tuple[NDArray[np.uint8], NDArray[np.int64]]


def open_cifar10(folder: Path) -> Dataset:
    """Opens the batches in `folder`, or in the subfolder that their archive unpacks to.

    Raises
    ------
    DataError
        A batch is missing or damaged.
    """
    for place in _places(folder):
        for ending, read in ((".bin", read_binary), ("", read_pickle)):
            files = [place / (name + ending) for name in [*_TRAIN, _TEST]]
            found = [file.is_file() for file in files]
            if all(found):
                train, val = _split(files[:-1], read), _split(files[-1:], read)
                return Dataset("cifar10", CLASSES, train, val, mirror=True)
            if any(found):
                missing = ", ".join(f.name for f, ok in zip(files, found, strict=True) if not ok)
                raise DataError(f"{place}: missing {missing}; expected all six batches")
    raise DataError(f"{folder}: no CIFAR-10 batches; expected {FILES}")


def is_cifar10(folder: Path) -> bool:
    """Whether `open_cifar10` would find a batch."""
    return any(
        (place / (name + ending)).is_file()
        for place in _places(folder)
        for name in [*_TRAIN, _TEST]
        for ending in (".bin", "")
    )


def _places(folder: Path) -> tuple[Path, ...]:
    return folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"


def _split(files: list[Path], read: Any) -> ArraySplit:
    images, labels = [], []
    for file in files:
        pixels, values = read(file)
        check_labels(values, len(CLASSES), file)
        images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(values)
    return ArraySplit(np.concatenate(images), np.concatenate(labels))


def read_binary(path: Path) -> Records:
    """Reads a binary batch: records of a label byte and 3072 pixels (channel, row, column).

    Returns
    -------
    pixels : uint8 (n, 3072)
    labels : int64 (n,)

    Raises
    ------
    DataError
        The file's size is not a multiple of the record size.
    """
    values = np.frombuffer(_bytes(path), np.uint8)
    if values.size == 0 or values.size % (1 + _PIXELS):
        raise DataError(
            f"{path}: size is {values.size} bytes; expected a multiple of {1 + _PIXELS} "
            f"(truncated, or not a CIFAR-10 binary batch)"
        )
    records = values.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def read_pickle(path: Path) -> Records:
    """Reads a Python batch: a pickled dictionary with `data`, uint8 (n, 3072), and `labels`.

    Returns
    -------
    pixels : uint8 (n, 3072)
    labels : int64 (n,)

    Raises
    ------
    DataError
        The file is damaged, holds something else, or would run code.
    """
    content = _bytes(path)
    try:
        _check_opcodes(content)
        batch = _Unpickler(BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises many types, some with what it holds
        words = f": {error}" if isinstance(error, _NotAllowed) else ""
        raise DataError(
            f"{path}: not a CIFAR-10 Python batch, damaged or truncated{words}"
        ) from None
    expected = "expected a dictionary with data, uint8 (n, 3072), and labels, n integers"
    if not isinstance(batch, dict):
        raise DataError(f"{path}: content is a {type(batch).__name__}; {expected}")
    data = batch.get(b"data", batch.get("data"))
    labels = batch.get(b"labels", batch.get("labels"))
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise DataError(f"{path}: data or labels is missing or of another type; {expected}")
    if not all(type(label) is int for label in labels):
        raise DataError(f"{path}: labels are not all integers; {expected}")
    pixels = data.values()
    if pixels is None:
        raise DataError(f"{path}: data is no matrix of bytes; {expected}")
    if pixels.shape[1] != _PIXELS or len(pixels) == 0:
        raise DataError(f"{path}: data is uint8 {pixels.shape}; {expected}")
    if len(labels) != len(pixels):
        raise DataError(
            f"{path}: number of labels is {len(labels)}; expected {len(pixels)}, one per image"
        )
    # Python integers are unbounded: replace those that may not fit an int64 by -1.
    bounded = [label if 0 <= label < 2**31 else -1 for label in labels]
    return pixels, np.array(bounded, np.int64)


def _bytes(path: Path) -> bytes:
    return read_bytes(path, _MOST_BYTES)


def _check_opcodes(content: bytes) -> None:
    """Checks that unpickling takes time and memory in proportion to the pickle's size.

    Pickles can have memo indices of gigabytes, and tuples of tuples, which take a deep stack or,
    where each has the next one twice, exponential time to hash.
    """
    stack: list[int | None] = []  # tuples within each other, for each object; None: a mark
    tuples: set[int] = set()  # their indices in the memo
    memo_size = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name, before = opcode.name, opcode.stack_before
        if name not in _OPCODES or number > _MOST_OPCODES:
            raise _NotAllowed(f"{name} is not allowed in it")
        index: Any = memo_size if name == "MEMOIZE" else argument
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if not 0 <= index <= len(content) or not stack:
                raise _NotAllowed("a memo index is above the file's size")
            memo_size += 1
            (tuples.add if stack[-1] else tuples.discard)(index)
            continue
        if name in ("GET", "BINGET", "LONG_BINGET") and index in tuples:
            raise _NotAllowed("a tuple is used twice")
        taken: list[int | None] = []
        count = len(before)
        if pickletools.markobject in before:
            count = before.index(pickletools.markobject)
            while stack[-1] is not None:
                taken.append(stack.pop())
            stack.pop()
        taken += [stack.pop() for _ in range(count)]
        depth = 0
        if name.startswith("TUPLE"):
            depth = 1 + max((one or 0 for one in taken), default=0)
        if depth > _NESTED:
            raise _NotAllowed("it is nested too deeply")
        stack += [None if kind is pickletools.markobject else depth for kind in opcode.stack_after]


class _NotAllowed(pickle.UnpicklingError):
    """A pickle holds what no batch does; the message quotes a little of it at most."""


class _Dtype:
    """Replaces numpy.dtype in the unpickler."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Replaces numpy.ndarray, so that a pickle cannot call NumPy's own unpickling."""

    shape: object = None
    dtype: object = None
    fortran: object = False
    raw: object = b""

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.raw = state

    def values(self) -> NDArray[np.uint8] | None:
        """Returns the array if it is a valid uint8 matrix, else None."""
        shape, raw = self.shape, self.raw
        if not isinstance(self.dtype, _Dtype) or self.dtype.name not in ("u1", "|u1"):
            return None
        if not isinstance(shape, tuple) or len(shape) != 2 or not isinstance(raw, bytes):
            return None
        if not all(type(size) is int for size in shape) or shape[0] * shape[1] != len(raw):
            return None
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if self.fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: object) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise _NotAllowed("encoding of bytes is another one; expected latin1")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads plain values and arrays; rejects all other globals."""

    _names: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Array,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
        ("_codecs", "encode"): _encode,  # bytes in Python 3 pickles of protocol 2
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            shown = printable(f"{module}.{name}")[:_SHOWN]
            raise _NotAllowed(f"{shown} is not allowed in it") from None
