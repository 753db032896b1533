"""Recipes: named sets of options, from recipes.toml or the user's own file.

A recipe is a table of a TOML file. Its keys are pyalexnet-train's options without the leading
dashes, such as ``bias-lr``. Paths are relative to the working directory, as on the command line.
The run.toml of a run's folder is such a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyalexnet.errors import UserError
from pyalexnet.files import expanded, read_toml
from pyalexnet.nn import zoo
from pyalexnet.text import nearest, printable, shortened
from pyalexnet.training.options import NAMES, Options, typed

#: The built-in recipes.
FILE = Path(__file__).with_name("recipes.toml")
_SUFFIX = ".toml"
_WIDTH = 300  # of what messages show of a file


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
    path = expanded(place)
    tables = _tables(path)
    if place == spec:  # no table is named
        if len(tables) != 1:
            raise RecipeError(f"{path}: has {_listed(tables)}; choose one by --recipe {place}:NAME")
        name = next(iter(tables))
    if name not in tables:
        also = "" if path != FILE else ", or a file: FILE.toml or FILE.toml:NAME"
        raise RecipeError(
            f"{path}: no recipe '{_key(name)}'; expected one of {_listed(tables)}{also}"
        )
    return options(f"{path}, recipe {_key(name)}", tables[name])


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
    tables = read_toml(path, RecipeError)
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise RecipeError(
                f"{path}: {_key(key)} is outside of any table; expected recipes only, such as "
                "[mine]"
            )
    return tables


def options(where: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a table gives, each checked by itself and all together.

    Parameters
    ----------
    where : str
        Names the table in errors.
    table : mapping
        By the options' names without the leading dashes.

    Returns
    -------
    dict
        Values by the names of `Options`' fields.

    Raises
    ------
    RecipeError
        A key or value is not an option's.
    """
    known = {name.replace("_", "-"): name for name in NAMES}
    found = {}
    for key, value in table.items():
        if key not in known:
            meant = nearest(key.replace("_", "-"), known)
            expected = meant or f"some of {', '.join(known)}"
            raise RecipeError(f"{where}: unknown key {_key(key)}; expected {expected}")
        found[known[key]] = value
    try:
        found = {name: typed(name, value) for name, value in found.items()}
        Options(**found).check()
        if "net" in found:
            zoo.get(found["net"])
    except UserError as error:
        raise RecipeError(f"{where}: {error}") from error
    return found


def _listed(tables: dict[str, Any]) -> str:
    return shortened(", ".join(map(_key, tables)), _WIDTH) or "no recipes"


def _key(key: str) -> str:
    return shortened(printable(key), _WIDTH)
