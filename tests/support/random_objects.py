"""Random objects of a kind, made from its types: every field, every limit, and what validation lets through."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from mesh.kinds import KINDS
from mesh.kinds.meta import JSON, Object
from mesh.validation import validate

_DURATIONS = ("1ms", "10ms", "250ms", "1s", "2s", "30s", "1m", "1h", "0s")
_TEXTS = ("a", "x-user", "some-name", "A%%b", "%PROTOCOL%", "zone-1", "*", "ü", "5xx", "404", "/probe")
_MOST = 2  # items of a list
_TRIES = 200


class Maker:
    """Makes objects of a kind from `seed`; `known` gives the values of fields that refer to something, by name."""

    def __init__(self, kind: str, seed: int, known: Mapping[str, Callable[[random.Random], Any]]) -> None:
        self._kind = KINDS[kind]
        self._random = random.Random(seed)
        self._known = known

    def object(self, name: str, **spec: Any) -> Object:
        """A valid object; `spec` are fields that must be so.

        Raises AssertionError where no random one is valid.
        """
        of = next(field for field in msgspec.structs.fields(self._kind.struct) if field.name == "spec").type
        for _ in range(_TRIES):
            raw = {
                "apiVersion": self._kind.api_version,
                "kind": self._kind.name,
                "metadata": {"name": name, "namespace": "default"},
                "spec": {**self._struct(inspect.type_info(of), 0), **spec},
            }
            checked = validate(raw)
            if checked.object is not None:
                return checked.object
        raise AssertionError(f"none of {_TRIES} random {self._kind.name} is valid; the last: {checked.problems}")

    def _struct(self, info: inspect.Type, depth: int) -> JSON:
        assert isinstance(info, inspect.StructType)
        made: JSON = {}
        for field in info.fields:
            if field.required or self._random.random() < (0.35 if depth else 0.25):
                value = self._value(field.type, field.encode_name, depth + 1)
                if value is not None:
                    made[field.encode_name] = value
        return made

    def _value(self, info: inspect.Type, name: str, depth: int) -> Any:
        if name in self._known:
            return self._known[name](self._random)
        match info:
            case inspect.Metadata():
                return self._value(info.type, name, depth)
            case inspect.UnionType():
                return self._value(self._random.choice([t for t in info.types if not _is_none(t)]), name, depth)
            case inspect.StructType():
                return self._struct(info, depth)
            case inspect.VarTupleType() | inspect.ListType():
                least = max(info.min_length or 0, 0)
                count = self._random.randint(least, min(info.max_length or _MOST, max(least, _MOST)))
                return [self._value(info.item_type, name, depth) for _ in range(count)]
            case inspect.LiteralType():
                return self._random.choice(info.values)
            case inspect.BoolType():
                return self._random.random() < 0.5
            case inspect.IntType():
                return self._number(info.ge, info.le)
            case inspect.FloatType():
                low = info.ge if info.ge is not None else info.gt or 0
                return self._random.choice([low + 0.5, info.le if info.le is not None else low + 10])
            case inspect.DictType():
                return {self._text(info.key_type): self._text(info.value_type)}
            case inspect.StrType():
                return self._text(info)
        raise AssertionError(f"{name}: no idea how to make {info}")

    def _number(self, low: int | None, high: int | None) -> int:
        bottom, top = low or 0, high if high is not None else 2**31 - 1
        return self._random.choice([bottom, top, self._random.randint(bottom, min(top, bottom + 100))])

    def _text(self, info: inspect.Type) -> str:
        while isinstance(info, inspect.Metadata):
            info = info.type
        pattern = info.pattern if isinstance(info, inspect.StrType) else None
        if pattern and "h|m|s|ms" in pattern:
            return self._random.choice(_DURATIONS)
        fits = [text for text in _TEXTS if _fits(text, info)]
        return self._random.choice(fits)


def _is_none(info: inspect.Type) -> bool:
    return isinstance(info, inspect.NoneType)


def _fits(text: str, info: inspect.Type) -> bool:
    assert isinstance(info, inspect.StrType)
    short = info.min_length is not None and len(text) < info.min_length
    return not short and (info.pattern is None or re.search(info.pattern, text) is not None)
