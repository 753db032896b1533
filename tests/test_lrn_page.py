"""docs/lrn.md: its NumPy code agrees with the kernels, and lrn.cu has its C++."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.checks import floats, padded
from pyalexnet import ops

pytestmark = pytest.mark.host_only("reads a page")

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/lrn.md").read_text(encoding="utf-8")
SOURCE = (ROOT / "csrc/ops/lrn.cu").read_text(encoding="utf-8")
PARAMETERS = ("size", "k", "alpha", "beta", "groups")


def blocks(language: str) -> list[str]:
    """Returns the page's code blocks in a language; those in lists are indented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", PAGE, re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def unindented(code: str) -> str:
    return "".join(line.lstrip() for line in code.splitlines(keepends=True))


@pytest.fixture
def page() -> dict[str, Any]:
    """What the page's Python defines; its last block is the check by central differences."""
    names: dict[str, Any] = {}
    for code in blocks("python"):
        exec(code, names)
    return names


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"groups": 1},
        {"size": 3, "groups": 3, "beta": 0.6},
        {"size": 9, "k": 1.0, "alpha": 0.4},
        {"size": 1, "alpha": 0.4},
    ],
    ids=str,
)
def test_numpy_agrees_with_the_kernels(
    page: dict[str, Any], changes: dict[str, float], rng: np.random.Generator
) -> None:
    page.update(changes)
    how = {name: page[name] for name in PARAMETERS}
    x, dy = 50 * floats(rng, 12, 2, 3, 4), floats(rng, 12, 2, 3, 4)
    y = page["forward"](x.astype(float))
    dx = page["backward"](dy.astype(float), x.astype(float))
    np.testing.assert_allclose(ops.lrn_forward(padded(x), **how)[..., :4], y, rtol=1e-5)
    actual = ops.lrn_backward(padded(dy), padded(x), **how)[..., :4]
    np.testing.assert_allclose(actual, dx, rtol=1e-5, atol=1e-5 * np.abs(dx).max())


def test_the_check_would_detect_a_lost_term(page: dict[str, Any]) -> None:
    own = page["dy"] * page["forward"](page["x"]) / page["x"]
    assert np.abs(own - page["dx"]).max() > 0.1


def test_quoted_code_is_in_the_source() -> None:
    quoted = blocks("cpp")
    assert len(quoted) == PAGE.count("```cpp") > 0
    for piece in quoted:
        assert "\n" + unindented(piece) in unindented(SOURCE), piece


def test_named_tests_exist() -> None:
    tests = (ROOT / "tests/kernels/test_lrn.py").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert named
    for name in named:
        assert f"def {name}(" in tests, name
