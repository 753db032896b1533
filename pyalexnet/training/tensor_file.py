"""Files of named tensors in the safetensors format, written and read in bounded memory.

Such a file is the length of its header in 8 bytes, little-endian; the header, a JSON object of each
tensor's type, shape and place, and of texts under "__metadata__"; then the tensors' values, one
after the other.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr  # bounded, as a file may hold anything
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pyalexnet import files
from pyalexnet.errors import CheckpointError
from pyalexnet.text import printable

_METADATA = "__metadata__"
#: The types that are written and can be read.
TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_HEADER_BYTES = 1 << 25  # at most; a thousand classes need some thirty thousand
_DIMENSIONS = 8  # at most


class Entry(NamedTuple):
    """A tensor of a file."""

    type: str  #: as the format calls it
    shape: tuple[int, ...]
    begin: int  #: of its values, counted from the header's end
    end: int


@dataclass
class TensorFile:
    """An open file, of which the header has been read.

    Attributes
    ----------
    metadata : dict of str
    entries : dict of Entry
        By the tensors' names.
    """

    metadata: dict[str, str]
    entries: dict[str, Entry]
    _file: BinaryIO
    _start: int  # where the values begin

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor of a name, whose type is one of `TYPES`.

        Raises
        ------
        CheckpointError
            The file has become shorter.
        OSError
        """
        entry = self.entries[name]
        array: npt.NDArray[Any] = np.empty(entry.shape, TYPES[entry.type])
        self._file.seek(self._start + entry.begin)
        if self._file.readinto(flat(array).data) != array.nbytes:  # type: ignore[attr-defined]
            raise CheckpointError(f"damaged: ends within tensor {printable(name)}")
        return array


def flat(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of an array in C order: a view where it lies so in memory, else a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def entries(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Entry]:
    """What a file has of these tensors, whose types are of `TYPES`, in its order."""
    types = {dtype: name for name, dtype in TYPES.items()}
    placed, place = {}, 0
    # Wide types first, so that all values lie at multiples of their size.
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):
        array = tensors[name]
        placed[name] = Entry(types[array.dtype], array.shape, place, place + array.nbytes)
        place += array.nbytes
    return placed


def write(path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes a file, see `files.replacing`; the same bytes for the same content.

    Raises
    ------
    UserError
        It cannot be written; a file that was there is as it was.
    """
    placed = entries(tensors)
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    for name, entry in placed.items():
        offsets = entry.begin, entry.end
        header[name] = {"dtype": entry.type, "shape": entry.shape, "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with files.replacing(path) as file, files.naming(path):
        file.write(len(text).to_bytes(8, "little") + text)
        for name in placed:
            file.write(flat(tensors[name]))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """Opens a file for the block, which never waits for a pipe.

    Raises
    ------
    CheckpointError
        It is damaged, or of another format; the message does not name it.
    OSError
    """
    with files.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        start = 8 + length
        if start > size or length > _HEADER_BYTES:
            raise CheckpointError("damaged, or no safetensors file: it is no header's length first")
        header = files.parse_json(file.read(length), "header", CheckpointError)
        if not isinstance(header, dict):
            raise CheckpointError("damaged: the header is no JSON object")
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise CheckpointError(f"damaged: {_METADATA} is {repr(metadata)}; expected texts")
        found = {name: _entry(name, value, size - start) for name, value in header.items()}
        _check_places(found, size - start)
        yield TensorFile(metadata, found, file, start)


def _entry(name: str, value: Any, size: int) -> Entry:
    """A tensor's place among `size` bytes of values, of the header's entry for it."""
    keys = {"dtype", "shape", "data_offsets"}
    if isinstance(value, dict) and value.keys() == keys and isinstance(value["dtype"], str):
        shape, offsets = value["shape"], value["data_offsets"]
        if _are_counts(shape, size) and _are_counts(offsets, size) and len(offsets) == 2:
            entry = Entry(value["dtype"], tuple(shape), *offsets)
            known = TYPES.get(entry.type)
            if known is None or math.prod(shape) * known.itemsize == entry.end - entry.begin:
                return entry
    raise CheckpointError(
        f"damaged: tensor {printable(name)[:99]} is {repr(value)}; expected type, shape and place"
    )


def _are_counts(value: Any, most: int) -> bool:
    if not isinstance(value, list) or len(value) > _DIMENSIONS:
        return False
    return all(type(count) is int and 0 <= count <= most for count in value)


def _check_places(found: Mapping[str, Entry], size: int) -> None:
    """Raises CheckpointError unless the tensors lie one after the other and fill `size` bytes."""
    places = sorted((entry.begin, entry.end) for entry in found.values())
    begins, ends = [begin for begin, _ in places], [end for _, end in places]
    if [*begins, size] != [0, *ends]:
        raise CheckpointError(
            f"damaged: it has {size:,} bytes of tensors; expected tensors one after the other that "
            "fill these"
        )
