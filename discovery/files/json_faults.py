"""Finds where in a JSON text a key stands twice or the nesting goes too deep, which Python's decoder does not tell.

Only for texts that were refused for one of the two: up to the fault they are JSON. One pass over the tokens, with an
explicit stack; it ends at the first fault, and wherever the text is no JSON after all.
"""

from __future__ import annotations

import json
import re

import msgspec

from mesh.problems import child

_TOKEN = re.compile(r'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s"\[\]{},:]+)', re.DOTALL)


class Fault(msgspec.Struct, frozen=True):
    """A place: the path of the key that is there twice or of what is too deep, that key (None: depth is the fault)."""

    path: str
    line: int
    key: str | None = None


class _Frame:
    """An open object or list: its path, the keys that it has so far, and what comes next in it."""

    __slots__ = ("path", "place", "seen")

    def __init__(self, path: str, seen: set[str] | None) -> None:
        self.path = path
        self.seen = seen  # None: a list
        self.place: str | int | None = None if seen is not None else 0  # None: a key comes next

    def below(self) -> str:
        return child(self.path, self.place) if self.place is not None else self.path


def find_fault(text: str, *, max_depth: int) -> Fault | None:
    """The first fault of a text, None where there is none."""
    stack: list[_Frame] = []
    position = 0
    while (token := _TOKEN.match(text, position)) is not None:
        word, position = token[1], token.end()
        frame = stack[-1] if stack else None
        if word in "{[":
            path = frame.below() if frame is not None else ""
            if len(stack) >= max_depth:
                return Fault(path, _line(text, token.start(1)))
            stack.append(_Frame(path, set() if word == "{" else None))
        elif frame is None:
            return None
        elif word in "}]":
            stack.pop()
        elif word == ",":
            frame.place = frame.place + 1 if isinstance(frame.place, int) else None
        elif frame.seen is not None and frame.place is None and word[0] == '"':
            key = _text(word)
            if key in frame.seen:
                return Fault(child(frame.path, key), _line(text, token.start(1)), key)
            frame.seen.add(key)
            frame.place = key
    return None


def _text(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError:
        return word


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
