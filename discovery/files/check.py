"""Judges a text: reads its documents, validates each, and puts the file and the line to every problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec

from discovery.files.yaml_documents import documents, line_of, lines
from mesh.kinds import KINDS
from mesh.kinds.meta import Object
from mesh.model import ObjectKey
from mesh.problems import Problem, child
from mesh.validation import DEFAULT_NAMESPACE, validate

MAX_PROBLEMS = 1_000


class Located(msgspec.Struct, frozen=True):
    """One config object of a text, judged.

    `object` is None where it has errors; `key` then is the object that was meant, as far as that can be told.
    """

    key: ObjectKey | None
    object: Object | None
    line: int
    problems: tuple[Problem, ...] = ()


class Text(msgspec.Struct, frozen=True):
    """What a text says: its objects in order, and the problem that kept it from being read to its end."""

    objects: tuple[Located, ...]
    unreadable: Problem | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, as they come in the text."""
        found = [problem for located in self.objects for problem in located.problems]
        return (*found, self.unreadable) if self.unreadable is not None else tuple(found)


def check(text: str, file: str = "") -> Text:
    """Judge every object of a YAML or (by the file's name) JSON text. Never raises.

    A `List` as kubectl prints it counts as its items. Two objects of one key in a text are an error on the second.
    """
    read = documents(text, file)
    places = _Places(text, file)
    found: list[Located] = []
    seen: dict[ObjectKey, int] = {}
    count = 0
    for number, document in enumerate(read.documents):
        for raw, prefix in _items(document.value):
            located = _judged(raw, seen)
            if located.problems or prefix:
                located = places.located(located, number, prefix, document.line)
            else:
                located = msgspec.structs.replace(located, line=document.line)
            count += len(located.problems)
            if count > MAX_PROBLEMS:
                message = f"it has more than {MAX_PROBLEMS} problems; from here on nothing of it was judged"
                many = Problem("TooManyProblems", "error", "", message, "mend the first", file, located.line)
                return Text(tuple(found), many)
            if located.key is not None:
                seen.setdefault(located.key, located.line)
            found.append(located)
    return Text(tuple(found), read.problem)


def _judged(raw: Any, seen: Mapping[ObjectKey, int]) -> Located:
    """One object, not yet placed; `seen` has the lines of those before it."""
    checked = validate(raw)
    key = _key(raw)
    if key is None or key not in seen or checked.object is None:
        return Located(key, checked.object, 0, checked.problems)
    message = f"{key} is declared twice, first in line {seen[key]}; that one stands"
    twice = Problem("DuplicateObject", "error", "", message, "keep one of them")
    return Located(key, None, 0, (*checked.problems, twice))


class _Places:
    """The lines of a text, found when first asked for."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file

    @cached_property
    def lines(self) -> tuple[dict[str, int], ...]:
        return lines(self.text)

    def located(self, found: Located, document: int, prefix: str, begin: int) -> Located:
        """The same with lines; `prefix` is the object's path in its document, which begins in the line `begin`."""
        paths = self.lines[document] if document < len(self.lines) else {}
        line = line_of(prefix, paths, begin)
        problems = []
        for problem in found.problems:
            path = f"{prefix}.{problem.path}" if prefix and problem.path else prefix or problem.path
            at = line_of(path, paths, line)
            problems.append(msgspec.structs.replace(problem, path=path, file=self.file, line=at))
        return Located(found.key, found.object, line, tuple(sorted(problems, key=lambda problem: problem.line)))


def _items(value: Any) -> Iterator[tuple[Any, str]]:
    """The objects of a document, each with its path in the document."""
    is_list = isinstance(value, dict) and isinstance(value.get("kind"), str) and value["kind"] not in KINDS
    if is_list and value["kind"].endswith("List") and isinstance(value.get("items"), list):
        for number, item in enumerate(value["items"]):
            yield item, child("items", number)
    else:
        yield value, ""


def _key(raw: Any) -> ObjectKey | None:
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    kind = KINDS.get(raw["kind"]) if isinstance(metadata, dict) and isinstance(raw.get("kind"), str) else None
    if kind is None or not isinstance(metadata, dict):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace") or (DEFAULT_NAMESPACE if kind.namespaced else "")
    if not isinstance(name, str) or not isinstance(namespace, str):
        return None
    return ObjectKey(kind.name, namespace if kind.namespaced else "", name)
