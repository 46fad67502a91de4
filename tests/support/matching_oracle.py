"""Which rule Gateway API gives a request to, by the words of its specification and nothing else.

Reads what users write, as plain data, and imports nothing of ours: what translation and `explain` share (the order of
matches, hostnames) can be wrong in both alike, and is held against this.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple


class WrittenRoute(NamedTuple):
    """An HTTPRoute: its hostnames, each rule's matches, the listener's number (None: all), when it was created."""

    name: str
    hostnames: list[str]
    rules: list[list[dict[str, Any]]]
    listener: int | None
    created: str | None


class Asked(NamedTuple):
    """A request; header names in lower case."""

    method: str
    host: str
    target: str
    headers: dict[str, str]


def rule_of(listeners: list[str | None], routes: list[WrittenRoute], asked: Asked) -> str | None:
    """The rule that gets a request, as `<route>/<number>`; None where the answer is 404."""
    host = re.sub(r":\d*$", "", asked.host.lower()) if not asked.host.endswith("]") else asked.host.lower()
    taking = [number for number, hostname in enumerate(listeners) if _means(hostname, host)]
    if not taking:
        return None
    chosen = max(taking, key=lambda number: _characters(listeners[number]))
    answering: list[tuple[str | None, str | None, WrittenRoute]] = []
    for route in routes:
        if route.listener in (None, chosen):
            for hostname in route.hostnames or [None]:
                both = _intersection(listeners[chosen], hostname)
                if both is not None and _means(both[0], host):
                    answering.append((both[0], hostname, route))
    if not answering:
        return None
    # Within the listener the most specific hostname has the request, and no other answers where it has no match.
    best = max(_characters(both) for both, _, _ in answering)
    order: list[tuple[tuple[Any, ...], str]] = []
    for both, hostname, route in answering:
        if _characters(both) != best:
            continue
        for number, matches in enumerate(route.rules):
            for index, match in enumerate(matches or [{}]):
                if _matches(match, asked):
                    key = (_least(_characters(hostname)), *_precedence(match), _age(route), route.name, number, index)
                    order.append((key, f"{route.name}/{number}"))
    return min(order)[1] if order else None


def _means(hostname: str | None, host: str) -> bool:
    if hostname is None:
        return True
    return host.endswith(hostname[1:]) and host != hostname[1:] if hostname.startswith("*.") else host == hostname


def _intersection(one: str | None, other: str | None) -> tuple[str | None] | None:
    """What two hostnames both mean, in a tuple, for that may be any host; None where they have nothing in common."""
    if one is None or one == other:
        return (other,)
    if other is None:
        return (one,)
    for wide, narrow in ((one, other), (other, one)):
        if wide.startswith("*.") and narrow.endswith(wide[1:]):
            return (narrow,)
    return None


def _characters(hostname: str | None) -> tuple[int, int]:
    """Characters in a non-wildcard hostname, then characters in a hostname: more win."""
    if hostname is None:
        return 0, 0
    return (0, len(hostname)) if hostname.startswith("*.") else (len(hostname), len(hostname))


def _least(characters: tuple[int, int]) -> tuple[int, int]:
    return -characters[0], -characters[1]


def _precedence(match: dict[str, Any]) -> tuple[int, ...]:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    rank = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}[path["type"]]
    method = 0 if "method" in match else 1
    return rank, -len(path["value"]), method, -len(match.get("headers", ())), -len(match.get("queryParams", ()))


def _age(route: WrittenRoute) -> float:
    """Seconds; without a date a route is the youngest."""
    return datetime.fromisoformat(route.created).timestamp() if route.created is not None else float("inf")


def _matches(match: dict[str, Any], asked: Asked) -> bool:
    path, _, query = asked.target.partition("?")
    wanted = match.get("path", {"type": "PathPrefix", "value": "/"})
    if "method" in match and match["method"] != asked.method:
        return False
    if not _path(wanted, path):
        return False
    if not all(_value(one, asked.headers.get(one["name"].lower())) for one in match.get("headers", ())):
        return False
    params = dict(reversed([pair.split("=") for pair in query.split("&") if pair]))
    return all(_value(one, params.get(one["name"])) for one in match.get("queryParams", ()))


def _path(wanted: dict[str, str], path: str) -> bool:
    if wanted["type"] == "Exact":
        return path == wanted["value"]
    if wanted["type"] == "RegularExpression":
        return re.fullmatch(wanted["value"], path) is not None
    elements = [element for element in wanted["value"].split("/") if element]
    return [element for element in path.split("/") if element][: len(elements)] == elements


def _value(wanted: dict[str, str], value: str | None) -> bool:
    if value is None:
        return False
    if wanted.get("type") == "RegularExpression":
        return re.fullmatch(wanted["value"], value) is not None
    return value == wanted["value"]
