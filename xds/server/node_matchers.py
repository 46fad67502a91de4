"""Which nodes a client status request is about: `envoy.type.matcher.v3.NodeMatcher`.

A kind of matcher that is not understood is an error, never a matcher that fits nobody. Of a node's metadata only what
stands under `fairlead` is known here (`node_identity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import re2

from mesh.validations.regexes import fault

_MATCHERS: Final = 100

NodeTest = Callable[[Any], bool]
TextTest = Callable[[str], bool]


class UnusableMatcherError(ValueError):
    """A matcher that is not understood, or is too large; the text says which."""


def compiled(matchers: Iterable[Any]) -> NodeTest:
    """A test whether a node fits one of the matchers; no matchers fit all (T7).

    Raises `UnusableMatcherError`.
    """
    given = list(matchers)
    if len(given) > _MATCHERS:
        raise UnusableMatcherError(f"there are {len(given)} node_matchers; at most {_MATCHERS} are taken")
    tests = [_node(matcher) for matcher in given]
    return lambda node: not tests or any(test(node) for test in tests)


def _node(matcher: Any) -> NodeTest:
    metadata = [_metadata(wanted) for wanted in matcher.node_metadatas]
    if not matcher.HasField("node_id"):
        return lambda node: all(test(node.metadata) for test in metadata)
    node_id = _text(matcher.node_id, where="node_id")
    return lambda node: node_id(node.id) and all(test(node.metadata) for test in metadata)


def _metadata(matcher: Any) -> Callable[[Any], bool]:
    path = [segment.key for segment in matcher.path]
    value = _value(matcher.value)

    def fits(metadata: Any) -> bool:
        fields, found = metadata.fields, None
        for key in path:
            if key not in fields:
                return False
            found = fields[key]
            fields = found.struct_value.fields
        return found is not None and value(found)

    return fits


def _value(matcher: Any) -> Callable[[Any], bool]:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "string_match":
        text = _text(matcher.string_match, where="node_metadatas.value.string_match")
        return lambda value: bool(value.HasField("string_value")) and text(value.string_value)
    if kind == "bool_match":
        return lambda value: bool(value.HasField("bool_value") and value.bool_value == matcher.bool_match)
    if kind == "present_match":
        return lambda _: bool(matcher.present_match)
    raise UnusableMatcherError(
        f"node_metadatas.value: {kind or 'nothing'} is not understood; use string_match, bool_match or present_match"
    )


def _text(matcher: Any, *, where: str) -> TextTest:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return _regex(matcher.safe_regex.regex, where=where)
    compare = _COMPARISONS.get(kind or "")
    if compare is None:
        raise UnusableMatcherError(
            f"{where}: {kind or 'nothing'} is not understood; use {', '.join(_COMPARISONS)} or safe_regex"
        )
    pattern: str = getattr(matcher, kind)
    if matcher.ignore_case:
        folded = pattern.lower()
        return lambda text: compare(text.lower(), folded)
    return lambda text: compare(text, pattern)


_COMPARISONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}


def _regex(pattern: str, *, where: str) -> TextTest:
    """As Envoy reads `safe_regex`: RE2, the whole text, case as it is written."""
    if reason := fault(pattern):
        raise UnusableMatcherError(f"{where}.safe_regex: {reason}")
    program = re2.compile(pattern)
    return lambda text: program.fullmatch(text) is not None
