"""Text to values: the documents of a YAML or JSON text, strictly, with bounds, and with the line of every field.

Works on libyaml's events, with an explicit stack: no recursion, no arbitrary tags, duplicate keys refused, depth and
the growth by aliases bounded. Lines are found by a second pass, which only a text with problems needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import yaml

from discovery.files.json_faults import find_fault
from discovery.files.yaml_scalars import Scalar, plain
from mesh.problems import Problem, child, shown

MAX_DEPTH = 64
MAX_DOCUMENTS = 100_000
# A few times what 5,000 services of ten endpoints take; reading as many takes some ten seconds.
MAX_EVENTS = 3_000_000
# Nodes that aliases may add: ten levels of ten aliases each would be ten thousand million.
MAX_ALIASED_NODES = 200_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MERGE = object()
_KEEP_ONE = "keep one of them"
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"
_FLATTER = "write it flatter"


class Document(msgspec.Struct, frozen=True):
    """One document: its value in JSON's types, and the line where it begins."""

    value: Any
    line: int


class Documents(msgspec.Struct, frozen=True):
    """All documents of a text, or, where it cannot be read to its end, a problem and the documents before it."""

    documents: tuple[Document, ...]
    problem: Problem | None = None


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, fix: str, mark: Any, path: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(code, "error", path, message, fix, line=mark.line + 1)


class _TwiceError(ValueError):
    """A key of a JSON object is there twice."""


def documents(text: str, file: str = "") -> Documents:
    """Read a text: as JSON where `file` ends in `.json`, else as YAML. Never raises; empty documents are left out."""
    if file.endswith(".json"):
        return _json(text, file)
    found: list[Document] = []
    try:
        for value, line, _ in _read(text, record=False):
            if value is not None:
                found.append(Document(value, line))
    except _RefusedError as refused:
        return Documents(tuple(found), msgspec.structs.replace(refused.problem, file=file))
    except yaml.YAMLError as error:
        return Documents(tuple(found), _syntax_problem(error, text, file))
    return Documents(tuple(found))


def lines(text: str) -> tuple[dict[str, int], ...]:
    """For each document that `documents` gives, the line of each path. Slow; for texts in which something is wrong.

    Of JSON that YAML cannot read, and of a text that cannot be read to its end, what was found before the fault.
    """
    found: list[dict[str, int]] = []
    try:
        for value, _, paths in _read(text, record=True):
            if value is not None:
                found.append(paths)
    except (_RefusedError, yaml.YAMLError):
        pass
    return tuple(found)


