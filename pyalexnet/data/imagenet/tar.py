"""Reads the headers of tar archives: of the ustar, pax and GNU formats, as far as files need them.

Unlike the standard library's `tarfile`, it takes bounded memory and time whatever an archive holds:
it goes forward only, and reads no more of a header than a name can have.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pyalexnet.errors import DataError
from pyalexnet.text import printable

_BLOCK = 512
_LONGEST = 1 << 16  # bytes of an extended header at most; one with a long name has some hundreds
_MOST = 1 << 24  # members at most; the images of ImageNet's 21,841 classes are 14,197,122

# Types of members, byte 156 of a header.
_FOLDER, _LONG_NAME, _SPARSE, _PAX = b"5LSx"
_EXTENDED = b"LKxg"  # headers that precede a member's
_EMPTY = b"123456"  # have no content, whatever their size
_REFUSALS = dict(
    zip(
        b"12346S",
        (
            "a hard link, not a file",
            "a symbolic link, not a file",
            "a device, not a file",
            "a device, not a file",
            "a pipe, not a file",
            "a sparse file",
        ),
        strict=True,
    )
) | dict.fromkeys(b"\x0007", "")

_OCTAL = re.compile(rb" *([0-7]*)[ \0]*(?:\0.*)?", re.DOTALL)
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=]+)=")  # its length, and the key


class Member(NamedTuple):
    """A member of an archive.

    Attributes
    ----------
    name : str
        As stored; bytes in another encoding as `os.fsdecode` has them.
    refusal : str
        Why it is not a plain file; "" if it is.
    offset, size : int
        Where its content lies in the archive.
    """

    name: str
    refusal: str
    offset: int
    size: int


class _Header(NamedTuple):
    name: bytes
    size: int
    type: int
    has_map: bool  # of a sparse file, in the blocks that follow


def members(
    read: Callable[[int, int], bytes], size: int, name: str, *, nested: bool = False
) -> Iterator[Member]:
    """Yields all members except folders.

    Parameters
    ----------
    read : callable
        Returns the bytes at an offset, as many as given, or fewer at the end.
    size : int
        Of the archive.
    name : str
        Names the archive in errors.
    nested : bool
        It may lack the zeros at the end.

    Raises
    ------
    DataError
        The archive is truncated, damaged or something else; the message says where.
    """
    at, long_name, pax = 0, b"", dict[bytes, bytes]()
    for _ in range(_MOST):
        block = read(at, _BLOCK)
        if not block.strip(b"\0"):
            if not at and not block:
                raise DataError(f"{name}: damaged, or not a tar archive: empty")
            if len(block) < _BLOCK and not (nested and at == size):
                raise DataError(
                    f"{name}: truncated: no end-of-archive marker (file ends at byte {size:,})"
                )
            return
        try:
            header = _parsed(block)
            if header.type in _EXTENDED:
                if header.size > _LONGEST:
                    raise DataError(
                        f"{name}: damaged: an extended header at byte {at:,} has "
                        f"{header.size:,} bytes; expected at most {_LONGEST:,}"
                    )
                content = read(at + _BLOCK, header.size)
                if header.type == _LONG_NAME:
                    long_name = content.partition(b"\0")[0]
                elif header.type == _PAX:
                    pax = _records(content)
            elif b"size" in pax:
                header = header._replace(size=_decimal(pax[b"size"]))
        except ValueError:
            raise DataError(f"{name}: {_wrong_header(block, at, size)}") from None
        offset = _past_map(read, at + _BLOCK) if header.has_map else at + _BLOCK
        end = offset + (0 if header.type in _EMPTY else header.size)
        if end > size:
            within = printable(os.fsdecode(long_name or header.name))
            raise DataError(f"{name}: truncated: ends at byte {size:,}, within {within}")
        at = offset + -(-(end - offset) // _BLOCK) * _BLOCK
        if header.type not in _EXTENDED:
            member = _member(header, long_name, pax, offset)
            long_name, pax = b"", {}
            if member is not None:
                yield member
    raise DataError(f"{name}: has more than {_MOST:,} members; expected at most so many")


def _member(
    header: _Header, long_name: bytes, pax: dict[bytes, bytes], offset: int
) -> Member | None:
    """Returns the member; None for a folder."""
    name = os.fsdecode(pax.get(b"path", long_name) or header.name)
    refusal = _REFUSALS.get(header.type, "of unknown type, not a file")
    if any(key.startswith(b"GNU.sparse.") for key in pax):
        refusal = "a sparse file"
    # The first format had no type for folders.
    if header.type == _FOLDER or (not refusal and name.endswith("/")):
        return None
    return Member(name, refusal, offset, header.size)


def _past_map(read: Callable[[int, int], bytes], offset: int) -> int:
    """Returns where the map of a sparse file, which goes on in blocks from `offset`, ends."""
    while read(offset, _BLOCK)[504:505] not in (b"", b"\0"):
        offset += _BLOCK
    return offset + _BLOCK


def _parsed(block: bytes) -> _Header:
    """Returns a header; raises ValueError if the block is none."""
    if len(block) < _BLOCK:
        raise ValueError
    # The checksum counts its own bytes as spaces. Some old programs added signed bytes.
    others = block[:148] + b" " * 8 + block[156:]
    excess = sum(others) - _number(block[148:156])
    if excess and excess != 256 * sum(byte > 127 for byte in others):
        raise ValueError
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    type = block[156]
    return _Header(name, _number(block[124:136]), type, type == _SPARSE and block[482] != 0)


def _number(field: bytes) -> int:
    """Returns an octal number, or one in base 256, if it is not negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    octal = _OCTAL.fullmatch(field)
    if octal is None:
        raise ValueError
    return int(octal[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", text):
        raise ValueError
    return int(text)


def _records(content: bytes) -> dict[bytes, bytes]:
    """Returns the values of a pax header; raises ValueError if it is damaged."""
    found, at = {}, 0
    while at < len(content):
        record = _RECORD.match(content, at)
        end = at + int(record[1]) if record else 0
        if record is None or not record.end() < end <= len(content):
            raise ValueError
        if content[end - 1] != ord("\n"):
            raise ValueError
        found[record[2]] = content[record.end() : end - 1]
        at = end
    return found


def _wrong_header(block: bytes, at: int, size: int) -> str:
    if at:
        where = f"member header at byte {at:,}"
        return f"truncated within the {where}" if at + _BLOCK > size else f"damaged: no {where}"
    if block[:2] == b"\x1f\x8b" or block[:3] == b"BZh" or block[:6] == b"\xfd7zXZ\0":
        return "compressed; expected an uncompressed archive, as published"
    if is_html(block):
        return "an HTML page, such as a server's answer; expected a tar archive"
    return "damaged, or not a tar archive"


def is_html(start: bytes) -> bool:
    """Whether a file that begins so is an HTML page, as a failed download leaves."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
