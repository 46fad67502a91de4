"""The kinds of protoc-gen-validate rules, each as a function from its bound to a check of one value.

A check takes the value of a field and returns None, or what is wrong with it in words. Only the kinds that Envoy's
descriptors use are here; one that is missing is an error when rules are compiled (and a unit test compiles them all).
Semantics are those of the C++ validators that run inside Envoy: lengths count characters unless they say bytes, and
patterns must match the whole value.
Source: https://github.com/bufbuild/protoc-gen-validate (validate.proto and the C++ templates).

Values never appear in what a check says unless they are numbers: a string may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from xds.schema.errors import SchemaError

Check = Callable[[Any], str | None]

# validate.KnownRegex: 1 is HTTP_HEADER_NAME, 2 is HTTP_HEADER_VALUE. Without `strict` both only forbid what would
# split a header line.
_HEADERS = {
    (1, True): (re.compile(r":?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+"), "must be a valid HTTP header name"),
    (2, True): (re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*"), "must be a valid HTTP header value"),
    (1, False): (re.compile(r"[^\x00\x0a\x0d]*"), "must not contain NUL, carriage return or line feed"),
    (2, False): (re.compile(r"[^\x00\x0a\x0d]*"), "must not contain NUL, carriage return or line feed"),
}
_NUMBERS = frozenset({"double", "float", "int32", "int64", "uint32", "uint64"})
# These change how other rules of the field are read, and check nothing themselves.
_MODIFIERS = frozenset({"string.strict", "string.ignore_empty", "uint32.ignore_empty", "repeated.items"})


def checks_of(group: str, rules: Any) -> list[tuple[str, Check]]:
    """The checks that a rules message (`validate.StringRules`, ...) asks for, as (kind, check), in field order.

    `group` is its name in `validate.FieldRules` ("string"). Raises `SchemaError` on a kind that is not known here.
    """
    found = []
    for field, bound in rules.ListFields():
        kind = f"{group}.{field.name}"
        if kind in _MODIFIERS:
            continue
        factory = _FACTORIES.get(f"number.{field.name}" if group in _NUMBERS else kind)
        if factory is None:
            raise SchemaError(f"Envoy's schema has a field rule of the kind {kind}, which rule_kinds.py does not know")
        check = factory(bound, rules)
        found.append((kind, _unless_empty(check) if getattr(rules, "ignore_empty", False) else check))
    return found


def _unless_empty(check: Check) -> Check:
    return lambda value: check(value) if value else None


def _compare(words: str, violated: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Check]:
    def factory(bound: Any, _rules: Any) -> Check:
        def check(value: Any) -> str | None:
            return f"must be {words} {bound}, is {value}" if violated(value, bound) else None

        return check

    return factory


def _duration(words: str, violated: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Check]:
    def factory(bound: Any, _rules: Any) -> Check:
        limit = (bound.seconds, bound.nanos)

        def check(value: Any) -> str | None:
            if violated((value.seconds, value.nanos), limit):
                return f"must be {words} {bound.ToJsonString()}, is {value.ToJsonString()}"
            return None

        return check

    return factory


def _length(words: str, measure: Callable[[Any], int], violated: Callable[[int, int], bool]) -> Any:
    def factory(bound: int, _rules: Any) -> Check:
        def check(value: Any) -> str | None:
            size = measure(value)
            return f"must have {words.format(bound)}, has {size}" if violated(size, bound) else None

        return check

    return factory


def _pattern(bound: str, _rules: Any) -> Check:
    # RE2 reads \s and \w as ASCII; Envoy's own six patterns are all that ever come here, so no hostile ones.
    pattern = re.compile(bound, re.ASCII)
    return lambda value: None if pattern.fullmatch(value) else f"must match {bound}"


def _well_known_regex(bound: int, rules: Any) -> Check:
    pattern, words = _HEADERS[bound, rules.strict]
    return lambda value: None if pattern.fullmatch(value) else words


def _one_of(bound: Any, _rules: Any) -> Check:
    allowed = frozenset(bound)
    return lambda value: None if value in allowed else f"must be one of {', '.join(sorted(allowed))}"


def _not_one_of(bound: Any, _rules: Any) -> Check:
    forbidden = frozenset(bound)
    return lambda value: f"must not be {value}" if value in forbidden else None


def _unique(_bound: bool, _rules: Any) -> Check:
    return lambda values: None if len(set(values)) == len(values) else "must not contain the same value twice"


def _less(value: Any, bound: Any) -> bool:
    return bool(value < bound)


def _more(value: Any, bound: Any) -> bool:
    return bool(value > bound)


# NaN compares false with everything, and the C++ validators let it pass likewise where they test for violation.
_COMPARISONS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("lt", "less than", lambda value, bound: bool(value >= bound)),
    ("lte", "at most", _more),
    ("gt", "greater than", lambda value, bound: bool(value <= bound)),
    ("gte", "at least", _less),
)


_FACTORIES: dict[str, Callable[[Any, Any], Check]] = {
    **{f"number.{name}": _compare(words, violated) for name, words, violated in _COMPARISONS},
    **{f"duration.{name}": _duration(words, violated) for name, words, violated in _COMPARISONS},
    "bool.const": lambda bound, _: lambda value: None if value == bound else f"must be {str(bound).lower()}",
    "bytes.max_len": _length("at most {} byte(s)", len, _more),
    "bytes.min_len": _length("at least {} byte(s)", len, _less),
    "enum.not_in": _not_one_of,
    "map.min_pairs": _length("at least {} entry(ies)", len, _less),
    "repeated.max_items": _length("at most {} item(s)", len, _more),
    "repeated.min_items": _length("at least {} item(s)", len, _less),
    "repeated.unique": _unique,
    "string.in": _one_of,
    "string.max_bytes": _length("at most {} byte(s)", lambda value: len(value.encode()), _more),
    "string.max_len": _length("at most {} character(s)", len, _more),
    "string.min_len": _length("at least {} character(s)", len, _less),
    "string.pattern": _pattern,
    "string.prefix": lambda bound, _: lambda value: None if value.startswith(bound) else f"must start with {bound!r}",
    "string.suffix": lambda bound, _: lambda value: None if value.endswith(bound) else f"must end with {bound!r}",
    "string.well_known_regex": _well_known_regex,
}
