"""What is wrong with something a user wrote: where, why, and how to mend it.

One value serves files, REST, the command line and webhooks; paths are written as in `spec.rules[2].matches[0].path`.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Level = Literal["error", "warning"]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Problem(msgspec.Struct, frozen=True):
    """One finding. An error keeps the object out; a warning does not. `line` counts from 1; 0 means unknown.

    `code` is stable and CamelCase, for machines; `message` and `fix` are sentences for people.
    """

    code: str
    level: Level
    path: str
    message: str
    fix: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """As people read it: `file:line: error [code] path: message. Fix: …`, without what is not known."""
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        path = f" {self.path}:" if self.path else ""
        fix = f" Fix: {sentence(self.fix)}" if self.fix else ""
        return f"{where}{self.level} [{self.code}]{path} {sentence(self.message)}{fix}"


class Report:
    """Collects the problems of one object while its checks run."""

    __slots__ = ("problems",)

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def error(self, code: str, path: str, message: str, fix: str) -> None:
        """Add what keeps the object out."""
        self.problems.append(Problem(code, "error", path, message, fix))

    def warning(self, code: str, path: str, message: str, fix: str) -> None:
        """Add what the user should know but what does not keep the object out."""
        self.problems.append(Problem(code, "warning", path, message, fix))


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends as a sentence does already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def child(path: str, key: str | int) -> str:
    """The path of a field (by name) or an item (by number) below `path`; unusual names are quoted."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _PLAIN_KEY.fullmatch(key):
        return f'{path}["{shown(key)}"]'
    return f"{path}.{key}" if path else key


def camel(name: str) -> str:
    """A field's name as users write it: `initial_jitter` is `initialJitter`."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def shown(text: str, limit: int = 60) -> str:
    """A user's text fit for a message: control characters escaped, long ones cut."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
