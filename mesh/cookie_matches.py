r"""Matches of cookies, which Gateway API has no word for: those of RoutePolicies for a named rule, and Rollouts' own.

A cookie is a part of a header, so that a match of one is a match of the header `cookie`, and counts as one in the order
of all matches. Envoy has a word of its own for it; one that does not know it yet would let all requests through.
"""

from __future__ import annotations

import re

import msgspec

from mesh.kinds.httproute import HTTPHeaderMatch, HTTPRouteRule
from mesh.kinds.routepolicy import CookieMatch, RoutePolicy, RouteSettings
from mesh.model import ObjectKey
from mesh.policies import POLICIES_BY_TARGET, Level, Target, layers
from mesh.tables import Reader

_ANY = "[^;]*"


def cookie_match(name: str, value: str) -> HTTPHeaderMatch:
    """The match of a cookie whose value an expression describes, one that cannot match `;`."""
    pair = f"{re.escape(name)}={value}"
    return HTTPHeaderMatch(type="RegularExpression", name="cookie", value=rf"(?:.*;\s*)?{pair}(?:\s*;.*)?")


def with_cookies(look: Reader, route: ObjectKey, rules: tuple[HTTPRouteRule, ...]) -> tuple[HTTPRouteRule, ...]:
    """The rules of an HTTPRoute with the cookies that policies want their requests to have."""
    target = Target(RoutePolicy.__name__, route.kind, route.namespace, route.name)
    if route.kind != "HTTPRoute" or not look.keys(POLICIES_BY_TARGET, target):
        return rules
    return tuple(_with(rule, _cookies(look, target, rule.name)) for rule in rules)


def _cookies(look: Reader, target: Target, rule: str | None) -> tuple[CookieMatch, ...]:
    found = layers(look, [Level(target, frozenset({rule}))]) if rule is not None else []
    given = (layer.settings.match_cookies for layer in found if isinstance(layer.settings, RouteSettings))
    return next((cookies for cookies in given if cookies is not None), ())


def _with(rule: HTTPRouteRule, cookies: tuple[CookieMatch, ...]) -> HTTPRouteRule:
    if not cookies:
        return rule
    more = tuple(cookie_match(one.name, re.escape(one.value) if one.value is not None else _ANY) for one in cookies)
    matches = (msgspec.structs.replace(match, headers=(*match.headers, *more)) for match in rule.matches)
    return msgspec.structs.replace(rule, matches=tuple(matches))
