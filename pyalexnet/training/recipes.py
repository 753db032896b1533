"""Recipes: named sets of options, from recipes.toml or the user's own file.

A recipe is a table of a TOML file. Its keys are pyalexnet-train's options without the leading
dashes, such as ``bias-lr``. Paths are relative to the working directory, as on the command line.
The run.toml of a run's folder is such a file.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from types import UnionType
from typing import Any

from pyalexnet.errors import UserError
from pyalexnet.nn import zoo
from pyalexnet.text import nearest
from pyalexnet.training.options import Options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The built-in recipes.
FILE = Path(__file__).with_name("recipes.toml")
_SUFFIX = ".toml"
_WORDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


class RecipeError(UserError):
    """A recipe that is missing or wrong; the message names the recipe and its file."""


def load(spec: str) -> dict[str, Any]:
    """Reads a recipe.

    Parameters
    ----------
    spec : str
        The name of a built-in recipe, "FILE.toml:NAME", or "FILE.toml" if the file has only one.

    Returns
    -------
    dict
        Values by the names of `Options`' fields.

    Raises
    ------
    RecipeError
        There is no such file or recipe, or a key or value is not an option's; the message names
        file, table and key.
    """
    place, colon, name = spec.rpartition(":")
    if not (colon and place.endswith(_SUFFIX)):
        place, name = (spec, "") if spec.endswith(_SUFFIX) else (str(FILE), spec)
    path = Path(place).expanduser()
    tables = _tables(path)
    if place == spec:  # no table is named
        if len(tables) != 1:
            raise RecipeError(f"{path}: has {_listed(tables)}; choose one by --recipe {place}:NAME")
        name = next(iter(tables))
    if name not in tables:
        also = "" if path != FILE else ", or a file: FILE.toml or FILE.toml:NAME"
        raise RecipeError(f"{path}: no recipe {name!r}; expected one of {_listed(tables)}{also}")
    return _options(f"{path}, recipe {name}", tables[name])


def text(options: dict[str, Any]) -> str:
    """The recipe "run" with these options, by the names of `Options`' fields, as TOML."""
    lines = [
        f"{name.replace('_', '-')} = {_toml(value)}"
        for name, value in options.items()
        if value is not None
    ]
    return "\n".join(["[run]", *lines]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def names() -> list[str]:
    """Names of the built-in recipes."""
    return list(_tables(FILE))


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise RecipeError(
                f"{path}: {key} is outside of any table; expected recipes only, such as [mine]"
            )
    return tables


def _options(where: str, table: dict[str, Any]) -> dict[str, Any]:
    """The options that a table gives, each checked by itself and all together."""
    kinds = typing.get_type_hints(Options)
    known = {field.name.replace("_", "-"): field.name for field in dataclasses.fields(Options)}
    options = {}
    for key, value in table.items():
        if key not in known:
            meant = nearest(key.replace("_", "-"), known)
            expected = meant or f"some of {', '.join(known)}"
            raise RecipeError(f"{where}: unknown key {key}; expected {expected}")
        options[known[key]] = _value(where, key, value, kinds[known[key]])
    try:
        Options(**options).check()
        if "net" in options:
            zoo.get(options["net"])
    except UserError as error:
        raise RecipeError(f"{where}: {error}") from error
    return options


def _value(where: str, key: str, value: Any, kind: Any) -> Any:
    """`value` if it is of the `kind`, one type or one or None; a whole number may be a float."""
    if isinstance(kind, UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise RecipeError(f"{where}: {key} is {value!r}; expected {_WORDS[kind]}")
    return value


def _listed(tables: dict[str, Any]) -> str:
    return ", ".join(tables) or "no recipes"
