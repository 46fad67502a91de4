"""What commands print: data on stdout as a table, JSON or YAML; everything else on stderr.

Colours and boxes only on a terminal (rich honours `NO_COLOR`); off one, tables are plain columns that `awk` can read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer


class Format(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print: table, json or yaml.")]


def note(message: str) -> None:
    """Say something that is not data."""
    sys.stderr.write(message + "\n")


def say(message: str) -> None:
    """Print a line of data."""
    sys.stdout.write(message + "\n")


def emit(data: Any, *, output: Format, table: Callable[[], None]) -> None:
    """Print JSON-like data in the chosen format; `table` prints it for people."""
    if output is Format.json:
        say(json.dumps(data, indent=2, ensure_ascii=False))
    elif output is Format.yaml:
        sys.stdout.write(to_yaml(data))
    else:
        table()


def to_yaml(data: Any) -> str:
    """YAML as people write it: block style, keys in the order given, no anchors."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
            return True

    return str(yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Columns for people; with no rows, `empty` as a note instead.

    Nothing is interpreted as markup: names and messages come from users and from Envoys.
    """
    cells = [[_printable(cell) for cell in row] for row in rows]
    if not cells:
        note(empty)
    elif sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in aligned([[column.upper() for column in columns], *cells])))


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, their cells in columns."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _printable(text: str) -> str:
    """Without control characters: a hostile name must not drive the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
