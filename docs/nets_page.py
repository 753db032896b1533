"""Writes the tables of docs/nets.md, which follow from the code.

    python docs/nets_page.py

A table stands between the lines ``<!-- generated: NAME -->`` and ``<!-- end -->``; the text around
it is written by hand. Keys, types and defaults are those of the dataclasses, their meanings those
of the docstrings' Attributes sections. tests/nn/test_nets_page.py checks that the page is up to
date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pyalexnet.nn import zoo
from pyalexnet.nn.layers import KINDS, Conv, Layer
from pyalexnet.nn.layers.base import ACTIVATIONS
from pyalexnet.nn.net import Net
from pyalexnet.nn.normalization import Normalization

PAGE = Path(__file__).with_name("nets.md")

#: Keys that mean the same wherever they are, and that Conv's docstring explains.
_SHARED = ("activation", "bias", "std")
_NAMES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_HEAD = ("Key", "Type", "Default", "Meaning")


def attributes(kind: type) -> dict[str, str]:
    """The entries of the Attributes section of a class's docstring: names and their meanings."""
    _, _, section = (inspect.getdoc(kind) or "").partition("\nAttributes\n----------\n")
    section = re.split(r"\n\n.*\n---", section)[0]
    entries: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names = line.split(" : ")[0].split(", ")
        for name in names if line.startswith(" ") else ():
            entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
    return entries


def text(kind: type) -> str:
    """A class's docstring without its sections, a paragraph a line."""
    body = re.split(r"\n\n.*\n---", inspect.getdoc(kind) or "")[0]
    return "\n\n".join(" ".join(part.split()) for part in body.split("\n\n"))


def meaning(kind: type, key: str) -> str:
    """What a key means; raises LookupError where no docstring says it."""
    for owner in (*kind.__mro__, *([Conv] if key in _SHARED else [])):
        found = attributes(owner).get(key)
        if found:
            return re.sub(r"\bNone\b", "`null`", found)
    raise LookupError(f"{kind.__name__}.{key} has no meaning; expected an entry in Attributes")


def json_type(hint: Any) -> str:
    """A type hint in JSON's words."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(json_type, arguments))
    if get_origin(hint) is tuple:
        count = "" if arguments[-1] is ... else f"{len(arguments)} "
        return f"list of {count}{json_type(arguments[0])}s"
    return _NAMES.get(hint, "object")


def default(field: dataclasses.Field[Any]) -> str:
    """A field's default as JSON, or "required"."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return f"`{json.dumps(value)}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; columns of numbers are named with a trailing colon."""
    names = list(head)
    rules = ["---:" if name.endswith(":") else "---" for name in names]
    cells = [[name.rstrip(":") for name in names], rules, *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def rows_of(kind: type, leave_out: Iterable[str] = ()) -> list[list[str]]:
    """A row for each field of a dataclass."""
    hints, rows = get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        if field.name in leave_out:
            continue
        shown = json_type(hints[field.name])
        if field.name == "activation":
            shown = ", ".join(f"`{json.dumps(value)}`" for value in ACTIVATIONS)
        rows.append([f"`{field.name}`", shown, default(field), meaning(kind, field.name)])
    return rows


def net_table() -> str:
    """A net's own keys."""
    rows = rows_of(Net, leave_out=["loss"])  # JSON has no key for it, as there is one kind
    last = {"layer": "Linear", "features": 1, "activation": ""}
    unnamed = Net.from_json(json.dumps({"input": [1, 1, 1], "layers": [last]}))
    rows[0][2] = f"`{json.dumps(unnamed.name)}`"
    return table(_HEAD, rows)


def common_table() -> str:
    """The keys that every layer has."""
    kinds = ", ".join(f"`{json.dumps(kind)}`" for kind in KINDS)
    return table(_HEAD, [["`layer`", "string", "required", f"{kinds}."], *rows_of(Layer)])


def layer_sections() -> str:
    """A section for each layer."""
    common = {field.name for field in dataclasses.fields(Layer)}
    sections = []
    for name, kind in KINDS.items():
        rows = rows_of(kind, leave_out=common)
        keys = table(_HEAD, rows) if rows else "No keys of its own."
        called = f"Default name: `{kind.prefix}` and a number."
        sections.append(f"### {name}\n\n{text(kind)}\n\n{called}\n\n{keys}")
    return "\n\n".join(sections)


def zoo_table() -> str:
    """The nets that come along."""
    rows = []
    for name in zoo.NAMES:
        net, made_by = zoo.get(name), getattr(zoo, name.replace("-", "_"))
        what = (inspect.getdoc(made_by) or "").splitlines()[0].partition(";")[0].rstrip(".")
        parameters = sum(parameter.size for parameter in net.parameters().values())
        macs = sum(layer.macs(*net.input_shapes(i)) for i, layer in enumerate(net.layers))
        numbers = f"{net.classes:,}", f"{parameters:,}", f"{2 * macs / 1e6:,.1f}"
        rows.append([f"`{name}`", what, _by(net.input), *numbers])
    return table(("Name", "Net", "Input", "Classes:", "Parameters:", "MFLOP forward:"), rows)


def example_table(page: str) -> str:
    """The layers of the page's first example: what they are called, what they read and give."""
    net = Net.from_json(examples(page)[0])
    values = ("input", *net.names)
    rows = [
        [
            f"`{name}`",
            type(layer).__name__,
            ", ".join(f"`{values[source]}`" for source in sources),
            _by(shape),
        ]
        for name, layer, sources, shape in zip(
            net.names, net.layers, net.sources, net.shapes()[1:], strict=True
        )
    ]
    return table(("Name", "Layer", "Reads", "Output"), rows)


def examples(page: str) -> list[str]:
    """The nets in JSON on a page."""
    return re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def renew(page: str) -> str:
    """The page with all tables made anew."""
    made: dict[str, Callable[[], str]] = {
        "net": net_table,
        "normalization": lambda: table(_HEAD, rows_of(Normalization)),
        "common": common_table,
        "layers": layer_sections,
        "zoo": zoo_table,
        "example": lambda: example_table(page),
    }

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{made[match[2]]()}\n\n<!-- end -->"

    pattern = r"(<!-- generated: (\w+) -->)\n.*?<!-- end -->"
    return re.sub(pattern, block, page, flags=re.DOTALL)


def _by(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
