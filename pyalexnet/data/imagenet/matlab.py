"""Reads a struct array from a MAT-file of MATLAB's version 5, as the devkit's meta.mat is.

It takes what the devkit needs: text and whole numbers, in a little-endian file. Whatever a file
holds, memory and time are bounded by its size and by `limit`.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_STRUCT, _CHARS = 2, 4  # classes of matrices
_NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4"}
_NUMBERS |= {9: "<f8", 12: "<i8", 13: "<u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}

Value = str | int | None


class MatlabError(Exception):
    """A file that is damaged or has something else; the message says what."""


class _Matrix(NamedTuple):
    kind: int
    size: int  # number of elements
    name: bytes
    rest: memoryview  # behind the name


def read_structs(
    content: bytes, name: str, fields: tuple[str, ...], limit: int
) -> list[dict[str, Value]]:
    """Returns the elements of a struct array.

    Parameters
    ----------
    content : bytes
        The file's.
    name : str
        Of the array.
    fields : tuple of str
        Those to return. A value is a str or an int; None for any other.
    limit : int
        Bytes that the file's arrays may have when they are decompressed.

    Raises
    ------
    MatlabError
        The file is damaged, or has no such array with these fields.
    """
    if content[124:128] != b"\x00\x01IM":
        raise MatlabError("no MAT-file of version 5; expected a little-endian one")
    for type, element in _elements(memoryview(content)[_HEADER:]):
        if type == _COMPRESSED:
            element = _decompressed(element, limit)
            limit -= len(element)
            type, element, _ = _element(element)
        if type == _MATRIX and (matrix := _matrix(element)).name == name.encode():
            return _structs(matrix, name, fields)
    raise MatlabError(f"no variable {name}")


def _decompressed(element: memoryview, limit: int) -> memoryview:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(element, limit + 1)
    except zlib.error as error:
        raise MatlabError(f"damaged: {error}") from None
    if len(found) > limit:
        raise MatlabError("unpacks to too many bytes")
    if not stream.eof:
        raise MatlabError("truncated")
    return memoryview(found)


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    while content:
        type, element, content = _element(content)
        yield type, element


def _element(content: memoryview) -> tuple[int, memoryview, memoryview]:
    """Returns an element's type and data, and what follows it."""
    if len(content) < 8:
        raise MatlabError("truncated")
    type, size = struct.unpack("<II", content[:8])
    begin, end = 8, 8 + size
    if type >> 16:  # the short form: data within the tag
        type, size = type & 0xFFFF, type >> 16
        begin, end = 4, 4 + size
        if size > 4:
            raise MatlabError("damaged: an element's size is wrong")
    if end > len(content):
        raise MatlabError("truncated")
    following = end if type == _COMPRESSED else -(-end // 8) * 8
    return type, content[begin:end], content[following:]


def _matrix(element: memoryview) -> _Matrix:
    if not element:  # as MATLAB writes some empty ones
        return _Matrix(0, 0, b"", element)
    _, flags, rest = _element(element)
    _, shape, rest = _element(rest)
    _, name, rest = _element(rest)
    if len(flags) != 8 or len(shape) % 4 or len(shape) > 128:
        raise MatlabError("damaged: a matrix has no flags or shape")
    size = math.prod(max(0, axis) for axis in struct.unpack(f"<{len(shape) // 4}i", shape))
    return _Matrix(flags[0], size, bytes(name), rest)


def _structs(matrix: _Matrix, name: str, fields: tuple[str, ...]) -> list[dict[str, Value]]:
    if matrix.kind != _STRUCT:
        raise MatlabError(f"{name} is no struct array")
    _, length, rest = _element(matrix.rest)
    _, text, rest = _element(rest)
    each = int.from_bytes(length, "little")
    if not 0 < each <= 64 or len(text) % each:
        raise MatlabError("damaged: a struct's fields have no names")
    names = [bytes(text[at : at + each]).partition(b"\0")[0] for at in range(0, len(text), each)]
    missing = [field for field in fields if field.encode() not in names]
    if missing:
        raise MatlabError(f"{name} has no field {missing[0]}")
    found: list[dict[str, Value]] = []
    for _ in range(matrix.size):
        row = {}
        for key in names:
            type, element, rest = _element(rest)
            if type != _MATRIX:
                raise MatlabError("damaged: a struct's value is no matrix")
            if key.decode("latin-1") in fields:
                row[key.decode("latin-1")] = _value(_matrix(element))
        found.append(row)
    return found


def _value(matrix: _Matrix) -> Value:
    """Returns text or a whole number."""
    if matrix.kind == _CHARS:
        if not matrix.size:
            return ""
        type, data, _ = _element(matrix.rest)
        try:
            return str(data, _ENCODINGS[type])
        except (KeyError, UnicodeDecodeError):
            raise MatlabError("damaged: text in no known encoding") from None
    if matrix.kind < _CHARS or matrix.size != 1:  # cells, structs, objects; arrays
        return None
    type, data, _ = _element(matrix.rest)
    if type not in _NUMBERS or len(data) < np.dtype(_NUMBERS[type]).itemsize:
        raise MatlabError("damaged: a number of no known type")
    number = np.frombuffer(data, _NUMBERS[type], 1)[0]
    return int(number) if float(number).is_integer() else None
