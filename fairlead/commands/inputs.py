"""Objects from files, folders and stdin, judged before anything is done with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from discovery.files.check import Located, check
from fairlead.errors import CommandError, UsageError, oserror_words
from fairlead.output import note
from mesh.kinds.meta import Object
from mesh.problems import Problem

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 * 1024 * 1024

FilesOption = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE|DIR|-", help="YAML or JSON; a folder: all in it; -: stdin."),
]


def read(paths: Sequence[str]) -> tuple[list[Located], list[Problem]]:
    """All objects of the files, in order, and everything that is wrong with them.

    Raises:
        CommandError: something cannot be read at all.
    """
    found: list[Located] = []
    problems: list[Problem] = []
    for name, text in _texts(paths):
        judged = check(text, name)
        found.extend(judged.objects)
        problems.extend(judged.problems)
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
        raise CommandError(f"{errors} {'error' if errors == 1 else 'errors'} above; nothing was done")
    objects = [located.object for located in found if located.object is not None]
    if not objects:
        raise CommandError(f"there are no objects in {', '.join(paths)}")
    return objects


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == "-":
            yield "stdin", _decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "stdin")
        elif Path(path).is_dir():
            files = sorted(file for file in Path(path).rglob("*") if file.suffix in SUFFIXES and file.is_file())
            if not files:
                raise UsageError(f"{path}: there is no {', '.join(SUFFIXES)} file in this folder")
            for file in files:
                yield str(file), _content(file)
        else:
            yield path, _content(Path(path))


def _content(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return _decoded(opened.read(MAX_BYTES + 1), str(file))
    except OSError as error:
        raise CommandError(f"{file}: {oserror_words(error)}") from None


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) > MAX_BYTES:
        raise CommandError(f"{name}: larger than {MAX_BYTES // 1024 // 1024} MiB. Fix: split it")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}: not UTF-8 (at byte {error.start})") from None
