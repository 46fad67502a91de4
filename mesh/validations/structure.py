"""Says everything that is wrong with the structure of a value, by the same types that msgspec converts to.

msgspec converts in one fast pass and stops at the first fault. Where it stops, this slow walker goes over the value
again and finds all faults: unknown fields (with the name that was probably meant), missing ones, wrong types, limits.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from mesh.problems import Problem, Report, child, shown

MAX_DEPTH = 64
MAX_PROBLEMS = 50

# Kubernetes' own bookkeeping in `metadata`: it comes with `kubectl get -o yaml`, means nothing here, and is dropped.
BOOKKEEPING = frozenset(
    {
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "selfLink",
    }
)


# Python refuses to print integers of some thousand digits.
_LONG = 10**20


class TooDeepError(ValueError):
    """A value nested deeper than any config needs."""


class _EnoughError(Exception):
    """So many problems that more would help nobody."""


def tidy(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """An object without null fields, which count as absent as in Kubernetes, and without Kubernetes' bookkeeping.

    Raises TooDeepError.
    """
    cleaned: dict[Any, Any] = _without_nulls(raw, 0)
    metadata = cleaned.get("metadata")
    if isinstance(metadata, dict):
        cleaned["metadata"] = {key: value for key, value in metadata.items() if key not in BOOKKEEPING}
    return cleaned


def _without_nulls(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeepError
    if isinstance(value, dict):
        return {key: _without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item, depth + 1) for item in value]
    return value


def explain(value: Any, of: type[msgspec.Struct], *, quiet: bool = False) -> tuple[Problem, ...]:
    """Every structural fault of `value` as a struct of type `of`, at most `MAX_PROBLEMS`.

    `quiet` keeps the user's values out of the messages, for secrets.
    """
    walker = _Walker(quiet=quiet)
    try:
        walker.walk(value, _type_info(of), "", "")
    except _EnoughError:
        walker.report.error(
            "TooManyProblems", "", f"there are more than {MAX_PROBLEMS} problems", "mend the first ones and try again"
        )
    return tuple(walker.report.problems)


@cache
def _type_info(of: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(of)


class _Walker:
    def __init__(self, *, quiet: bool) -> None:
        self.report = Report()
        self.quiet = quiet

    def error(self, code: str, path: str, message: str, fix: str) -> None:
        if len(self.report.problems) >= MAX_PROBLEMS:
            raise _EnoughError
        self.report.error(code, path, message, fix)

    def text(self, value: Any) -> str:
        """The value as messages show it."""
        if self.quiet:
            return "the value"
        if isinstance(value, int) and abs(value) >= _LONG:
            return "a number of more than 20 digits"
        if isinstance(value, str):
            return f"'{shown(value)}'"
        return "true" if value is True else "false" if value is False else shown(str(value))

    def walk(self, value: Any, of: inspect.Type, path: str, about: str, examples: Iterable[Any] = ()) -> None:
        """Judge one value; `about` and `examples` describe its type as the type's metadata does."""
        match of:
            case inspect.Metadata():
                extra = of.extra_json_schema or {}
                self.walk(value, of.type, path, str(extra.get("description", "")), extra.get("examples", ()))
            case inspect.UnionType():  # always `X | None`
                for one in of.types:
                    if not isinstance(one, inspect.NoneType):
                        self.walk(value, one, path, about, examples)
            case inspect.StructType():
                self.walk_struct(value, of, path)
            case inspect.VarTupleType():
                self.walk_list(value, of, path)
            case inspect.DictType():
                self.walk_map(value, of, path)
            case inspect.StrType():
                self.walk_string(value, of, path, about, examples)
            case _:
                self.walk_scalar(value, of, path)

    def walk_scalar(self, value: Any, of: inspect.Type, path: str) -> None:
        match of:
            case inspect.IntType():
                self.walk_int(value, of, path)
            case inspect.FloatType():
                self.walk_float(value, of, path)
            case inspect.LiteralType():
                self.walk_literal(value, of, path)
            case inspect.BoolType() if not isinstance(value, bool):
                self.wrong_type(value, "true or false", path)

    def walk_struct(self, value: Any, of: inspect.StructType, path: str) -> None:
        if not isinstance(value, dict):
            self.wrong_type(value, "an object with fields", path)
            return
        fields = {field.encode_name: field for field in of.fields}
        for name, item in value.items():
            field = fields.get(name) if isinstance(name, str) else None
            if field is not None:
                self.walk(item, field.type, child(path, name), "")
            else:
                self.unknown_field(name, fields, path)
        for name, field in fields.items():
            if field.required and name not in value:
                where = f"`{path}`" if path else "the object"
                self.error("MissingField", child(path, name), f"{where} needs a field `{name}`", f"add `{name}`")

    def unknown_field(self, name: Any, fields: Mapping[str, Any], path: str) -> None:
        meant = closest(str(name), fields)
        known = ", ".join(f"`{known}`" for known in sorted(fields))
        self.error(
            "UnknownField",
            child(path, str(name)),
            f"there is no field `{shown(str(name))}` here" + (f"; did you mean `{meant}`?" if meant else ""),
            f"write `{meant}`" if meant else f"remove it, or use one of {known}",
        )

    def walk_list(self, value: Any, of: inspect.VarTupleType, path: str) -> None:
        if not isinstance(value, list | tuple):
            self.wrong_type(value, "a list", path)
            return
        self.check_count(len(value), of.min_length, of.max_length, path)
        for number, item in enumerate(value):
            self.walk(item, of.item_type, child(path, number), "")

    def walk_map(self, value: Any, of: inspect.DictType, path: str) -> None:
        if not isinstance(value, dict):
            self.wrong_type(value, "a map", path)
            return
        self.check_count(len(value), of.min_length, of.max_length, path)
        for key, item in value.items():
            if not isinstance(key, str):
                fix = "put the key in quotes"
                self.error("WrongType", child(path, str(key)), f"the key {self.text(key)} is not a string", fix)
            else:
                self.walk(key, of.key_type, child(path, key), "")
                self.walk(item, of.value_type, child(path, key), "")

    def check_count(self, count: int, least: int | None, most: int | None, path: str) -> None:
        if least is not None and count < least:
            self.error(
                "TooFew", path, f"there are {count} entries, at least {least} must be there", "add what is missing"
            )
        if most is not None and count > most:
            fix = f"keep {most} here and put the rest into another object"
            self.error("TooMany", path, f"there are {count} entries, at most {most} may be there", fix)

    def walk_string(self, value: Any, of: inspect.StrType, path: str, about: str, examples: Iterable[Any]) -> None:
        example = next((f"write it as in `{example}`" for example in examples), "")
        if not isinstance(value, str):
            fits = of.pattern is None or re.search(of.pattern, str(value)) is not None
            self.wrong_type(value, "a string", path, "" if fits else example)
            return
        if of.min_length is not None and len(value) < of.min_length:
            self.error("TooShort", path, "it must not be empty", "give it a value or remove the field")
        elif of.max_length is not None and len(value) > of.max_length:
            fix = f"shorten it to {of.max_length} characters"
            self.error("TooLong", path, f"it has {len(value)} characters, at most {of.max_length} are allowed", fix)
        elif of.pattern is not None and not re.search(of.pattern, value):
            what = about or "of the right form"
            fix = example or f"make it match {of.pattern}"
            self.error("InvalidFormat", path, f"{self.text(value)} is not {what}", fix)

    def walk_int(self, value: Any, of: inspect.IntType, path: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong_type(value, "a whole number", path)
        elif (of.ge is not None and value < of.ge) or (of.le is not None and value > of.le):
            most = f"from {of.ge} to {of.le}" if of.le is not None else f"at least {of.ge}"
            self.error(
                "OutOfRange", path, f"{self.text(value)} is out of range: it must be {most}", f"write a number {most}"
            )

    def walk_float(self, value: Any, of: inspect.FloatType, path: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.wrong_type(value, "a number", path)
            return
        limits = ((of.ge, "at least"), (of.gt, "more than"), (of.le, "at most"), (of.lt, "less than"))
        held = (
            of.ge is None or value >= of.ge,
            of.gt is None or value > of.gt,
            of.le is None or value <= of.le,
            of.lt is None or value < of.lt,
        )
        if not all(held):  # NaN holds none
            wanted = " and ".join(f"{word} {limit:g}" for limit, word in limits if limit is not None)
            self.error(
                "OutOfRange",
                path,
                f"{self.text(value)} is out of range: it must be {wanted}",
                f"write a number {wanted}",
            )

    def walk_literal(self, value: Any, of: inspect.LiteralType, path: str) -> None:
        if any(value == one and type(value) is type(one) for one in of.values):
            return
        allowed = ", ".join(str(one) for one in of.values)
        if not isinstance(value, str | int) or isinstance(value, bool):
            self.wrong_type(value, f"one of {allowed}", path)
            return
        meant = closest(str(value)[:64] if isinstance(value, str) else "", [str(one) for one in of.values])
        self.error(
            "UnknownValue",
            path,
            f"{self.text(value)} is not one of {allowed}",
            f"write `{meant}`" if meant else f"write one of {allowed}",
        )

    def wrong_type(self, value: Any, wanted: str, path: str, fix: str = "") -> None:
        message = f"it must be {wanted}, not {self.described(value)}"
        self.error("WrongType", path, message, fix or _way_to(wanted, value))

    def described(self, value: Any) -> str:
        match value:
            case None:
                return "null"
            case bool():
                return f"the boolean {self.text(value)}"
            case int() if abs(value) >= _LONG:
                return self.text(value)
            case int() | float():
                return f"the number {self.text(value)}"
            case str():
                return f"the string {self.text(value)}"
            case dict():
                return "a map"
            case list() | tuple():
                return "a list"
            case _:
                return f"a value of type {type(value).__name__}"


def _way_to(wanted: str, value: Any) -> str:
    """How a value of another type becomes what is wanted."""
    if wanted == "a string" and isinstance(value, bool | int | float):
        return "put the value in quotes"
    if wanted == "a whole number" and isinstance(value, str) and value.isascii() and value.isdigit():
        return "write it without quotes and leading zeros"
    if wanted == "a list" and value is not None:
        return "write it as a list, each entry after a `- `"
    return f"write {wanted}"


def described(value: Any) -> str:
    """What a value is, in the words of YAML; for secrets too, as it shows nothing of the value."""
    names = {dict: "a map", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), f"a value of type {type(value).__name__}")


def closest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant by a wrong one; empty where none is near."""
    folded = {one.casefold(): one for one in known}
    wanted = name[:64].replace("_", "").casefold()
    if wanted in folded:
        return folded[wanted]
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.7)
    return folded[near[0]] if near else ""
