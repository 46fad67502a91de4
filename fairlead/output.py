"""What commands print: data on stdout as a table, JSON or YAML; everything else on stderr.

Tables are plain columns that `awk` can read; a terminal gets a bold head (without `NO_COLOR`) and folded prose.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

_GAP = "  "
_NARROWEST = 24  # characters; prose in a narrower column is worse to read than lines that are too long


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

    Nothing is interpreted as markup: names and messages come from users and from Envoys. On a terminal the last column
    is folded where it would not fit; no name is ever broken, so that it can be copied.
    """
    cells = [[_printable(cell) for cell in row] for row in rows]
    if not cells:
        note(empty)
        return
    header = [column.upper() for column in columns]
    terminal = sys.stdout.isatty()
    first, *others = folded([header, *cells], width=shutil.get_terminal_size().columns if terminal else 0)
    if terminal and not os.environ.get("NO_COLOR"):
        first = f"\x1b[1m{first}\x1b[0m"
    sys.stdout.write("".join(f"{line}\n" for line in (first, *others)))


def folded(rows: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """Rows as lines, their cells in columns; the last one wrapped at spaces to stay within `width` (0: no limit).

    Where too little room is left for it, lines are longer than `width`.
    """
    indent = sum(max(map(len, column)) + len(_GAP) for column in list(zip(*rows, strict=True))[:-1])
    room = width - indent
    if room < _NARROWEST:
        return aligned(rows)
    lines: list[list[str]] = []
    for *cells, last in rows:
        first, *more = textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append([*cells, first])
        lines.extend([*([""] * len(cells)), part] for part in more)
    return aligned(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, their cells in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def plural(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _printable(text: str) -> str:
    """Without control characters: a hostile name must not drive the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
