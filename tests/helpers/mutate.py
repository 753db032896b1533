"""Changed copies of files, for parsers to refuse, and limits under which they are parsed.

PYALEXNET_CAMPAIGN=N takes N copies of each file instead of a few.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from pyalexnet.errors import UserError

_WANTED = os.environ.get("PYALEXNET_CAMPAIGN", "")
COUNT = int(_WANTED) if _WANTED.isdecimal() else 150
_SECONDS = 10  # that a parser may take, also on a busy machine
_BYTES = 1 << 30  # of memory that it may take

_NUMBERS = [0, 1, 7, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_NUMBERS += [0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 2**64 - 512]
_TEXTS = [
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"9" * 30,
    b"\xff",
    b"[" * 99,
]


def mutations(data: bytes, seed: int, count: int = COUNT) -> Iterator[bytes]:
    """Yields changed copies of a file: bits, numbers, texts, and parts cut, doubled or moved."""
    draw = random.Random(seed)
    changes = [_bits, _number, _text, _cut, _cut_out, _doubled, _moved, _zeroed]
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            draw.choice(changes)(changed, draw)
        yield bytes(changed)


def _bits(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice([1, 1, 2, 8])):
        if data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _number(data: bytearray, draw: random.Random) -> None:
    value, size = draw.choice(_NUMBERS), draw.choice([1, 2, 4, 8])
    content = struct.pack(draw.choice("<>") + "Q", value)
    at = draw.randrange(len(data) + 1)
    data[at : at + size] = content[:size] if draw.random() < 0.5 else content[8 - size :]


def _text(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at : at + draw.randrange(9)] = draw.choice(_TEXTS)


def _part(data: bytearray, draw: random.Random) -> slice:
    begin = draw.randrange(len(data) + 1)
    return slice(begin, begin + draw.choice([1, 4, 8, 64, 512, 2048]))


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data) + 1) :]


def _cut_out(data: bytearray, draw: random.Random) -> None:
    del data[_part(data, draw)]


def _doubled(data: bytearray, draw: random.Random) -> None:
    part = _part(data, draw)
    data[part.start : part.start] = data[part] * draw.choice([1, 1, 5])


def _moved(data: bytearray, draw: random.Random) -> None:
    content = data[_part(data, draw)]
    at = draw.randrange(len(data) + 1)
    data[at : at + len(content)] = content


def _zeroed(data: bytearray, draw: random.Random) -> None:
    part = _part(data, draw)
    data[part] = bytes(len(data[part]))


_DEEP: Any = json.loads('{"a":[' * 25 + "]}" * 25)
_VALUES: list[Any] = [None, True, False, -1, 0, 1, 2, 2**31, 2**63, 2**70, 0.5, 1e-50, 1e308]
_VALUES += ["", "x", "x" * 1000, "a\nb\x1b[31m", "\ud800", [], {}, [[]], [1], {"a": 1}, _DEEP]


def changed_values(whole: Any, seed: int, count: int = COUNT) -> Iterator[Any]:
    """Yields copies of a JSON value with a few values in it replaced, doubled, added or removed."""
    draw = random.Random(seed)
    for _ in range(count):
        root = {"root": deepcopy(whole)}
        for _ in range(draw.choice([1, 1, 1, 1, 2, 3])):
            parent, key = draw.choice(list(_places(root)))
            change = draw.random()
            other = draw.choice(list(_places(root)))
            if change < 0.6:
                parent[key] = deepcopy(draw.choice(_VALUES))
            elif change < 0.7 and parent is not root:
                del parent[key]
            elif change < 0.8:
                parent[key] = deepcopy(other[0][other[1]])  # a value of another place
            elif isinstance(parent, list):
                parent.insert(key, deepcopy(draw.choice([parent[key], *_VALUES])))
            elif parent is not root:
                parent[draw.choice(["", "x", "root", *parent])] = deepcopy(draw.choice(_VALUES))
        yield root["root"]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields each list or dict within a value with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def survives(parse: Callable[[Any], object], files: Iterator[Any]) -> tuple[int, int]:
    """Parses files, or values, under limits; returns how many were taken and refused.

    The limits are on time and memory. An error other than the package's own fails the test, and so
    does a parser that takes too long.
    """
    taken, refused = 0, 0
    with limits():
        for number, content in enumerate(files):
            signal.alarm(_SECONDS)
            try:
                parse(content)
                taken += 1
            except UserError as error:
                assert str(error).count("\n") == 0, f"copy {number}: {error}"
                refused += 1
            except BaseException as error:
                raise AssertionError(f"copy {number}: {content!r:.400}…") from error
    return taken, refused


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Limits the memory that this process may take within the block, and prepares the alarm."""

    def end(*_: object) -> None:
        raise TimeoutError(f"takes more than {_SECONDS} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, end)
    resource.setrlimit(resource.RLIMIT_AS, (used + _BYTES, before[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
