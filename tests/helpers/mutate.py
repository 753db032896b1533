"""Damaged files: what a disk, a transfer or a stranger may make of a good one."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

# Bytes and sizes at which a parser may lose count.
_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF, ord("-"), ord("9"), ord('"'), ord("["), ord("{"))
_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_NUMBERS = (b"-1", b"-2147483648", b"1.5", b"1e999", b"1" + b"0" * 30, b"1" * 5000)


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yields `count` damaged copies of `data`; the same ones for the same seed.

    Each has one to four damages: bits or bytes changed, bytes cut out, inserted, repeated or
    swapped, the end cut, or a number of 1 to 8 bytes, binary or decimal, changed as if it were a
    length. Most fall near the start, where files have their headers.
    """
    for number in range(count):
        chance = random.Random(seed * 1_000_003 + number)
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 4))):
            chance.choice(_DAMAGES)(damaged, chance)
        yield bytes(damaged)


def _place(data: bytearray, chance: random.Random) -> int:
    end = len(data) if chance.random() < 0.5 else min(len(data), 64)
    return chance.randrange(end) if end else 0


def _span(data: bytearray, chance: random.Random) -> slice:
    begin = _place(data, chance)
    longest = chance.choice((1, 4, 16, max(1, len(data) // 4)))
    return slice(begin, begin + chance.randint(1, longest))


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random) -> None:
    if data:
        byte = chance.choice(_BYTES) if chance.random() < 0.5 else chance.randrange(256)
        data[_place(data, chance)] = byte


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_span(data, chance)]


def _end(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = _place(data, chance)
    data[place:place] = chance.randbytes(chance.choice((1, 4, 100)))


def _repeat(data: bytearray, chance: random.Random) -> None:
    span = _span(data, chance)
    data[span.stop : span.stop] = data[span] * chance.choice((1, 1, 2, 50))


def _swap(data: bytearray, chance: random.Random) -> None:
    one, other = _span(data, chance), _span(data, chance)
    data[one], data[other] = data[other], data[one]


def _resize(data: bytearray, chance: random.Random) -> None:
    form = chance.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    length = struct.calcsize(form)
    if len(data) < length:
        return
    begin = min(_place(data, chance), len(data) - length)
    (value,) = struct.unpack_from(form, data, begin)
    changed = chance.choice((chance.choice(_SIZES), value + 1, value - 1, value * 2, -value))
    struct.pack_into(form, data, begin, changed % 256**length)


def _renumber(data: bytearray, chance: random.Random) -> None:
    digits = [place for place, byte in enumerate(data) if 0x30 <= byte <= 0x39]
    if not digits:
        return
    begin = end = chance.choice(digits)
    while end < len(data) and 0x30 <= data[end] <= 0x39:
        end += 1
    data[begin:end] = chance.choice((*(b"%d" % size for size in _SIZES), *_NUMBERS))


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _set,
    _set,
    _cut,
    _end,
    _insert,
    _repeat,
    _swap,
    _resize,
    _resize,
    _renumber,
)
