"""docs/nets.md, whose tables follow from the code; docs/architecture.md, whose files exist."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from pyalexnet.nn.layers import Add, Layer
from pyalexnet.nn.net import Net

pytestmark = pytest.mark.host_only("reads pages")

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("nets_page", ROOT / "docs/nets_page.py")
assert spec and spec.loader
nets_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(nets_page)

PAGE = nets_page.PAGE.read_text(encoding="utf-8")


def test_the_tables_are_up_to_date():
    assert nets_page.renew(PAGE) == PAGE, "run: python docs/nets_page.py"


def test_an_outdated_table_is_made_anew():
    outdated = PAGE.replace("| `0.75` |", "| `0.5` |")
    assert outdated != PAGE
    assert nets_page.renew(outdated) == PAGE


def test_the_examples_are_nets():
    nets = [Net.from_json(example) for example in nets_page.examples(PAGE)]
    assert nets
    assert any(isinstance(layer, Add) for layer in nets[0].layers)
    assert any(len(sources) > 1 for sources in nets[0].sources)


def test_a_key_without_a_meaning_is_an_error():
    @dataclasses.dataclass(frozen=True)
    class Scale(Layer):
        """Multiplies by a factor."""

        factor: float = 1.0

    assert nets_page.meaning(Scale, "inputs")
    with pytest.raises(LookupError, match=r"Scale\.factor has no meaning"):
        nets_page.meaning(Scale, "factor")


def test_meanings_come_from_the_attributes_section():
    class Example:
        """First line.

        Attributes
        ----------
        stride, pad : int
            In pixels,
            for both.
        kind : {"", "relu"}
        std : float or None
            None is a default.

        Raises
        ------
        NetError
            Never.
        """

    both = "In pixels, for both."
    expected = {"stride": both, "pad": both, "std": "None is a default."}
    assert nets_page.attributes(Example) == expected
    assert nets_page.text(Example) == "First line."


def test_architecture_names_files_that_exist():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|pyi|cu|cuh|cpp|hpp|toml|md))`", page))
    named |= {f"docs/{link}" for link in re.findall(r"\]\(([\w.-]+)\)", page)}
    assert len(named) > 20
    places = (ROOT, ROOT / "pyalexnet", ROOT / "csrc")
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert not missing
