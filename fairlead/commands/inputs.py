"""Objects from files, folders and stdin, judged before anything is done with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from discovery.files.check import Located, check
from fairlead.errors import CommandError, oserror_words
from fairlead.output import note, plural
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024

FilesOption = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE|DIR|-", help="YAML or JSON; a folder: all in it; -: stdin."),
]


def read(paths: Sequence[str]) -> tuple[list[Located], list[Problem]]:
    """All objects of the files, in order, and everything that is wrong: with them, and with the files themselves.

    What cannot be read, holds nothing, or declares an object again is a problem like any other; the rest is judged.
    """
    found: list[Located] = []
    problems: list[Problem] = []
    first: dict[ObjectKey, str] = {}
    for path in _files(paths):
        file, text = "stdin" if path == STDIN else path, _text(path)
        if isinstance(text, Problem):
            problems.append(text)
            continue
        judged = check(text, file)
        problems.extend(judged.problems)
        for located in judged.objects:
            place = f"{file}:{located.line}"
            if located.key is not None and first.setdefault(located.key, place) != place and located.object is not None:
                problems.append(_twice(located, file, first[located.key]))
            found.append(located)
    if not found and not problems:
        message = f"there are no objects in {', '.join(paths)}"
        problems.append(Problem("NoObjects", "error", "", message, "name a file with at least one object"))
    return found, problems


def read_valid(paths: Sequence[str]) -> list[Object]:
    """All objects of the files; warnings are noted.

    Raises:
        CommandError: there is an error among them, or nothing at all; nothing was done then.
    """
    found, problems = read(paths)
    for problem in problems:
        note(str(problem))
    errors = sum(problem.level == "error" for problem in problems)
    if errors:
        raise CommandError(f"{plural(errors, 'error')} above; nothing was done")
    return [located.object for located in found if located.object is not None]


def _twice(located: Located, file: str, first: str) -> Problem:
    message = f"{located.key} is declared twice, first in {first}"
    return Problem("DuplicateObject", "error", "", message, "keep one of them", file, located.line)


def _files(paths: Sequence[str]) -> Iterator[str]:
    """The files that are meant: a folder's, sorted by name."""
    for path in paths:
        if path != STDIN and os.path.isdir(path):  # unlike Path.is_dir, False where it may not be looked at
            inside = (file for file in Path(path).rglob("*") if file.suffix in SUFFIXES and file.is_file())
            yield from map(str, sorted(inside))
        else:
            yield path


def _text(path: str) -> str | Problem:
    """What a file holds, or why it cannot be used."""
    file = "stdin" if path == STDIN else path
    try:
        if path == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as opened:
                raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        fix = "name a file that exists and that you may read, a folder, or - for stdin"
        return Problem("Unreadable", "error", "", oserror_words(error), fix, file)
    if len(raw) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES // 1024 // 1024} MiB"
        return Problem("TooLarge", "error", "", message, "split it", file)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 (at byte {error.start})"
        return Problem("NotUTF8", "error", "", message, "save it as UTF-8", file)