def line_of(path: str, paths: dict[str, int], default: int) -> int:
    """The line of a path, or of the nearest thing around it that is there."""
    while path:
        if path in paths:
            return paths[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return default


def _read(text: str, *, record: bool) -> Iterator[tuple[Any, int, dict[str, int]]]:
    loader = _LOADER(text)
    try:
        builder = _Builder(record=record)
        count = events = 0
        while True:
            event = loader.get_event()
            events += 1
            if events > MAX_EVENTS:
                message = f"it has more than {MAX_EVENTS} values"
                raise _RefusedError("TooLarge", message, "split the file", event.start_mark)
            kind = type(event)
            if kind is yaml.ScalarEvent:
                builder.take_scalar(event)
            elif kind is yaml.DocumentEndEvent:
                count += 1
                if count > MAX_DOCUMENTS:
                    message = f"there are more than {MAX_DOCUMENTS} documents"
                    raise _RefusedError("TooLarge", message, "split the file", event.start_mark)
                yield builder.value, builder.line, builder.paths
                builder = _Builder(record=record)
            elif kind is yaml.StreamEndEvent:
                return
            else:
                builder.take(event)
    finally:
        loader.dispose()


class _Frame:
    """A collection under construction. `key` is the pending key of a map; `nodes` counts what it holds, itself too."""

    __slots__ = ("anchor", "container", "has_key", "key", "merges", "nodes", "path", "seen")

    def __init__(self, container: dict[Any, Any] | list[Any], anchor: str | None, path: str) -> None:
        self.container = container
        self.anchor = anchor
        self.path = path
        self.key: Any = None
        self.has_key = False
        self.seen: set[str] = set()
        self.merges: list[Any] = []
        self.nodes = 1


class _Builder:
    """Builds one document from its events."""

    def __init__(self, *, record: bool) -> None:
        self.value: Any = None
        self.line = 0
        self.paths: dict[str, int] = {}
        self.record = record
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.aliased = 0

    def take(self, event: Any) -> None:
        """Take any event of the document but a scalar; the events around documents mean nothing to it."""
        kind = type(event)
        if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self.line = self.line or event.start_mark.line + 1
            self.open(event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self.close(event)
        elif kind is yaml.AliasEvent:
            self.take_alias(event)

    def take_scalar(self, event: Any) -> None:
        """Take what most events are: a key or a plain value."""
        if not self.stack:
            self.line = event.start_mark.line + 1
        else:
            frame = self.stack[-1]
            if not frame.has_key and type(frame.container) is dict:
                self.take_key(frame, event)
                return
        value = _scalar(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        self.add(value, 1, event)

    def take_key(self, frame: _Frame, event: Any) -> None:
        text = event.value
        if text in frame.seen:
            path = child(_path(self.stack), str(text))
            raise _RefusedError("DuplicateKey", _twice(text), _KEEP_ONE, event.start_mark, path)
        frame.seen.add(text)
        frame.key = _MERGE if text == "<<" and event.implicit[0] else _scalar(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = (frame.key, 1)
        frame.has_key = True
        if self.record:
            self.paths[child(frame.path, str(text))] = event.start_mark.line + 1

    def open(self, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            path = _path([*self.stack, _Frame([], None, "")])
            raise _RefusedError("TooDeep", _TOO_DEEP, _FLATTER, event.start_mark, path)
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag is not None and event.tag != _TAG + ("map" if mapping else "seq"):
            raise _unknown_tag(event)
        frame = self.stack[-1] if self.stack else None
        path = ""
        if frame is not None:
            _refuse_complex_key(frame, event)
            if self.record:
                path = self.path_of_next(frame, event)
        self.stack.append(_Frame({} if mapping else [], event.anchor, path))

    def path_of_next(self, frame: _Frame, event: Any) -> str:
        if isinstance(frame.container, list):
            path = child(frame.path, len(frame.container))
            self.paths[path] = event.start_mark.line + 1
            return path
        return frame.path if frame.key is _MERGE else child(frame.path, str(frame.key))

    def close(self, event: Any) -> None:
        frame = self.stack.pop()
        if isinstance(frame.container, dict):
            for merged in frame.merges:
                for key, value in merged.items():
                    frame.container.setdefault(key, value)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = (frame.container, frame.nodes)
        self.add(frame.container, frame.nodes, event)

    def take_alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            message = f"there is no anchor `&{shown(event.anchor)}` before this alias"
            raise _RefusedError("UnknownAnchor", message, "define the anchor first", event.start_mark)
        value, nodes = self.anchors[event.anchor]
        self.aliased += nodes
        if self.aliased > MAX_ALIASED_NODES:
            message = f"its aliases expand to more than {MAX_ALIASED_NODES} values"
            raise _RefusedError("TooLarge", message, "write it without aliases of aliases", event.start_mark)
        if self.stack and not self.stack[-1].has_key:
            _refuse_complex_key(self.stack[-1], event)
        self.add(value, nodes, event)

    def add(self, value: Any, nodes: int, event: Any) -> None:
        """Put a finished value where it belongs."""
        if not self.stack:
            self.value = value
            return
        frame = self.stack[-1]
        frame.nodes += nodes
        if isinstance(frame.container, list):
            if self.record:
                self.paths.setdefault(child(frame.path, len(frame.container)), event.start_mark.line + 1)
            frame.container.append(value)
            return
        if frame.key is _MERGE:
            merges = value if isinstance(value, list) else [value]
            if not all(isinstance(merged, dict) for merged in merges):
                raise _RefusedError("InvalidYAML", "`<<` takes maps only", "remove it", event.start_mark)
            frame.merges.extend(merges)
        else:
            frame.container[frame.key] = value
        frame.has_key = False


def _twice(key: str) -> str:
    return f"the key `{shown(key)}` is there twice"


def _path(stack: Sequence[_Frame]) -> str:
    """The path of the collection on top of a stack, by what the ones below it are about to take."""
    path = ""
    for frame in stack[:-1]:
        if isinstance(frame.container, list):
            path = child(path, len(frame.container))
        elif frame.key is not _MERGE:
            path = child(path, str(frame.key))
    return path


def _refuse_complex_key(frame: _Frame, event: Any) -> None:
    if isinstance(frame.container, dict) and not frame.has_key:
        raise _RefusedError(
            "InvalidYAML", "a key must be plain text", "write a name before the colon", event.start_mark
        )


def _scalar(event: Any) -> Scalar:
    text: str = event.value
    if event.implicit[0]:
        return plain(text)
    if event.implicit[1] or event.tag in ("!", _TAG + "str"):
        return text
    value = plain(text)
    wanted = {_TAG + "int": int, _TAG + "bool": bool, _TAG + "float": float, _TAG + "null": type(None)}.get(event.tag)
    if wanted is None or type(value) is not wanted:
        raise _unknown_tag(event)
    return value


def _unknown_tag(event: Any) -> _RefusedError:
    message = f"the tag `{shown(str(event.tag))}` is not allowed here"
    return _RefusedError("InvalidYAML", message, "remove the tag", event.start_mark)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    begin = getattr(error, "context_mark", None)
    position = getattr(error, "position", None)  # of a character that YAML does not allow
    last = text.count("\n") + (not text.endswith("\n"))
    if mark is not None:
        line = min(mark.line + 1, last)  # libyaml counts the end of the text as a line of its own
    else:
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
    parts = [getattr(error, "context", None), getattr(error, "problem", None) or getattr(error, "reason", None)]
    message = ", ".join(part for part in parts if part) or "it cannot be parsed"
    begun = min(begin.line + 1, last) if begin is not None else line
    if begun != line:
        message += f" (begun in line {begun})"
    wrong = text.split("\n", line)[line - 1] if line else ""
    tab = "\t" in wrong[: len(wrong) - len(wrong.lstrip())]
    fix = (
        "indent with spaces, not tabs" if tab else "compare the line with those around it: indentation, quotes, colons"
    )
    return Problem("InvalidYAML", "error", "", f"it is not YAML: {shown(message, 200)}", fix, file, line)


def _json(text: str, file: str) -> Documents:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            raise _TwiceError
        return made

    def constant(name: str) -> Any:
        raise ValueError(f"JSON has no {name}")

    if not text.strip():
        return Documents(())
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        text.encode()
        msgspec.json.encode(value)  # refuses lone surrogates, which `\ud800` makes and UTF-8 cannot carry
    except json.JSONDecodeError as error:
        message = f"it is not JSON: {error.msg}"
        fix = "compare the line with those around it: commas, quotes, brackets"
        return Documents((), Problem("InvalidJSON", "error", "", message, fix, file, error.lineno))
    except (_TwiceError, RecursionError):
        return Documents((), _json_fault(text, file))
    except (ValueError, OverflowError) as error:
        return Documents((), Problem("InvalidJSON", "error", "", shown(str(error), 200), "mend it there", file))
    return Documents((Document(value, 1),)) if value is not None else Documents(())


def _json_fault(text: str, file: str) -> Problem:
    """A key that is there twice, or nesting that is too deep: whichever comes first."""
    fault = find_fault(text, max_depth=MAX_DEPTH)
    if fault is None or fault.key is None:
        path, line = (fault.path, fault.line) if fault is not None else ("", 0)
        return Problem("TooDeep", "error", path, _TOO_DEEP, _FLATTER, file, line)
    return Problem("DuplicateKey", "error", fault.path, _twice(fault.key), _KEEP_ONE, file, fault.line)
