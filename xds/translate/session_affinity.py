"""Session affinity: a client stays at the endpoint it was given, as the `stateful_session` filter of a route has it.

A RoutePolicy asks for it, or a rule itself (`sessionPersistence`, GEP-1619), which wins. A cookie of a rule has the
path of the rule's only match, so that rules of one host keep their sessions apart; its lifetime is the browser's
unless it is `Permanent`, which Envoy ends after the absolute timeout.

Weights choose a backend before a session does its endpoint, and no session may overrule them (GEP-1619, Traffic
Splitting, in v1.7; v1.6 had it the other way round). A client that comes to several backends has a session in each: one
cookie for all would be forgotten whenever the weights choose another.
"""

from __future__ import annotations

import hashlib
from typing import Any

from mesh.kinds.duration import milliseconds
from mesh.kinds.httproute import HTTPRouteMatch, SessionPersistence
from mesh.kinds.routepolicy import SessionAffinity
from xds.schema import message, pack
from xds.translate.http_filters import STATEFUL_SESSION
from xds.translate.timeouts import set_duration

_PerRoute = message("envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute")
_Cookie = message("envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState")
_Header = message("envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState")


def set_session_affinity(route: Any, wanted: SessionAffinity) -> None:
    """Give a `Route` the sessions that a RoutePolicy asks for."""
    if wanted.cookie is not None:
        cookie = wanted.cookie
        ttl = milliseconds(cookie.ttl) if cookie.ttl is not None else 0
        _set(route, "cookie", _cookie(cookie.name, cookie.path, ttl), strict=wanted.strict)
    else:
        _set(route, "header", _header(wanted.header or ""), strict=wanted.strict)


def set_session_persistence(route: Any, wanted: SessionPersistence, matches: tuple[HTTPRouteMatch, ...]) -> None:
    """Give a `Route` of a rule with those matches the sessions that the rule asks for."""
    # Without a name of the user's, rules that share a host must not share a session.
    rule = route.name.rpartition("/")[0]
    name = wanted.session_name or f"fairlead-{_short(rule)}"
    if wanted.type == "Header":
        _set(route, "header", _header(name), strict=False)
        return
    permanent = wanted.cookie_config is not None and wanted.cookie_config.lifetime_type == "Permanent"
    ttl = milliseconds(wanted.absolute_timeout) if permanent and wanted.absolute_timeout is not None else 0
    backends = {cluster.name for cluster in route.route.weighted_clusters.clusters}
    if len(backends) < 2:
        _set(route, "cookie", _cookie(name, _path(matches), ttl), strict=False)
        return
    for cluster in route.route.weighted_clusters.clusters:
        _set(cluster, "cookie", _cookie(f"{name}-{_short(_backend(cluster.name))}", _path(matches), ttl), strict=False)


def _backend(cluster: str) -> str:
    """A cluster's name without what tells versions of it apart, which come and go with policies."""
    return cluster.partition("~")[0]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _path(matches: tuple[HTTPRouteMatch, ...]) -> str:
    if len(matches) != 1 or matches[0].path.type == "RegularExpression":
        return "/"
    return matches[0].path.value


def _cookie(name: str, path: str, ttl: int) -> Any:
    cookie = _Cookie()
    cookie.cookie.name = name
    cookie.cookie.path = path
    set_duration(cookie.cookie.ttl, ttl)
    return cookie


def _header(name: str) -> Any:
    header = _Header()
    header.name = name.lower()
    return header


def _set(place: Any, kind: str, state: Any, *, strict: bool) -> None:
    """Give a `Route`, or a `ClusterWeight` of one, its sessions."""
    per_route = _PerRoute()
    session = per_route.stateful_session
    session.strict = strict
    session.session_state.name = f"envoy.http.stateful_session.{kind}"
    session.session_state.typed_config.CopyFrom(pack(state))
    place.typed_per_filter_config[STATEFUL_SESSION].CopyFrom(pack(per_route))
