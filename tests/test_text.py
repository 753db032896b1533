from __future__ import annotations

import pytest

from pyalexnet.text import cell, printable

pytestmark = pytest.mark.host_only("computes nothing")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("é ü.JPEG", "é ü.JPEG"),
        ("a\x1b[2J\nb", "a\\x1b[2J\\nb"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\x85b\u2028c\u200bd\x7f", "a\\x85b\\u2028c\\u200bd\\x7f"),
    ],
)
def test_printable(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown
    shown.encode()


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_cells_are_no_formulas(name: str) -> None:
    assert cell(name) == "'" + printable(name)


def test_other_cells_are_as_they_are() -> None:
    assert cell("n01440764 tench, Tinca tinca") == "n01440764 tench, Tinca tinca"
    assert cell("a=b") == "a=b"
    assert cell("") == ""
