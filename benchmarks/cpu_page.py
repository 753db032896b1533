"""Measures the tables of docs/cpu.md and writes them there.

    python benchmarks/cpu_page.py                              # all of them
    python benchmarks/cpu_page.py train-torchvision layers-paper
    python benchmarks/cpu_page.py --list

Each table has its commands, the commit's date, the machine and the versions; so parts of it may be
measured on different days.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cpu.md"


class Table(NamedTuple):
    """A table: a script of benchmarks/ and its options, one set for each part of the table."""

    script: str
    options: tuple[str, ...]


_INFER = "--net torchvision --what infer --runs 9"
TABLES = {
    "train-torchvision": Table("step.py", ("--net torchvision --runs 5",)),
    "train-paper": Table("step.py", ("--net paper --runs 3",)),
    "infer-torchvision": Table("step.py", tuple(f"{_INFER} --batch {n}" for n in (128, 16, 10, 1))),
    "layers-torchvision": Table("layers.py", ("--net torchvision --runs 3",)),
    "layers-paper": Table("layers.py", ("--net paper --runs 3",)),
    "accuracy": Table("winograd_accuracy.py", ("",)),
}


def measured(table: Table) -> str:
    """Runs the commands; returns the table with what it was measured by."""
    log = ["git", "-C", str(ROOT), "log", "-1", "--format=%cs (%h)"]
    parts, machine = [], ""
    for options in table.options:
        said, rows = _run(
            [sys.executable, str(ROOT / "benchmarks" / table.script), *options.split()]
        )
        machine = next(line for line in said if " threads; " in line)
        if rows:
            lines = [*markdown(rows), "", f"{said[-1][0].upper()}{said[-1][1:]}."]
        else:  # it prints Markdown itself
            lines = said[said.index("") + 1 :]
        command = f"python benchmarks/{table.script} {options}".rstrip()
        parts.append("\n".join([f"`{command}`:", "", *lines]))
    return "\n\n".join([f"{machine}; commit of {_output(log)}.", *parts])


def _run(command: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """The lines that a benchmark prints, and the rows of its CSV file if it can write one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.csv"
        can = "--csv" in _output([*command[:2], "--help"])
        said = _output([*command, f"--csv={path}"] if can else command).splitlines()
        if not can:
            return said, []
        with path.open(newline="") as file:
            return said, list(csv.DictReader(file))


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def markdown(rows: Sequence[dict[str, str]]) -> list[str]:
    """The lines of a table from those of a CSV file, the ratio's columns as one."""
    spread = ("ratio_low", "ratio_high")
    names = [name for name in rows[0] if name not in spread and name != "below_target"]
    lines = [f"| {' | '.join(map(_head, names))} |", f"|{'---|' * len(names)}"]
    for own in rows:
        cells = [_ratio(own) if name == "ratio" else own[name] for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _head(name: str) -> str:
    heads = {"images_per_second": "images/s", "gflops": "GFLOP/s", "gbps": "GB/s"}
    return heads.get(name, name.replace("peak_gb", "peak GB"))


def _ratio(own: dict[str, str]) -> str:
    if not own["ratio"] or own.get("library") == "pyalexnet":
        return ""
    median, low, high = (float(own[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    words = f"{median:.2f} ({low:.2f} to {high:.2f})"
    return f"{words} <" if own.get("below_target") else words


def renew(page: str, name: str, table: str) -> str:
    """The page with the table of this name."""
    pattern = rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)"
    renewed, count = re.subn(
        pattern, lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{PAGE.name} has {count} places for {name}; expected one")
    return renewed


def main() -> None:
    """Measures the tables that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="by default, all")
    parser.add_argument("--list", action="store_true", help="print the tables' names and commands")
    args = parser.parse_args()
    if unknown := set(args.tables) - TABLES.keys():
        parser.error(f"table is {sorted(unknown)[0]!r}; expected {', '.join(TABLES)}")
    for name, table in TABLES.items():
        if args.list:
            for options in table.options:
                print(f"{name}: python benchmarks/{table.script} {options}")
        elif not args.tables or name in args.tables:
            found = measured(table)  # minutes, in which another may write the page
            page = renew(PAGE.read_text(encoding="utf-8"), name, found)
            PAGE.write_text(page, encoding="utf-8")
            print(f"{name}: written", flush=True)


if __name__ == "__main__":
    main()
